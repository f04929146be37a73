select portfolio_id, shard, base_currency, cost_basis, fees_in_cost, cash, allow_short, last_trade_date, last_entry,
    version, position
from ledgers
where portfolio_id = any($1)
