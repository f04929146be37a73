select i.investor_id, d.name as "name?", d.email as "email?", i.risk_tolerance, i.experience_level, i.registered_at, i.version,
    i.position,
    (select count(*) from directory.portfolios p where p.investor_id = i.investor_id) as "portfolios!"
from directory.investors i
left join public.investor_details d using (investor_id)
where i.investor_id = $1
