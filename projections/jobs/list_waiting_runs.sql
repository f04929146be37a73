-- Runs that nobody carries out although they could have begun so many seconds ago, the oldest first. A lease that ends later than
-- anybody may have asked for is of a time before the clock was put back. What a parked stream has to do its rows do not tell: only
-- who owns the shard, and has read on, can know.
select r.run_id as "run_id!", r.job_id, r.due_at, r.attempt, r.retry_at, r.scheduled_at, r.position, j.name, j.kind, j.crontab, j.time_zone,
    j.interval_seconds, j.soft_limit_seconds, j.time_limit_seconds, j.attempts_max, j.retry_pause_seconds, j.overlap, j.symbols,
    j.source
from jobs.runs r
join jobs.jobs j using (job_id)
where r.state in ('scheduled', 'retrying') and j.removed_at is null
    and greatest(r.scheduled_at, r.retry_at) < clock_timestamp() - $1::float8 * interval '1 second'
    and not exists (
        select from public.job_leases l
        where l.run_id = r.run_id and l.leased_until > clock_timestamp()
            and l.leased_until < clock_timestamp() + interval '20 seconds'
    )
    and not exists (select from jobs.parked_streams p where p.stream_id = 'job-' || r.job_id)
order by r.scheduled_position
limit $2
