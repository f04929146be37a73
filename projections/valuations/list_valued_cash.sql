select v.currency, v.balance, v.unpriced, v.rate, v.rate_path, v.balance_base, v.price_position
from valuations.valued_cash v
where v.portfolio_id = $1
order by v.currency
