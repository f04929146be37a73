-- Of shards that have none yet.
insert into checkpoints (shard, epoch, position, event_id, recorded_at, scanned_to, price_position, revision)
select shard, epoch, position, event_id, recorded_at, scanned_to, 0, nextval('public.checkpoint_revisions')
from holdings.checkpoints
where shard = any($1)
order by shard
on conflict do nothing
