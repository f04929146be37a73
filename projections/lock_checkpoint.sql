-- Whoever has the row decides alone where the shard stands: a flush of the projector waits, and then finds another revision.
select shard from checkpoints where shard = $1 for update
