-- How far holdings are.
select shard, scanned_to from holdings.checkpoints where shard = any($1)
