-- A row that no request reaches, of those that have not obeyed theirs: its portfolio is not there to be computed.
select r.portfolio_id
from unnest($1::smallint[], $2::bigint[]) as s(shard, position)
join risk.portfolio_risks r on r.shard = s.shard and r.request_position < s.position
where not exists (select from holdings.ledgers l where l.portfolio_id = r.portfolio_id)
limit 1
