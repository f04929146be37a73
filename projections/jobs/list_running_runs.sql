-- What somebody carries out now, the latest first: of open runs there are few.
select r.job_id, j.name as job, r.scheduled_position, r.run_id, r.due_at, r.trigger,
    'running' as "state!",
    r.missed, r.retry_of, r.retried_by, r.open_run_id, r.attempt, r.reason, r.result, r.scheduled_at, r.started_at, r.ended_at,
    r.retry_at, r.position, l.owner as "owner?", l.started_at as "running_since?", l.cancel_requested as "cancel_requested?",
    l.done as "done?", l.total as "total?"
from jobs.runs r
join jobs.jobs j using (job_id)
join public.job_leases l on l.run_id = r.run_id and l.leased_until > now()
where r.job_id = $1 and j.removed_at is null and r.state in ('scheduled', 'retrying')
    and ($2::bigint is null or r.scheduled_position < $2)
order by r.scheduled_position desc
limit $3
