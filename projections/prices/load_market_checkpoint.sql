-- Where a reader who has just loaded the tables goes on.
select epoch, position, event_id, recorded_at, scanned_to from checkpoints where shard = 32
