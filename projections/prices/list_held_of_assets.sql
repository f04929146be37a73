-- What was held back of these assets, and what became of it.
select asset_id, source, at, day, price, state
from prices.held_prices
where asset_id = any($1)
order by asset_id, position
