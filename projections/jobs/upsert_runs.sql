insert into runs (
    job_id, scheduled_position, run_id, due_at, trigger, state, missed, retry_of, retried_by, open_run_id, attempt, reason,
    result, scheduled_at, started_at, ended_at, retry_at, position
)
select * from unnest(
    $1::uuid[], $2::bigint[], $3::uuid[], $4::timestamptz[], $5::text[], $6::text[], $7::bigint[], $8::uuid[], $9::uuid[],
    $10::uuid[], $11::bigint[], $12::text[], $13::text[], $14::timestamptz[], $15::timestamptz[], $16::timestamptz[],
    $17::timestamptz[], $18::bigint[]
)
on conflict (job_id, scheduled_position) do update
set state = excluded.state, retried_by = excluded.retried_by, attempt = excluded.attempt, reason = excluded.reason,
    result = excluded.result, started_at = excluded.started_at, ended_at = excluded.ended_at,
    retry_at = excluded.retry_at, position = excluded.position
