-- append_batch: the only way into the log.
--
-- One call takes a batch of commands and answers each of them; a conflict is an answer, never an exception, so
-- that one caller's bad luck does not undo another's work. Numbering is serialised by the advisory lock and
-- paid for once a batch. The steps, each a statement of its own, because under read committed every statement
-- sees what was committed before the lock was ours:
--
--   1. lock        nobody else numbers until this transaction ends
--   2. head        the top position and its time: positions go on from there without a hole
--   3. probe       which commands are known, which streams are no longer at the version that was decided on
--   4. accept      usually all; else command by command, see below
--   5. insert      numbered head + 1, head + 2, … in the order of the batch
--
-- The caller decides the commands of a batch one upon the other, so within a batch a command leans on the ones
-- before it that wrote a stream it reads. When one of those falls (known already, conflict, e-mail taken), what
-- leans on it must be decided again even where its version would fit: its decision saw a state that never was.
--
-- Outcomes: 1 accepted, 2 known (position = that of its first event), 3 conflict (stream and current version),
-- 4 e-mail taken, 5 decide again.
--
-- It must be called as a statement of its own (autocommit): a frozen client must never sit on the lock.

create function append_batch(
    command_ids         uuid[],
    request_hashes      bytea[],
    correlation_ids     uuid[],
    causation_positions bigint[],
    -- each stream that was read at a version, once, with the stored version that the batch was decided on
    base_streams        text[],
    base_versions       bigint[],
    -- which command read (and perhaps writes) which of these: indexes into command_ids and base_streams
    check_commands      integer[],
    check_streams       integer[],
    check_writes        boolean[],
    -- the events, in order; no version: the stream is written blind
    event_commands      integer[],
    event_ordinals      integer[],
    event_streams       text[],
    event_versions      bigint[],
    event_shards        smallint[],
    event_types         text[],
    event_schemas       smallint[],
    event_occurred_ats  timestamptz[],
    event_payloads      text[],
    event_metadata      text[],
    -- personal data of investors who register
    detail_commands     integer[],
    detail_investors    uuid[],
    detail_names        text[],
    detail_emails       text[],
    out outcomes        smallint[],
    out positions       bigint[],
    out conflict_streams  text[],
    out conflict_versions bigint[],
    out head            bigint,
    out epoch           integer,
    out recorded_at     timestamptz
)
language plpgsql volatile
-- A plan that is kept was made for the table as it was: on the first day that is an empty one, and the plan reads all of it.
set plan_cache_mode = force_custom_plan
set jit = off
as $$
#variable_conflict use_variable
declare
    n        constant integer := cardinality(command_ids);
    all_well boolean;
    current  bigint[];
    fallen   boolean[];  -- by base stream: something that wrote it in this batch fell
    known    bigint[];
    c        integer;
    k        integer;
    outcome  smallint;
    next_check integer := 1;
    first_check integer;
    inserted bigint;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'append_batch needs read committed' using errcode = 'invalid_transaction_state';
    end if;

    perform pg_advisory_xact_lock(7306086967255298121);

    select e.position, e.recorded_at into head, recorded_at from events e order by e.position desc limit 1;
    head := coalesce(head, 0);
    recorded_at := greatest(clock_timestamp(), recorded_at);
    select max(l.epoch) into epoch from log_epochs l;

    all_well := cardinality(detail_commands) <= 1
        and not exists (
            select from unnest(command_ids) as asked(id)
            join events e on e.command_id = asked.id and e.ordinal = 0)
        and not exists (
            select from unnest(base_streams, base_versions) as base(stream, version)
            where base.version is distinct from coalesce(
                (select e.version from events e where e.stream_id = base.stream order by e.version desc limit 1), 0))
        and not exists (
            select from unnest(detail_emails) as asked(email)
            join investor_details d on lower(d.email) = lower(asked.email));

    if all_well then
        outcomes := array_fill(1::smallint, array[n]);
    else
        select array_agg(e.position order by asked.i) into known
        from unnest(command_ids) with ordinality as asked(id, i)
        left join events e on e.command_id = asked.id and e.ordinal = 0;
        select array_agg(coalesce(
            (select e.version from events e where e.stream_id = base.stream order by e.version desc limit 1), 0)
            order by base.i) into current
        from unnest(base_streams) with ordinality as base(stream, i);
        fallen := array_fill(false, array[greatest(cardinality(base_streams), 1)]);
        outcomes := array_fill(1::smallint, array[n]);
        positions := known;
        conflict_streams := array_fill(null::text, array[n]);
        conflict_versions := array_fill(null::bigint, array[n]);

        for c in 1..n loop
            outcome := 1;
            first_check := next_check;
            while next_check <= cardinality(check_commands) and check_commands[next_check] = c loop
                k := check_streams[next_check];
                if current[k] <> base_versions[k] then
                    if outcome <> 3 then
                        conflict_streams[c] := base_streams[k];
                        conflict_versions[c] := current[k];
                    end if;
                    outcome := 3;
                elsif outcome = 1 and fallen[k] then
                    outcome := 5;
                end if;
                next_check := next_check + 1;
            end loop;
            if known[c] is not null then
                outcome := 2;
            elsif outcome = 1 and exists (
                select from unnest(detail_commands, detail_emails) as asked(command, email)
                where asked.command = c and (
                    exists (select from investor_details d where lower(d.email) = lower(asked.email))
                    or exists (
                        select from unnest(detail_commands, detail_emails) as other(command, email)
                        where other.command < c and outcomes[other.command] = 1
                            and lower(other.email) = lower(asked.email)))) then
                outcome := 4;
            end if;
            outcomes[c] := outcome;
            if outcome <> 1 then
                for i in first_check..next_check - 1 loop
                    if check_writes[i] then
                        fallen[check_streams[i]] := true;
                    end if;
                end loop;
            end if;
        end loop;
    end if;

    insert into investor_details (investor_id, name, email)
    select d.investor, d.name, d.email
    from unnest(detail_commands, detail_investors, detail_names, detail_emails) as d(command, investor, name, email)
    where outcomes[d.command] = 1;

    with numbered as (
        insert into events (position, command_id, ordinal, stream_id, version, shard, event_type, schema_version,
            request_hash, correlation_id, causation_position, occurred_at, recorded_at, payload, metadata)
        select head + row_number() over (order by e.i), command_ids[e.command], e.ordinal, e.stream,
            coalesce(e.version,
                coalesce((select b.version from events b
                    where e.version is null and b.stream_id = e.stream order by b.version desc limit 1), 0)
                + row_number() over (partition by e.stream order by e.i)),
            e.shard, e.type, e.schema, request_hashes[e.command], correlation_ids[e.command],
            causation_positions[e.command], e.occurred_at, recorded_at, e.payload::json, e.metadata::json
        from unnest(event_commands, event_ordinals, event_streams, event_versions, event_shards, event_types,
            event_schemas, event_occurred_ats, event_payloads, event_metadata)
            with ordinality as e(command, ordinal, stream, version, shard, type, schema, occurred_at, payload,
                metadata, i)
        where outcomes[e.command] = 1
        returning events.position as at_position, events.command_id as by_command
    ), firsts as (
        select by_command, min(at_position) as at_position from numbered group by by_command
    )
    select array_agg(coalesce(f.at_position, positions[asked.i]) order by asked.i),
        (select count(*) from numbered)
    into positions, inserted
    from unnest(command_ids) with ordinality as asked(id, i)
    left join firsts f on f.by_command = asked.id;

    head := head + inserted;
end
$$;
