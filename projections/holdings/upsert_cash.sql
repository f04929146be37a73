insert into cash (portfolio_id, currency, balance)
select * from unnest($1::uuid[], $2::text[], $3::numeric[])
on conflict (portfolio_id, currency) do update
set balance = excluded.balance
