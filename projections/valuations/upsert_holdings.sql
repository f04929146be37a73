insert into valued_holdings as v (
    portfolio_id, asset_id, currency, quantity, unpriced, price, priced_at, price_source, price_kind, market_value,
    cost, unrealized_gain, rate, rate_path, market_value_base, cost_base, cost_base_missing, unrealized_gain_base,
    weight, portfolio_position, price_position
)
select * from unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::numeric[], $5::text[], $6::numeric[], $7::timestamptz[], $8::text[],
    $9::text[], $10::numeric[], $11::numeric[], $12::numeric[], $13::numeric[], $14::text[], $15::numeric[],
    $16::numeric[], $17::text[], $18::numeric[], $19::numeric[], $20::bigint[], $21::bigint[]
)
on conflict (portfolio_id, asset_id) do update
set quantity = excluded.quantity, unpriced = excluded.unpriced, price = excluded.price, priced_at = excluded.priced_at,
    price_source = excluded.price_source, price_kind = excluded.price_kind, market_value = excluded.market_value,
    cost = excluded.cost, unrealized_gain = excluded.unrealized_gain, rate = excluded.rate,
    rate_path = excluded.rate_path, market_value_base = excluded.market_value_base, cost_base = excluded.cost_base,
    cost_base_missing = excluded.cost_base_missing, unrealized_gain_base = excluded.unrealized_gain_base,
    weight = excluded.weight, portfolio_position = excluded.portfolio_position,
    price_position = excluded.price_position
where v is distinct from excluded
