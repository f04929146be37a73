-- Portfolios of these investors and names, the oldest first.
select p.investor_id, p.name, p.portfolio_id
from unnest($1::uuid[], $2::text[]) as asked (investor_id, name)
join directory.portfolios p on p.investor_id = asked.investor_id and p.name = asked.name
order by p.opened_at, p.portfolio_id
