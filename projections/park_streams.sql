insert into parked_streams (stream_id, shard, position, event_id, reason, parked_at)
select * from unnest($1::text[], $2::smallint[], $3::bigint[], $4::text[], $5::text[], $6::timestamptz[])
on conflict (stream_id) do nothing
