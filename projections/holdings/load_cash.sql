select portfolio_id, currency, balance, position
from cash
where portfolio_id = any($1)
