select count(*) as "count!" from parked_streams
