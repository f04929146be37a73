-- What these portfolios ($1) have rows for and do not have ($2, $3) any more.
delete from valued_cash v
where v.portfolio_id = any($1)
    and not exists (
        select from unnest($2::uuid[], $3::text[]) as held (portfolio_id, currency)
        where held.portfolio_id = v.portfolio_id and held.currency = v.currency
    )
