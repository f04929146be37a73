select job_id, name, kind, crontab, time_zone, interval_seconds, soft_limit_seconds, time_limit_seconds, attempts_max,
    retry_pause_seconds, overlap, symbols, source, defined_by, defined_at, defined_position, settings_at, due_taken, removed_at, version,
    position
from jobs
where job_id = any($1::uuid[])
