insert into lots (portfolio_id, asset_id, position, opened_on, quantity, cost, fx_rate)
select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::date[], $5::numeric[], $6::numeric[], $7::numeric[])
on conflict (portfolio_id, asset_id, position) do update
set opened_on = excluded.opened_on, quantity = excluded.quantity, cost = excluded.cost, fx_rate = excluded.fx_rate
