select a.asset_id, a.symbol, a.name, a.class, a.currency, a.quote_unit, a.isin, a.exchange, a.listed_at, a.delisted_on,
    a.final_price, a.version, a.position,
    q.price as "price?", q.priced_at as "priced_at?", q.price_source as "price_source?", q.price_kind as "price_kind?",
    q.position as "price_position?"
from directory.assets a
left join prices.quotes q using (asset_id)
where a.asset_id = coalesce($1, (select s.asset_id from directory.symbols s where s.symbol = $2))
