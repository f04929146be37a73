-- The lists of one asset come as one JSON array each, because arrays of arrays must be rectangular.
insert into quotes (
    asset_id, symbol, class, currency, quote_unit, ranked_sources, ranked_adjustments, position
)
select new.asset_id, new.symbol, new.class, new.currency, new.quote_unit,
    array(select jsonb_array_elements_text(new.ranked_sources)),
    array(select jsonb_array_elements_text(new.ranked_adjustments)),
    new.position
from unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::numeric[], $6::jsonb[], $7::jsonb[], $8::bigint[]
) as new (asset_id, symbol, class, currency, quote_unit, ranked_sources, ranked_adjustments, position)
on conflict (asset_id) do update
set symbol = excluded.symbol, ranked_sources = excluded.ranked_sources,
    ranked_adjustments = excluded.ranked_adjustments, position = excluded.position
