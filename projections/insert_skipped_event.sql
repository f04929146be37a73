insert into skipped_events (position, stream_id, event_id, poison, reason) values ($1, $2, $3, $4, $5)
