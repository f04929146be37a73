insert into checkpoints (shard, epoch, position, scanned_to, price_position, revision)
select mine.shard, 1, 0, 0, 0, nextval('public.checkpoint_revisions')
from unnest($1::smallint[]) as mine (shard)
where not exists (select from checkpoints c where c.shard = mine.shard)
on conflict do nothing
