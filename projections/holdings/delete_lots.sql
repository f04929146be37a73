delete from lots l
using unnest($1::uuid[], $2::uuid[], $3::bigint[]) as gone (portfolio_id, asset_id, position)
where l.portfolio_id = gone.portfolio_id and l.asset_id = gone.asset_id and l.position = gone.position
