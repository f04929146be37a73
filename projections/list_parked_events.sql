select stream_id, position, event_id, reason from parked_streams order by position
