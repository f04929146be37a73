-- When rows of these read models and shards ($1, $2) last changed: when the log took the last event that any of them has, of
-- its own or among the prices it has joined. None as long as an event of that second may still come to them: one that some
-- shard has not seen, or that the log is just taking.
with places as (
    select c.*
    from (
    select 'directory' as read_model, shard, scanned_to as scanned_to, recorded_at, 0 as price_position from directory.checkpoints
    union all select 'holdings', shard, scanned_to, recorded_at, 0 from holdings.checkpoints
    union all select 'prices', shard, scanned_to, recorded_at, 0 from prices.checkpoints
    union all select 'valuations', shard, least(scanned_to, price_position), recorded_at, price_position from valuations.checkpoints
    union all select 'activity', shard, scanned_to, recorded_at, 0 from activity.checkpoints
    union all select 'risk', shard, least(scanned_to, price_position), recorded_at, price_position from risk.checkpoints
    union all select 'jobs', shard, scanned_to, recorded_at, 0 from jobs.checkpoints
    ) c
    join unnest($1::text[], $2::smallint[]) as wanted (read_model, shard) using (read_model, shard)
), changed as (
    select greatest(
            max(p.recorded_at), (select e.recorded_at from public.events e where e.position = max(p.price_position))
        ) as at,
        min(p.scanned_to) as complete_to
    from places p
)
select c.at as changed_at
from changed c
where c.at is not null
    -- An append takes less: its statement would be ended.
    and date_trunc('second', c.at) + interval '6 seconds' <= clock_timestamp()
    and not exists (
        select from public.events e
        where e.position = c.complete_to + 1 and e.recorded_at < date_trunc('second', c.at) + interval '1 second')
