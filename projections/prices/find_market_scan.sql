-- How far the market is known in `prices` and `directory`, beside the head of the log.
select (select coalesce(max(position), 0) from public.events) as "head!",
    least(
        (select scanned_to from prices.checkpoints where shard = 32),
        (select scanned_to from directory.checkpoints where shard = 32)
    ) as "scanned_to"
