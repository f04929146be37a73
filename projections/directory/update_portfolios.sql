-- Every fact of a portfolio moves its version; some also change a setting.
update portfolios p
set name = coalesce(change.name, p.name),
    cost_basis = coalesce(change.cost_basis, p.cost_basis),
    fees_in_cost = coalesce(change.fees_in_cost, p.fees_in_cost),
    version = change.version,
    position = change.position
from unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::bigint[], $6::bigint[])
    as change (portfolio_id, name, cost_basis, fees_in_cost, version, position)
where p.portfolio_id = change.portfolio_id
