insert into entries (
    portfolio_id, position, trade_date, kind, asset_id, quantity, price, currency, amount, fee, tax, fx_rate,
    cash_currency, cash_amount
)
select * from unnest(
    $1::uuid[], $2::bigint[], $3::date[], $4::text[], $5::uuid[], $6::numeric[], $7::numeric[], $8::text[],
    $9::numeric[], $10::numeric[], $11::numeric[], $12::numeric[], $13::text[], $14::numeric[]
)
