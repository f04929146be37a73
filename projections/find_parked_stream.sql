select stream_id, position, event_id, reason from parked_streams where stream_id = $1
