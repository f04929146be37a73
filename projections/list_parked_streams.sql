select stream_id, position from parked_streams where shard = any($1)
