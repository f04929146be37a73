insert into held_prices (
    asset_id, held_id, source, at, day, price, volume, last_price, reason, held_at, state, position
)
select * from unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::date[], $6::numeric[], $7::numeric[], $8::numeric[],
    $9::text[], $10::timestamptz[], $11::text[], $12::bigint[]
)
