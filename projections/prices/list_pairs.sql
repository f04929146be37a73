select q.asset_id
from prices.quotes q
join directory.assets a using (asset_id)
where q.class = 'fx' and a.delisted_on is null
order by q.symbol
