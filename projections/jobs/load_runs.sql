-- An id names one run; were it ever used again, the later one is meant.
select distinct on (job_id, run_id) job_id, scheduled_position, run_id as "run_id!", due_at, trigger, state, missed, retry_of,
    retried_by, attempt, reason, result, scheduled_at, started_at, ended_at, retry_at, position
from runs
where run_id = any($1::uuid[])
order by job_id, run_id, scheduled_position desc
