-- What every read model has beside its own tables: where its rows stand, and what could not be applied.

create table checkpoints (
    shard smallint not null constraint checkpoints_key primary key,
    -- The last event whose effect is in the rows; position 0 and no event before the first one.
    epoch integer not null,
    position bigint not null,
    event_id text,
    recorded_at timestamptz,
    -- No event of this shard at or below it is missing from the rows.
    scanned_to bigint not null,
    -- Place of the reader in the market shard, for read models that join prices.
    price_position bigint not null,
    -- Another number with every flush: whoever finds another one than their own has lost the shard.
    revision bigint not null
) with (fillfactor = 40, autovacuum_vacuum_threshold = 1000);

create table parked_streams (
    stream_id text not null constraint parked_streams_key primary key,
    shard smallint not null,
    -- The first event of the stream whose effect is missing; later ones are skipped by reference.
    position bigint not null,
    event_id text not null,
    reason text not null,
    -- When the log took that event: rows hold no wall clock, so that a rebuild gives the same ones.
    parked_at timestamptz not null
);

-- Events that somebody decided to do without. A decision and no fold of the log: a rebuild knows nothing of it and parks the
-- stream again.
create table skipped_events (
    position bigint not null constraint skipped_events_key primary key,
    stream_id text not null,
    event_id text not null,
    -- Why it could not be applied.
    poison text not null,
    -- Why it is done without.
    reason text not null,
    skipped_at timestamptz not null default clock_timestamp()
);
