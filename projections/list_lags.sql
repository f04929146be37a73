-- How far each read model is, beside the head of the log: the least of its shards, and since when an event waits for it.
with head as (
    select coalesce(max(position), 0) as position from public.events
),
places as (
    select 'directory' as read_model, scanned_to from directory.checkpoints
    union all select 'holdings', scanned_to from holdings.checkpoints
    union all select 'prices', scanned_to from prices.checkpoints
    union all select 'activity', scanned_to from activity.checkpoints
    union all select 'valuations', scanned_to from valuations.checkpoints
    union all select 'risk', scanned_to from risk.checkpoints
    union all select 'jobs', scanned_to from jobs.checkpoints
),
least as (
    select m.read_model, coalesce(min(p.scanned_to), 0) as scanned_to
    from unnest(array['directory', 'holdings', 'prices', 'activity', 'valuations', 'risk', 'jobs']) as m(read_model)
    left join places p using (read_model)
    group by m.read_model
)
select l.read_model as "read_model!", (h.position - l.scanned_to) as "events!",
    coalesce(extract(epoch from clock_timestamp() - e.recorded_at), 0)::double precision as "seconds!"
from least l
cross join head h
left join public.events e on e.position = l.scanned_to + 1
order by l.read_model
