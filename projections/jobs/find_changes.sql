-- A number that is another one when jobs or runs have changed, and the time by the database's clock.
select coalesce(sum(position), 0)::bigint as "state!", clock_timestamp() as "now!"
from jobs.checkpoints
