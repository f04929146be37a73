-- What becomes due by itself, and since when.
select job_id, name, crontab, time_zone, interval_seconds, settings_at, due_taken
from jobs.jobs
where removed_at is null
