insert into ledgers (
    portfolio_id, shard, base_currency, cost_basis, fees_in_cost, cash, allow_short, last_trade_date, last_entry,
    version, position
)
select * from unnest(
    $1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::boolean[], $6::text[], $7::boolean[], $8::date[],
    $9::bigint[], $10::bigint[], $11::bigint[]
)
on conflict (portfolio_id) do update
set cost_basis = excluded.cost_basis, fees_in_cost = excluded.fees_in_cost,
    last_trade_date = excluded.last_trade_date, last_entry = excluded.last_entry,
    version = excluded.version, position = excluded.position
