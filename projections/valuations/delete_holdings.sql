-- What these portfolios ($1) have rows for and do not hold ($2, $3) any more.
delete from valued_holdings v
where v.portfolio_id = any($1)
    and not exists (
        select from unnest($2::uuid[], $3::uuid[]) as held (portfolio_id, asset_id)
        where held.portfolio_id = v.portfolio_id and held.asset_id = v.asset_id
    )
