-- Whether there is such an epoch, and whether a later one has begun at or before the position.
select exists (select from public.log_epochs where epoch = $1) as "is_known!",
    exists (select from public.log_epochs where epoch > $1 and first_position <= $2) as "is_over!"
