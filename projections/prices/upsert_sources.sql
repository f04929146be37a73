insert into price_sources (
    asset_id, source, first_used, tick_at, tick_price, tick_position, close_day, close_price, close_position
)
select * from unnest(
    $1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[], $5::numeric[], $6::bigint[], $7::date[], $8::numeric[],
    $9::bigint[]
)
on conflict (asset_id, source) do update
set tick_at = excluded.tick_at, tick_price = excluded.tick_price, tick_position = excluded.tick_position,
    close_day = excluded.close_day, close_price = excluded.close_price, close_position = excluded.close_position
