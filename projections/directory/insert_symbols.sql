insert into symbols (symbol, asset_id, position)
select * from unnest($1::text[], $2::uuid[], $3::bigint[])
