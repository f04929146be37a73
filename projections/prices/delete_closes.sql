delete from closes c
using unnest($1::uuid[], $2::text[], $3::date[]) as gone (asset_id, source, day)
where c.asset_id = gone.asset_id and c.source = gone.source and c.day = gone.day
