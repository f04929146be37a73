-- Another text when jobs or runs have changed, and the time by the database's clock. A stream that was parked and is caught up
-- changes rows, and no checkpoint's position.
select concat_ws(' ', coalesce(sum(c.position), 0),
        (select concat_ws(' ', count(*), sum(p.position)) from jobs.parked_streams p)) as "state!",
    clock_timestamp() as "now!"
from jobs.checkpoints c
