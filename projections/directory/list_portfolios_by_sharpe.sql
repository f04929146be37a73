-- A page after a row ($8, $9), up ($10 = 1) or down ($10 = -1) the index of the order. Each branch that is not the asked one
-- costs nothing, and the one that is stops when the page is full.
with matching as not materialized (
    select p.portfolio_id as "portfolio_id!", p.investor_id as "investor_id!", p.name as "name!", p.base_currency as
        "base_currency!", p.time_zone as "time_zone!", p.cost_basis as "cost_basis!", p.fees_in_cost as "fees_in_cost!",
        p.cash as "cash!", p.allow_short as "allow_short!", p.opened_at as "opened_at!", p.version as "version!",
        p.position as "position!", v.total_value_base as "total_value_base?", v.market_value_base as
        "market_value_base?", v.cash_base as "cash_base?", v.cost_base as "cost_base?", v.unrealized_gain_base as
        "unrealized_gain_base?", v.incomplete as "incomplete?", v.cost_incomplete as "cost_incomplete?", v.unpriced as
        "unpriced?", v.asset_count as "asset_count?", r.risk_share as "risk_share?", r.risk_band as "risk_band?",
        r.value_at_risk_99 as "value_at_risk_99?", r.volatility as "volatility?", r.sharpe as "sharpe?",
        r.portfolio_id as owner_id
    from directory.portfolios p
    left join valuations.valued_portfolios v using (portfolio_id)
    left join risk.portfolio_risks r using (portfolio_id)
    where ($1::uuid is null or p.investor_id = $1)
        and ($2::text is null or strpos(lower(p.name), lower($2)) > 0)
        and ($3::double precision is null or r.volatility >= $3)
        and ($4::double precision is null or r.volatility < $4)
        and ($5::double precision is null or r.sharpe >= $5)
        and ($6::numeric is null or v.total_value_base >= $6)
        and ($7::numeric is null or v.total_value_base <= $7)
)
(
    select m."portfolio_id!", m."investor_id!", m."name!", m."base_currency!", m."time_zone!", m."cost_basis!",
        m."fees_in_cost!", m."cash!", m."allow_short!", m."opened_at!", m."version!", m."position!",
        m."total_value_base?", m."market_value_base?", m."cash_base?", m."cost_base?", m."unrealized_gain_base?",
        m."incomplete?", m."cost_incomplete?", m."unpriced?", m."asset_count?", m."risk_share?", m."risk_band?",
        m."value_at_risk_99?", m."volatility?", m."sharpe?" from matching m
    where $10::integer = 1 and m."sharpe?" is not null and ($9::uuid is null or (m."sharpe?", m.owner_id) > ($8::double precision, $9))
    order by m."sharpe?", m.owner_id
    limit $11
)
union all
(
    select m."portfolio_id!", m."investor_id!", m."name!", m."base_currency!", m."time_zone!", m."cost_basis!",
        m."fees_in_cost!", m."cash!", m."allow_short!", m."opened_at!", m."version!", m."position!",
        m."total_value_base?", m."market_value_base?", m."cash_base?", m."cost_base?", m."unrealized_gain_base?",
        m."incomplete?", m."cost_incomplete?", m."unpriced?", m."asset_count?", m."risk_share?", m."risk_band?",
        m."value_at_risk_99?", m."volatility?", m."sharpe?" from matching m
    where $10::integer = -1 and m."sharpe?" is not null and ($9::uuid is null or (m."sharpe?", m.owner_id) < ($8::double precision, $9))
    order by m."sharpe?" desc, m.owner_id desc
    limit $11
)
union all
-- Those without the figure, which come last.
(
    select m."portfolio_id!", m."investor_id!", m."name!", m."base_currency!", m."time_zone!", m."cost_basis!",
        m."fees_in_cost!", m."cash!", m."allow_short!", m."opened_at!", m."version!", m."position!",
        m."total_value_base?", m."market_value_base?", m."cash_base?", m."cost_base?", m."unrealized_gain_base?",
        m."incomplete?", m."cost_incomplete?", m."unpriced?", m."asset_count?", m."risk_share?", m."risk_band?",
        m."value_at_risk_99?", m."volatility?", m."sharpe?" from matching m
    where $10::integer = 0 and m."sharpe?" is null and ($9::uuid is null or m."portfolio_id!" > $9)
    order by m."portfolio_id!"
    limit $11
)
