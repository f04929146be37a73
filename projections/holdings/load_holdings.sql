select portfolio_id, asset_id, currency, quantity, cost, realized_gain, fees, taxes
from holdings
where portfolio_id = any($1)
