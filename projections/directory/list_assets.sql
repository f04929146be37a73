select a.asset_id, a.symbol, a.name, a.class, a.currency, a.quote_unit, a.isin, a.exchange, a.listed_at, a.delisted_on,
    a.final_price, a.version, a.position,
    q.price as "price?", q.priced_at as "priced_at?", q.price_source as "price_source?", q.price_kind as "price_kind?",
    q.position as "price_position?"
from directory.assets a
left join prices.quotes q using (asset_id)
where ($1::text is null or a.class = $1)
    and ($2::text is null or strpos(lower(a.name), lower($2)) > 0)
    and ($3::text is null or (a.symbol, a.asset_id) > ($3, $4::uuid))
order by a.symbol, a.asset_id
limit $5
