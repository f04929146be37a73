select q.asset_id, s.source, s.tick_at, s.tick_price, s.close_day, s.close_price
from prices.quotes q
join prices.price_sources s using (asset_id)
where q.asset_id = $1
order by array_position(q.ranked_sources, s.source) nulls last, s.first_used
