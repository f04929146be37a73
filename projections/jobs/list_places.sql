-- How far the rows of these shards are.
select shard, epoch, position, event_id, recorded_at
from jobs.checkpoints
where shard = any($1::smallint[])
