-- The moment that rows of these read models and shards ($1, $2) are of: the least they were all scanned to (and, where
-- prices are joined, had read prices to), and before the first event that is missing from one of these streams ($3).
with used as (
    select c.*
    from (
    select 'directory' as read_model, shard, epoch, scanned_to, recorded_at from directory.checkpoints
    union all select 'holdings' as read_model, shard, epoch, scanned_to, recorded_at from holdings.checkpoints
    union all select 'prices' as read_model, shard, epoch, scanned_to, recorded_at from prices.checkpoints
    union all select 'valuations' as read_model, shard, epoch, least(scanned_to, price_position), recorded_at from valuations.checkpoints
    union all select 'activity' as read_model, shard, epoch, scanned_to, recorded_at from activity.checkpoints
    union all select 'risk' as read_model, shard, epoch, least(scanned_to, price_position), recorded_at from risk.checkpoints
    union all select 'jobs' as read_model, shard, epoch, scanned_to, recorded_at from jobs.checkpoints
    ) c
    join unnest($1::text[], $2::smallint[]) as wanted (read_model, shard) using (read_model, shard)
), parked as (
    select p.position
    from (
    select 'directory' as read_model, stream_id, position from directory.parked_streams
    union all select 'holdings' as read_model, stream_id, position from holdings.parked_streams
    union all select 'prices' as read_model, stream_id, position from prices.parked_streams
    union all select 'valuations' as read_model, stream_id, position from valuations.parked_streams
    union all select 'activity' as read_model, stream_id, position from activity.parked_streams
    union all select 'risk' as read_model, stream_id, position from risk.parked_streams
    union all select 'jobs' as read_model, stream_id, position from jobs.parked_streams
    ) p
    where p.read_model = any($1) and p.stream_id = any($3::text[])
)
select coalesce(max(u.epoch), 1) as "epoch!",
    case when count(*) < cardinality($1) then 0
        else least(min(u.scanned_to), (select min(position) - 1 from parked)) end as "position!",
    (array_agg(u.recorded_at order by u.scanned_to, u.recorded_at))[1] as recorded_at,
    exists (select from parked) as "parked!"
from used u
