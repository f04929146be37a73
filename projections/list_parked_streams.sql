select stream_id from parked_streams where shard = any($1)
