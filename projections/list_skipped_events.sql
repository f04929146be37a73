select position, stream_id, event_id, poison, reason, skipped_at from skipped_events order by position
