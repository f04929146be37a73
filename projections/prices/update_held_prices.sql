update held_prices h
set state = new.state, position = new.position
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[]) as new (asset_id, held_id, state, position)
where h.asset_id = new.asset_id and h.held_id = new.held_id
