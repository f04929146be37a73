insert into valued_portfolios as v (
    portfolio_id, shard, base_currency, market_value_base, cash_base, total_value_base, cost_base,
    unrealized_gain_base, gross_value_base, incomplete, cost_incomplete, unpriced, asset_count,
    portfolio_position, price_position
)
select * from unnest(
    $1::uuid[], $2::smallint[], $3::text[], $4::numeric[], $5::numeric[], $6::numeric[], $7::numeric[], $8::numeric[],
    $9::numeric[], $10::boolean[], $11::boolean[], $12::integer[], $13::integer[], $14::bigint[],
    $15::bigint[]
)
on conflict (portfolio_id) do update
set market_value_base = excluded.market_value_base, cash_base = excluded.cash_base,
    total_value_base = excluded.total_value_base, cost_base = excluded.cost_base,
    unrealized_gain_base = excluded.unrealized_gain_base, gross_value_base = excluded.gross_value_base,
    incomplete = excluded.incomplete, cost_incomplete = excluded.cost_incomplete, unpriced = excluded.unpriced,
    asset_count = excluded.asset_count,
    portfolio_position = excluded.portfolio_position, price_position = excluded.price_position
where v is distinct from excluded
