select shard, epoch, position, event_id, recorded_at, scanned_to, price_position, revision
from checkpoints
where shard = any($1)
order by shard
