-- The position up to which closes are in the rows: where a model made now ends.
select position as "position!" from prices.checkpoints where shard = 32
