-- In seconds, by the database's clock: of the run that has waited longest although it may go on, and that nobody has.
select coalesce(max(extract(epoch from clock_timestamp() - coalesce(r.retry_at, r.scheduled_at)))::float8, 0) as "seconds!"
from jobs.runs r
left join public.job_leases l on l.run_id = r.run_id and l.leased_until > now() and l.leased_until < now() + interval '20 seconds'
where r.state in ('scheduled', 'retrying') and l.run_id is null and coalesce(r.retry_at, r.scheduled_at) <= clock_timestamp()
