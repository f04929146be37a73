select p.portfolio_id, p.investor_id, p.name, p.base_currency, p.time_zone, p.cost_basis, p.fees_in_cost, p.cash,
    p.allow_short, p.opened_at, p.version, p.position,
    v.total_value_base as "total_value_base?", v.market_value_base as "market_value_base?", v.cash_base as "cash_base?",
    v.cost_base as "cost_base?", v.unrealized_gain_base as "unrealized_gain_base?", v.incomplete as "incomplete?",
    v.cost_incomplete as "cost_incomplete?", v.unpriced as "unpriced?", v.asset_count as "asset_count?",
    r.risk_share as "risk_share?",
    r.risk_band as "risk_band?", r.value_at_risk_99 as "value_at_risk_99?", r.volatility as "volatility?",
    r.sharpe as "sharpe?"
from directory.portfolios p
left join valuations.valued_portfolios v using (portfolio_id)
left join risk.portfolio_risks r using (portfolio_id)
where p.portfolio_id = $1
