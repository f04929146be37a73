insert into entries (
    portfolio_id, position, event_id, place, trade_date, kind, asset_id, quantity, price, currency, amount, fee, tax,
    fx_rate, settle, cash_currency, cash_amount
)
select * from unnest(
    $1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::date[], $6::text[], $7::uuid[], $8::numeric[],
    $9::numeric[], $10::text[], $11::numeric[], $12::numeric[], $13::numeric[], $14::numeric[], $15::text[],
    $16::text[], $17::numeric[]
)
