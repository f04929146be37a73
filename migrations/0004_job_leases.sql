-- Who carries out which run now. What runs and what became of it is told by the log alone; this says only that somebody is at
-- it, and until when that is to be believed. All rows may be lost: the runs are then taken up again.
--
-- Times are those of this server: the clocks of workers are not compared with each other.

create table job_leases (
    run_id           uuid        not null,
    job_id           uuid        not null,
    shard            smallint    not null, -- of the job's stream: who owns it looks after the row
    attempt          integer     not null,
    owner            text        not null, -- one life of a process: another life of the same process is another owner
    started_at       timestamptz not null,
    leased_until     timestamptz not null, -- nobody else touches the run before; the owner moves it on while it lives
    cancel_requested boolean     not null default false,
    -- Owners in a row that were not heard of again: what kills every worker must not go round for ever.
    lost             integer     not null default 0,
    done             bigint,               -- progress, for people; of total, where that is known
    total            bigint,
    constraint job_leases_run primary key (run_id),
    constraint job_leases_attempt check (attempt >= 1),
    constraint job_leases_progress check (done >= 0 and total >= 0 and lost >= 0)
);

-- Workers that are there, also those that have nothing to do.
create table job_workers (
    owner      text        not null,
    slots      smallint    not null,
    shards     smallint[]  not null, -- of which it takes runs
    started_at timestamptz not null,
    seen_at    timestamptz not null,
    constraint job_workers_owner primary key (owner)
);
