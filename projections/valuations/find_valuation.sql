select v.portfolio_id, v.base_currency, v.market_value_base, v.cash_base, v.total_value_base, v.cost_base, v.unrealized_gain_base,
    v.gross_value_base, v.incomplete, v.cost_incomplete, v.unpriced, v.portfolio_position, v.price_position
from valuations.valued_portfolios v
where v.portfolio_id = $1
