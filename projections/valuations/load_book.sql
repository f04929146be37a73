-- Portfolios as valuations and risk need them, all of one snapshot: by id, or all of some shards.
select l.portfolio_id, l.shard, l.base_currency, l.position,
    held.asset_ids as "asset_ids!", held.currencies as "currencies!", held.quantities as "quantities!: Vec<rust_decimal::Decimal>",
    held.costs as "costs!: Vec<rust_decimal::Decimal>",
    foreign_lots.asset_ids as "lot_asset_ids!", foreign_lots.days as "lot_days!", foreign_lots.costs as "lot_costs!: Vec<rust_decimal::Decimal>",
    foreign_lots.rates as "lot_rates!: Vec<Option<rust_decimal::Decimal>>",
    balances.currencies as "cash_currencies!", balances.balances as "cash_balances!: Vec<rust_decimal::Decimal>"
from holdings.ledgers l
cross join lateral (
    select coalesce(array_agg(h.asset_id order by h.asset_id), '{}') as asset_ids,
        coalesce(array_agg(h.currency order by h.asset_id), '{}') as currencies,
        coalesce(array_agg(h.quantity order by h.asset_id), '{}') as quantities,
        coalesce(array_agg(h.cost order by h.asset_id), '{}') as costs
    from holdings.holdings h
    where h.portfolio_id = l.portfolio_id and h.quantity <> 0
) held
-- Lots matter only where their cost has to be turned into the base currency.
cross join lateral (
    select coalesce(array_agg(t.asset_id order by t.asset_id, t.position), '{}') as asset_ids,
        coalesce(array_agg(t.opened_on order by t.asset_id, t.position), '{}') as days,
        coalesce(array_agg(t.cost order by t.asset_id, t.position), '{}') as costs,
        coalesce(array_agg(t.fx_rate order by t.asset_id, t.position), '{}') as rates
    from holdings.lots t
    join holdings.holdings h using (portfolio_id, asset_id)
    where t.portfolio_id = l.portfolio_id and h.currency <> l.base_currency
) foreign_lots
cross join lateral (
    select coalesce(array_agg(c.currency order by c.currency), '{}') as currencies,
        coalesce(array_agg(c.balance order by c.currency), '{}') as balances
    from holdings.cash c
    where c.portfolio_id = l.portfolio_id and c.balance <> 0 and l.cash = 'tracked'
) balances
where l.portfolio_id = any($1) or l.shard = any($2)
order by l.portfolio_id
