select portfolio_id, currency, balance
from cash
where portfolio_id = any($1)
