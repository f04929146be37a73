insert into investors (investor_id, risk_tolerance, experience_level, registered_at, version, position)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::bigint[])
