-- An equal price is no other close; a volume that is told with it is.
insert into closes (asset_id, source, day, price, volume, position)
select * from unnest($1::uuid[], $2::text[], $3::date[], $4::numeric[], $5::numeric[], $6::bigint[])
on conflict (asset_id, source, day) do update
set
    price = excluded.price,
    volume = excluded.volume,
    position = case when closes.price = excluded.price then closes.position else excluded.position end
where closes.price <> excluded.price or closes.volume is distinct from coalesce(excluded.volume, closes.volume)
