-- Jobs with what they are due by, and what became of their runs. Nothing here says who carries a run out: leases do.

create table jobs (
    job_id uuid not null constraint jobs_key primary key,
    name text not null,
    kind text not null,
    -- Either a crontab in a time zone, or an interval.
    crontab text,
    time_zone text,
    interval_seconds bigint,
    soft_limit_seconds bigint not null,
    time_limit_seconds bigint not null,
    attempts_max bigint not null,
    retry_pause_seconds bigint not null,
    overlap text not null,
    symbols text[] not null,
    source text,
    -- Opaque id of who defined it.
    defined_by text not null,
    defined_at timestamptz not null,
    -- The definition itself: runs before it are of a job of the same name that was removed.
    defined_position bigint not null,
    -- Under these settings it is due after this instant, and after the last due time that became a run or was skipped.
    settings_at timestamptz not null,
    due_taken timestamptz,
    -- When the log took the removal; the runs stay.
    removed_at timestamptz,
    -- Of the last event of any type in the job's stream: what `If-Match` is compared with.
    version bigint not null,
    position bigint not null
) with (fillfactor = 50);

create index jobs_by_name on jobs (name) where removed_at is null;

-- A run is named by the event that scheduled it, since a due time that was skipped has no run.
create table runs (
    job_id uuid not null,
    scheduled_position bigint not null,
    run_id uuid,
    due_at timestamptz not null,
    trigger text not null,
    -- scheduled, retrying, finished, failed, cancelled, skipped
    state text not null,
    -- Due times before it that passed without a run.
    missed bigint not null,
    -- The run that had failed for good and is tried again by this one; and the other way round.
    retry_of uuid,
    retried_by uuid,
    -- The run that was open when this one was skipped.
    open_run_id uuid,
    -- The attempt that is on or to come, or the last one.
    attempt bigint not null,
    -- Why the last attempt that failed did.
    reason text,
    result text,
    scheduled_at timestamptz not null,
    -- Of the last attempt that ended.
    started_at timestamptz,
    ended_at timestamptz,
    -- The attempt may not begin before.
    retry_at timestamptz,
    position bigint not null,
    constraint runs_key primary key (job_id, scheduled_position)
) with (fillfactor = 50);

create index runs_by_id on runs (run_id);
create index runs_by_state on runs (job_id, state, scheduled_position);
create index runs_open on runs (scheduled_position) where state in ('scheduled', 'retrying');
-- What can be tried again.
create index runs_failed on runs (job_id, scheduled_position) where state = 'failed' and retried_by is null;
-- A job's last run, behind as many skipped due times as there are.
create index runs_not_skipped on runs (job_id, scheduled_position) where state <> 'skipped';
