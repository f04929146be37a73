delete from lots l
using unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::smallint[]) as gone (portfolio_id, asset_id, place, ordinal)
where l.portfolio_id = gone.portfolio_id and l.asset_id = gone.asset_id
    and l.place = gone.place and l.ordinal = gone.ordinal
