insert into activities (
    portfolio_id, position, event_id, kind, happened_on, occurred_at, recorded_at, asset_id, quantity, price,
    currency, amount, fee, tax, fx_rate, cash_currency, cash_amount, note
)
select * from unnest(
    $1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::date[], $6::timestamptz[], $7::timestamptz[], $8::uuid[],
    $9::numeric[], $10::numeric[], $11::text[], $12::numeric[], $13::numeric[], $14::numeric[], $15::numeric[],
    $16::text[], $17::numeric[], $18::text[]
)
