-- What portfolios are worth together, by base currency. One that was not valued yet counts as incomplete. A sum beyond every
-- amount is told in whole units, so that it can be read.
select p.base_currency, count(*) as "count!",
    round(coalesce(sum(v.total_value_base), 0),
        case when abs(sum(v.total_value_base)) < 1e17 then 10 else 0 end) as "total_value_base!",
    count(*) filter (where coalesce(v.incomplete, true)) as "incomplete!"
from directory.portfolios p
left join valuations.valued_portfolios v using (portfolio_id)
group by p.base_currency
order by p.base_currency
