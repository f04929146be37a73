select h.held_id, h.asset_id, q.symbol, h.source, h.at, h.day, h.price, h.volume, h.last_price, h.reason, h.held_at,
    h.state, h.position
from prices.held_prices h
join prices.quotes q using (asset_id)
where h.state = $1 and h.position > $2
order by h.position
limit $3
