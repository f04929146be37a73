-- What runs of these shards are carried out by.
select job_id, name, kind, crontab, time_zone, interval_seconds, soft_limit_seconds, time_limit_seconds, attempts_max,
    retry_pause_seconds, overlap, symbols, source
from jobs.jobs
where removed_at is null
