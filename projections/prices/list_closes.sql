-- Of one source: the one named, else the most believed.
select c.day, c.price, c.volume, c.source, c.position
from prices.closes c
where c.asset_id = $1
    and c.source = coalesce($2, (
        select s.source
        from prices.price_sources s
        join prices.quotes q using (asset_id)
        where s.asset_id = $1 and s.close_day is not null
        order by array_position(q.ranked_sources, s.source) nulls last, s.first_used
        limit 1))
    and c.day >= coalesce($3, '-infinity'::date)
    and c.day <= coalesce($4, 'infinity'::date)
order by c.day
limit $5
