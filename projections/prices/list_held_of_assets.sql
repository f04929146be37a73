-- What was held back of these assets, and what became of it.
select asset_id, held_id, source, at, day, price, state, position
from prices.held_prices
where asset_id = any($1)
order by asset_id, position
