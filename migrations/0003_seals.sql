-- Seals: every 4,096 events one, made outside the append path. A seal is SHA-256 over the seal before it and the hashes of the
-- events' exact bytes in order (src/event_store/seal.rs says which bytes). Whoever keeps one elsewhere can prove later that
-- nothing up to it was altered, inserted or removed, even by an owner of this database.
--
-- No wall clock and no number of an epoch: the same events have the same seals, also after a restore or in another database.

create table seals (
    last_position bigint not null,
    seal          bytea  not null,
    marks         bytea  not null, -- the first eight bytes of each event's hash: they tell which event was altered
    constraint seals_last_position primary key (last_position),
    constraint seals_block check (last_position > 0 and last_position % 4096 = 0),
    constraint seals_seal_size check (octet_length(seal) = 32),
    constraint seals_marks_size check (octet_length(marks) = 8 * 4096)
);

-- Hashes do not compress.
alter table seals alter column marks set storage external;

create trigger seals_immutable before update or delete or truncate on seals
    for each statement execute function refuse_change();
