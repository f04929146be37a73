select portfolio_id, asset_id, position, opened_on, quantity, cost, fx_rate
from lots
where portfolio_id = any($1)
order by portfolio_id, asset_id, opened_on, position
