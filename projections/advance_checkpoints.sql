-- Zero rows for a shard: another process has flushed since, or the log is not the one that was folded (a process that slept
-- through a restore may hold the restored revision). Either way this process must not write.
-- Locked in shard order first, so that two processes in a rebalance never wait for each other in a ring.
with mine as (
    select c.shard
    from checkpoints c
    join unnest($1::smallint[], $8::bigint[]) as held (shard, revision) using (shard, revision)
    order by c.shard
    for update of c
)
update checkpoints c
set epoch = next.epoch, position = next.position, event_id = next.event_id, recorded_at = next.recorded_at,
    scanned_to = next.scanned_to, price_position = next.price_position,
    revision = nextval('public.checkpoint_revisions')
from mine
join unnest(
    $1::smallint[], $2::integer[], $3::bigint[], $4::text[], $5::timestamptz[], $6::bigint[], $7::bigint[]
) as next (shard, epoch, position, event_id, recorded_at, scanned_to, price_position) using (shard)
where c.shard = mine.shard
    and (next.position = 0 or exists (
        select from public.events e
        where e.position = next.position and e.command_id::text || '.' || e.ordinal = next.event_id
            and e.recorded_at = next.recorded_at))
returning c.shard, c.revision
