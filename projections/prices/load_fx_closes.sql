select c.asset_id, c.source, c.day, c.price, c.position
from closes c
join quotes q using (asset_id)
where q.class = 'fx'
