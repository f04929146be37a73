-- What failed for good, was not tried again since, and can be: of each job that is there among the last ones to be scheduled, as the
-- write side keeps them: what was tried again makes no room for an older one. Walked job by job, so that neither removed jobs nor one that fails every second are in the way of the others.
select j.job_id, j.name as job, r.scheduled_position, r.run_id, r.due_at, r.trigger, r.state as "state!",
    r.missed, r.retry_of, r.retried_by, r.open_run_id, r.attempt, r.reason, r.result, r.scheduled_at, r.started_at, r.ended_at,
    r.retry_at, r.position, null::text as "owner?", null::timestamptz as "running_since?", null::boolean as "cancel_requested?",
    null::bigint as "done?", null::bigint as "total?"
from jobs.jobs j
cross join lateral (
    select r.scheduled_position, r.run_id, r.due_at, r.trigger, r.state, r.missed, r.retry_of, r.retried_by, r.open_run_id,
        r.attempt, r.reason, r.result, r.scheduled_at, r.started_at, r.ended_at, r.retry_at, r.position
    from jobs.runs r
    where r.job_id = j.job_id and r.state = 'failed' and r.scheduled_position > j.defined_position
    order by r.scheduled_position desc
    limit 200
) r
where j.removed_at is null and r.retried_by is null and ($1::bigint is null or r.scheduled_position < $1)
order by r.scheduled_position desc
limit $2
