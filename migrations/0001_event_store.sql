-- The log: one append-only table, and what may stand beside it. Precious: forward only, never edited once released.
--
-- What the table promises (positions without holes, commit order is position order, versions per stream, each
-- command once) is kept by append_batch in the next migration; nothing else ever writes here.

create table events (
    position           bigint      not null,
    command_id         uuid        not null,
    ordinal            integer     not null, -- the event's id is {command_id}.{ordinal}
    stream_id          text        not null collate "C",
    version            bigint      not null,
    shard              smallint    not null, -- a function of stream_id, stored for repair and rebuild by shard
    event_type         text        not null,
    schema_version     smallint    not null,
    request_hash       bytea       not null,
    correlation_id     uuid        not null,
    causation_position bigint,
    occurred_at        timestamptz not null,
    recorded_at        timestamptz not null,
    payload            json        not null, -- json, not jsonb: these exact bytes go to Kafka
    metadata           json        not null,
    -- What does not fit into a record of the bus would stop the relay for ever.
    constraint events_size check (octet_length(payload::text) + octet_length(metadata::text) <= 262144),
    constraint events_position primary key (position),
    constraint events_stream_version unique (stream_id, version),
    constraint events_command_ordinal unique (command_id, ordinal)
);

create index events_shard_position on events (shard, position);

-- A restore uses positions again for other events: that is another history, and has another number.
create table log_epochs (
    epoch          integer     not null,
    first_position bigint      not null,
    started_at     timestamptz not null default clock_timestamp(),
    reason         text        not null,
    constraint log_epochs_epoch primary key (epoch),
    constraint log_epochs_first_position unique (first_position)
);

insert into log_epochs (epoch, first_position, reason) values (1, 1, 'first start');

-- Personal data stands here and never in the log: erasing a person is deleting a row, and the ledger stays.
create table investor_details (
    investor_id uuid        not null,
    name        text        not null,
    email       text        not null,
    created_at  timestamptz not null default clock_timestamp(),
    constraint investor_details_investor primary key (investor_id)
);

create unique index investor_details_email on investor_details (lower(email));

-- Every flush of every read model takes a number here, so that no two histories of a checkpoint share one.
create sequence checkpoint_revisions;

-- How far the relay has copied each shard: a lower bound, confirmed against the topic at every start.
create table relay_progress (
    shard        smallint    not null,
    topic        text        not null,
    epoch        integer     not null,
    position     bigint      not null,
    kafka_offset bigint      not null,
    updated_at   timestamptz not null default clock_timestamp(),
    constraint relay_progress_topic_shard primary key (topic, shard)
);

create function refuse_change() returns trigger
language plpgsql as $$
begin
    raise exception 'the log is append-only: % on % is refused', lower(tg_op), tg_table_name
        using errcode = 'restrict_violation', hint = 'A correction is a new event.';
end
$$;

create trigger events_immutable before update or delete or truncate on events
    for each statement execute function refuse_change();
