-- Where a portfolio's rows stand, without the rows: what was made of them before may still be good.
select l.position, c.epoch, least(c.scanned_to, p.position - 1) as "scanned_to!", c.recorded_at,
    p.position is not null as "parked!"
from holdings.ledgers l
join holdings.checkpoints c on c.shard = l.shard
left join holdings.parked_streams p on p.stream_id = 'portfolio-' || $1::uuid
where l.portfolio_id = $1
