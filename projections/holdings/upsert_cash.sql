insert into cash (portfolio_id, currency, balance, position)
select * from unnest($1::uuid[], $2::text[], $3::numeric[], $4::bigint[])
on conflict (portfolio_id, currency) do update
set balance = excluded.balance, position = excluded.position
