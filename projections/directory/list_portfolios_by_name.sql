select p.portfolio_id, p.investor_id, p.name, p.base_currency, p.time_zone, p.cost_basis, p.fees_in_cost, p.cash,
    p.allow_short, p.opened_at, p.version, p.position,
    v.total_value_base as "total_value_base?", v.market_value_base as "market_value_base?", v.cash_base as "cash_base?",
    v.cost_base as "cost_base?", v.unrealized_gain_base as "unrealized_gain_base?", v.incomplete as "incomplete?",
    v.cost_incomplete as "cost_incomplete?", v.unpriced as "unpriced?", r.risk_share as "risk_share?",
    r.risk_band as "risk_band?", r.value_at_risk_99 as "value_at_risk_99?", r.volatility as "volatility?"
from directory.portfolios p
left join valuations.valued_portfolios v using (portfolio_id)
left join risk.portfolio_risks r using (portfolio_id)
where ($1::uuid is null or p.investor_id = $1)
    and ($2::text is null or strpos(lower(p.name), lower($2)) > 0)
    and ($3::text is null or r.risk_band = $3)
    and ($4::numeric is null or v.total_value_base >= $4)
    and ($5::numeric is null or v.total_value_base <= $5)
    and ($6::text is null or (p.name, p.portfolio_id) > ($6, $7::uuid))
order by p.name, p.portfolio_id
limit $8
