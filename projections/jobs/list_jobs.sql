-- With the last run that was not skipped, and how many runs are open or can be tried again.
select j.job_id, j.name, j.kind, j.crontab, j.time_zone, j.interval_seconds, j.soft_limit_seconds, j.time_limit_seconds,
    j.attempts_max, j.retry_pause_seconds, j.overlap, j.symbols, j.source, j.defined_by, j.defined_at, j.settings_at,
    j.due_taken, j.version, j.position,
    last.scheduled_position as "last_position?", last.state as "last_state?", last.due_at as "last_due_at?",
    last.ended_at as "last_ended_at?",
    (select count(*) from jobs.runs r where r.job_id = j.job_id and r.state in ('scheduled', 'retrying')) as "open_runs!",
    (select count(*) from (
        select r.retried_by from jobs.runs r
        where r.job_id = j.job_id and r.state = 'failed' and r.scheduled_position > j.defined_position
        order by r.scheduled_position desc
        limit 200
    ) failed where failed.retried_by is null) as "failed_runs!"
from jobs.jobs j
left join lateral (
    select r.scheduled_position, r.due_at, r.ended_at,
        case when l.run_id is not null and r.state in ('scheduled', 'retrying') then 'running' else r.state end as state
    from jobs.runs r
    left join public.job_leases l on l.run_id = r.run_id and l.leased_until > now()
    where r.job_id = j.job_id and r.state <> 'skipped'
    order by r.scheduled_position desc
    limit 1
) last on true
where j.removed_at is null
    and ($1::uuid is null or j.job_id = $1)
    and ($2::text is null or j.name > $2)
order by j.name
limit $3
