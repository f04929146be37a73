-- How far everything is that was asked to be computed anew, by shard and position of the request: the checkpoint of a shard passes
-- the request when it is taken, and each row names it when it has been computed since. A stream that is parked holds its request.
select coalesce(sum(n.done), 0)::bigint as "done!",
    coalesce(sum(n.total), 0)::bigint as "total!",
    coalesce(array_agg(s.shard order by s.shard) filter (where c.position is null or c.position < s.position), '{}') as "waiting!",
    coalesce(array_agg(s.shard order by s.shard) filter (where p.position <= s.position), '{}') as "parked!"
from unnest($1::smallint[], $2::bigint[]) as s(shard, position)
left join risk.checkpoints c on c.shard = s.shard
left join risk.parked_streams p on p.stream_id = 'shard-' || s.shard
cross join lateral (
    select count(*) as total, count(*) filter (where r.request_position >= s.position) as done
    from risk.portfolio_risks r
    where r.shard = s.shard
) n
