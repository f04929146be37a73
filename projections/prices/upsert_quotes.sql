-- The lists of one asset come as one JSON array each, because arrays of arrays must be rectangular.
insert into quotes (
    asset_id, symbol, class, currency, quote_unit, ranked_sources, ranked_adjustments, price, priced_at, price_source,
    price_kind, position
)
select new.asset_id, new.symbol, new.class, new.currency, new.quote_unit,
    array(select jsonb_array_elements_text(new.ranked_sources)),
    array(select jsonb_array_elements_text(new.ranked_adjustments)),
    new.price, new.priced_at, new.price_source, new.price_kind, new.position
from unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::numeric[], $6::jsonb[], $7::jsonb[], $8::numeric[],
    $9::timestamptz[], $10::text[], $11::text[], $12::bigint[]
) as new (
    asset_id, symbol, class, currency, quote_unit, ranked_sources, ranked_adjustments, price, priced_at, price_source,
    price_kind, position
)
on conflict (asset_id) do update
set symbol = excluded.symbol, ranked_sources = excluded.ranked_sources,
    ranked_adjustments = excluded.ranked_adjustments, price = excluded.price, priced_at = excluded.priced_at,
    price_source = excluded.price_source, price_kind = excluded.price_kind, position = excluded.position
