-- Runs of these shards that somebody still has although they have ended.
select l.run_id
from public.job_leases l
join jobs.runs r on r.run_id = l.run_id
where l.shard = any($1::smallint[]) and r.state in ('finished', 'failed', 'cancelled')
