insert into portfolios (
    portfolio_id, investor_id, name, base_currency, time_zone, cost_basis, fees_in_cost, cash, allow_short,
    opened_at, version, position
)
select * from unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::text[], $9::boolean[],
    $10::timestamptz[], $11::bigint[], $12::bigint[]
)
