-- The last request to compute everything of a shard anew, as of a position.
select s.shard as "shard!", e.position as "position!"
from unnest($1::smallint[], $2::bigint[]) as s(shard, position)
cross join lateral (
    select e.position
    from public.events e
    where e.stream_id = 'shard-' || s.shard and e.position <= s.position
    order by e.version desc
    limit 1
) e
