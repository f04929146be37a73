select name from jobs.jobs where defined_by = $1 and removed_at is null order by name
