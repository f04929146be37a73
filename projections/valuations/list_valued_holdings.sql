select v.asset_id, a.symbol as "symbol?", v.currency, v.quantity, v.unpriced, v.price, v.priced_at, v.price_source, v.price_kind,
    v.market_value, v.cost, v.unrealized_gain, v.rate, v.rate_path, v.market_value_base, v.cost_base,
    v.cost_base_missing, v.unrealized_gain_base, v.weight, v.price_position
from valuations.valued_holdings v
left join directory.assets a using (asset_id)
where v.portfolio_id = $1
order by v.asset_id
