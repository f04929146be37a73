-- All of a portfolio in one row of arrays: one round trip, one snapshot.
select l.base_currency, l.cost_basis, l.fees_in_cost, l.cash as cash_mode, l.version, l.position,
    c.epoch, least(c.scanned_to, p.position - 1) as "scanned_to!", c.recorded_at, p.position is not null as "parked!",
    held.asset_ids as "asset_ids!", held.symbols as "symbols!: Vec<Option<String>>", held.currencies as "currencies!",
    held.quantities as "quantities!: Vec<rust_decimal::Decimal>", held.costs as "costs!: Vec<rust_decimal::Decimal>",
    held.gains as "gains!: Vec<rust_decimal::Decimal>", held.fees as "fees!: Vec<rust_decimal::Decimal>",
    held.taxes as "taxes!: Vec<rust_decimal::Decimal>",
    opened.asset_ids as "lot_asset_ids!", opened.positions as "lot_positions!", opened.days as "lot_days!",
    opened.quantities as "lot_quantities!: Vec<rust_decimal::Decimal>",
    opened.costs as "lot_costs!: Vec<rust_decimal::Decimal>",
    opened.rates as "lot_rates!: Vec<Option<rust_decimal::Decimal>>",
    balances.currencies as "cash_currencies!", balances.balances as "cash_balances!: Vec<rust_decimal::Decimal>"
from holdings.ledgers l
join holdings.checkpoints c on c.shard = l.shard
left join holdings.parked_streams p on p.stream_id = 'portfolio-' || $1::uuid
cross join lateral (
    select coalesce(array_agg(h.asset_id), '{}') as asset_ids, coalesce(array_agg(a.symbol), '{}') as symbols,
        coalesce(array_agg(h.currency), '{}') as currencies, coalesce(array_agg(h.quantity), '{}') as quantities,
        coalesce(array_agg(h.cost), '{}') as costs, coalesce(array_agg(h.realized_gain), '{}') as gains,
        coalesce(array_agg(h.fees), '{}') as fees, coalesce(array_agg(h.taxes), '{}') as taxes
    from (select * from holdings.holdings where portfolio_id = $1 order by asset_id) h
    left join directory.assets a using (asset_id)
) held
cross join lateral (
    select coalesce(array_agg(t.asset_id), '{}') as asset_ids, coalesce(array_agg(t.position), '{}') as positions,
        coalesce(array_agg(t.opened_on), '{}') as days, coalesce(array_agg(t.quantity), '{}') as quantities,
        coalesce(array_agg(t.cost), '{}') as costs, coalesce(array_agg(t.fx_rate), '{}') as rates
    from holdings.lots t
    where t.portfolio_id = $1
) opened
cross join lateral (
    select coalesce(array_agg(b.currency), '{}') as currencies, coalesce(array_agg(b.balance), '{}') as balances
    from holdings.cash b
    where b.portfolio_id = $1
) balances
where l.portfolio_id = $1
