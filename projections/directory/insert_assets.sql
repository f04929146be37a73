insert into assets (
    asset_id, symbol, name, class, currency, quote_unit, isin, exchange, listed_at, delisted_on, final_price,
    version, position
)
select * from unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::numeric[], $7::text[], $8::text[],
    $9::timestamptz[], $10::date[], $11::numeric[], $12::bigint[], $13::bigint[]
)
