-- Where every read model stands: what waiting readers are woken by.
select read_model as "read_model!", shard as "shard!", epoch as "epoch!", scanned_to as "scanned_to!",
    price_position as "price_position!"
from (
    select 'directory' as read_model, shard, epoch, scanned_to, price_position from directory.checkpoints
    union all select 'holdings' as read_model, shard, epoch, scanned_to, price_position from holdings.checkpoints
    union all select 'prices' as read_model, shard, epoch, scanned_to, price_position from prices.checkpoints
    union all select 'valuations' as read_model, shard, epoch, scanned_to, price_position from valuations.checkpoints
    union all select 'activity' as read_model, shard, epoch, scanned_to, price_position from activity.checkpoints
    union all select 'risk' as read_model, shard, epoch, scanned_to, price_position from risk.checkpoints
    union all select 'jobs' as read_model, shard, epoch, scanned_to, price_position from jobs.checkpoints
) c
