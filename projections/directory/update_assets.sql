update assets a
set symbol = coalesce(change.symbol, a.symbol),
    delisted_on = coalesce(change.delisted_on, a.delisted_on),
    final_price = coalesce(change.final_price, a.final_price),
    version = change.version,
    position = change.position
from unnest($1::uuid[], $2::text[], $3::date[], $4::numeric[], $5::bigint[], $6::bigint[])
    as change (asset_id, symbol, delisted_on, final_price, version, position)
where a.asset_id = change.asset_id
