delete from holdings h
using unnest($1::uuid[], $2::uuid[]) as gone (portfolio_id, asset_id)
where h.portfolio_id = gone.portfolio_id and h.asset_id = gone.asset_id
