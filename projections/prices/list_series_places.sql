-- Of each asset all sources in the order of first use, with their newest prices; one row without a source where there is none.
select q.asset_id, q.symbol, q.class, q.currency, q.quote_unit, q.ranked_sources, q.ranked_adjustments,
    q.price as live_price, q.priced_at, a.version, s.source as "source?", s.tick_at as "tick_at?",
    s.tick_price as "tick_price?", s.tick_position as "tick_position?", s.close_day as "close_day?"
from prices.quotes q
join directory.assets a using (asset_id)
left join prices.price_sources s using (asset_id)
where q.asset_id = any($1)
order by q.asset_id, s.first_used
