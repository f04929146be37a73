-- Whom e-mails name, without regard to case. Personal data stands beside the log, so this is the truth itself.
select asked.email as "email!", d.investor_id
from unnest($1::text[]) as asked (email)
join public.investor_details d on lower(d.email) = lower(asked.email)
