-- Runs that are to be carried out.
select run_id as "run_id!", job_id, due_at, attempt, retry_at, scheduled_at, position
from jobs.runs
where state in ('scheduled', 'retrying')
order by scheduled_position
