insert into holdings (portfolio_id, asset_id, currency, quantity, cost, realized_gain, fees, taxes)
select * from unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::numeric[], $5::numeric[], $6::numeric[], $7::numeric[], $8::numeric[]
)
on conflict (portfolio_id, asset_id) do update
set quantity = excluded.quantity, cost = excluded.cost, realized_gain = excluded.realized_gain,
    fees = excluded.fees, taxes = excluded.taxes
