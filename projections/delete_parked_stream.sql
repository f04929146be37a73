delete from parked_streams where stream_id = $1
