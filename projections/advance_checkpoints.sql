-- Zero rows for a shard: another process has flushed since, and this one must not write. Zero rows at all: the log is not the
-- one that was folded (a process that slept through a restore may hold the very revision that was restored). The newest place
-- vouches for the others: whoever finds it again finds everything before it.
-- Locked in shard order first, so that two processes in a rebalance never wait for each other in a ring.
with mine as (
    select c.shard
    from checkpoints c
    join unnest($1::smallint[], $8::bigint[]) as held (shard, revision) using (shard, revision)
    order by c.shard
    for update of c
), known as (
    select from (
        select position, event_id, recorded_at
        from unnest($3::bigint[], $4::text[], $5::timestamptz[]) as place (position, event_id, recorded_at)
        order by position desc
        limit 1
    ) newest
    where newest.position = 0 or exists (
        select from public.events e
        where e.position = newest.position and e.command_id::text || '.' || e.ordinal = newest.event_id
            and e.recorded_at = newest.recorded_at)
)
update checkpoints c
set epoch = next.epoch, position = next.position, event_id = next.event_id, recorded_at = next.recorded_at,
    scanned_to = next.scanned_to, price_position = next.price_position,
    revision = nextval('public.checkpoint_revisions')
from mine
join unnest(
    $1::smallint[], $2::integer[], $3::bigint[], $4::text[], $5::timestamptz[], $6::bigint[], $7::bigint[]
) as next (shard, epoch, position, event_id, recorded_at, scanned_to, price_position) using (shard)
where c.shard = mine.shard and exists (select from known)
returning c.shard, c.revision
