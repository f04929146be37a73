-- Closes for a market model: of every asset those of one source, the best-ranked one that has any, in whole units of the
-- asset's currency, of the given number of calendar days up to the latest close of all. With how far the market was read.
with latest as (
    select max(s.close_day) as day
    from prices.price_sources s
    join prices.quotes q using (asset_id)
    where q.class <> 'fx'
),
chosen as (
    select distinct on (q.asset_id) q.asset_id, q.symbol, q.class, q.currency, q.quote_unit, s.source
    from prices.quotes q
    left join prices.price_sources s on s.asset_id = q.asset_id and s.close_day is not null
    order by q.asset_id, array_position(q.ranked_sources, s.source) nulls last, s.first_used
)
select c.asset_id as "asset_id!", c.symbol as "symbol!", c.class as "class!", c.currency as "currency!",
    closes.day as "day?", (closes.price * c.quote_unit)::double precision as "close?"
from chosen c
cross join latest
left join prices.closes closes
    on closes.asset_id = c.asset_id and closes.source = c.source and closes.day > latest.day - $1::integer
order by c.asset_id, closes.day
