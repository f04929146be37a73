-- Closes of one source from a day on, and the last one before it.
select c.day, c.price, c.position
from prices.closes c
where c.asset_id = $1 and c.source = $2
    and c.day >= coalesce(
        (select b.day from prices.closes b where b.asset_id = $1 and b.source = $2 and b.day < $3 order by b.day desc limit 1),
        $3)
    and c.day <= $4
order by c.day
