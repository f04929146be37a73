insert into valued_cash as v (
    portfolio_id, currency, balance, unpriced, rate, rate_path, balance_base, portfolio_position, price_position
)
select * from unnest(
    $1::uuid[], $2::text[], $3::numeric[], $4::text[], $5::numeric[], $6::text[], $7::numeric[], $8::bigint[],
    $9::bigint[]
)
on conflict (portfolio_id, currency) do update
set balance = excluded.balance, unpriced = excluded.unpriced, rate = excluded.rate, rate_path = excluded.rate_path,
    balance_base = excluded.balance_base, portfolio_position = excluded.portfolio_position,
    price_position = excluded.price_position
where v is distinct from excluded
