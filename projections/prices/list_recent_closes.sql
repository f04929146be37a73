-- The last closes of every asset but exchange rates, of the best-ranked source that has any, in whole units of the currency.
select q.asset_id, q.symbol, q.class, q.currency, chosen.source, closes.days as "days!", closes.prices as "prices!: Vec<rust_decimal::Decimal>"
from prices.quotes q
cross join lateral (
    select s.source
    from prices.price_sources s
    where s.asset_id = q.asset_id and s.close_day is not null
    order by array_position(q.ranked_sources, s.source) nulls last, s.first_used
    limit 1
) chosen
cross join lateral (
    select array_agg(c.day order by c.day) as days,
        array_agg(round(c.price * q.quote_unit, 10) order by c.day) as prices
    from (
        select k.day, k.price
        from prices.closes k
        where k.asset_id = q.asset_id and k.source = chosen.source
        order by k.day desc
        limit $1
    ) c
) closes
where q.class <> 'fx' and closes.days is not null
order by q.symbol, q.asset_id
