-- A row that no request reaches: its portfolio is not there to be computed. Of each shard the hundred that are furthest behind their
-- request are looked at: what can be computed makes way for what cannot.
select behind.portfolio_id
from unnest($1::smallint[], $2::bigint[]) as s(shard, position)
cross join lateral (
    select r.portfolio_id
    from risk.portfolio_risks r
    where r.shard = s.shard and r.request_position < s.position
    order by r.request_position
    limit 100
) behind
left join lateral (
    select l.portfolio_id
    from holdings.ledgers l
    where l.portfolio_id = behind.portfolio_id
    limit 1
) there on true
where there.portfolio_id is null
limit 1
