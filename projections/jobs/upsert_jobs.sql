-- The symbols of one job come as one JSON array, because arrays of arrays must be rectangular.
insert into jobs (
    job_id, name, kind, crontab, time_zone, interval_seconds, soft_limit_seconds, time_limit_seconds, attempts_max,
    retry_pause_seconds, overlap, symbols, source, defined_by, defined_at, defined_position, settings_at, due_taken,
    removed_at, version, position
)
select new.job_id, new.name, new.kind, new.crontab, new.time_zone, new.interval_seconds, new.soft_limit_seconds,
    new.time_limit_seconds, new.attempts_max, new.retry_pause_seconds, new.overlap,
    array(select jsonb_array_elements_text(new.symbols)), new.source, new.defined_by, new.defined_at,
    new.defined_position, new.settings_at, new.due_taken, new.removed_at, new.version, new.position
from unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
    $10::bigint[], $11::text[], $12::jsonb[], $13::text[], $14::text[], $15::timestamptz[], $16::bigint[],
    $17::timestamptz[], $18::timestamptz[], $19::timestamptz[], $20::bigint[], $21::bigint[]
) as new (
    job_id, name, kind, crontab, time_zone, interval_seconds, soft_limit_seconds, time_limit_seconds, attempts_max,
    retry_pause_seconds, overlap, symbols, source, defined_by, defined_at, defined_position, settings_at, due_taken,
    removed_at, version, position
)
on conflict (job_id) do update
set name = excluded.name, kind = excluded.kind, crontab = excluded.crontab, time_zone = excluded.time_zone,
    interval_seconds = excluded.interval_seconds, soft_limit_seconds = excluded.soft_limit_seconds,
    time_limit_seconds = excluded.time_limit_seconds, attempts_max = excluded.attempts_max,
    retry_pause_seconds = excluded.retry_pause_seconds, overlap = excluded.overlap, symbols = excluded.symbols,
    source = excluded.source, defined_by = excluded.defined_by, defined_at = excluded.defined_at,
    defined_position = excluded.defined_position,
    settings_at = excluded.settings_at, due_taken = excluded.due_taken, removed_at = excluded.removed_at,
    version = excluded.version, position = excluded.position
