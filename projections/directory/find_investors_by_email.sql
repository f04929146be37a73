-- Whom e-mails name, without regard to case. Personal data stands beside the log, so this is the truth itself. One by one, so
-- that a few e-mails never read everybody's.
select asked.email as "email!", found.investor_id
from unnest($1::text[]) as asked (email)
cross join lateral (
    select d.investor_id from public.investor_details d where lower(d.email) = lower(asked.email) limit 1
) found
