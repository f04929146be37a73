-- What was reported last of a quarter is believed.
insert into earnings (
    asset_id, quarter, earnings_per_share, estimate, revenue, currency, reported_on, recorded_at, position
)
select * from unnest(
    $1::uuid[], $2::text[], $3::numeric[], $4::numeric[], $5::numeric[], $6::text[], $7::date[], $8::timestamptz[],
    $9::bigint[]
)
on conflict (asset_id, quarter) do update
set earnings_per_share = excluded.earnings_per_share, estimate = excluded.estimate, revenue = excluded.revenue,
    currency = excluded.currency, reported_on = excluded.reported_on, recorded_at = excluded.recorded_at,
    position = excluded.position
