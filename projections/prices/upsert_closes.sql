-- An equal price changes nothing.
insert into closes (asset_id, source, day, price, volume, position)
select * from unnest($1::uuid[], $2::text[], $3::date[], $4::numeric[], $5::numeric[], $6::bigint[])
on conflict (asset_id, source, day) do update
set price = excluded.price, volume = excluded.volume, position = excluded.position
where closes.price <> excluded.price
