//! The rows that say who is at which run. Every time in them is the database's.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::types::Uuid;

use crate::domain::ids::{RunId, Shard};
use crate::postgres::{answered, answered_within};
use crate::queries::job_plan::OpenRun;

/// How long a lease lasts without a word of its owner.
pub(super) const LEASE: Duration = Duration::from_secs(10);
/// How long the owner waits for the answer to such a word.
const RENEWED_WITHIN: Duration = Duration::from_secs(3);

/// What came of asking for a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Claimed {
    /// It is ours, after so many owners in a row that were lost.
    Mine { lost: i32 },
    /// Somebody has it, for so long at least.
    Held(Duration),
}

/// What came of moving a lease on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewed {
    /// It is ours.
    Kept,
    /// It is ours, and the run is not wanted any more.
    Cancelled,
    /// It is somebody else's, or nobody's.
    Gone,
}

/// Takes the lease of a run, if nobody has it. One that ends later than anybody may have asked for is of a time before the
/// database's clock was put back: its owner, if it lives, moves it on within a second.
pub(super) async fn claim(pool: &PgPool, run: &OpenRun, owner: &str) -> Result<Claimed, sqlx::Error> {
    const CLAIM: &str = "insert into job_leases (run_id, job_id, shard, attempt, owner, started_at, leased_until) \
        values ($1, $2, $3, $4, $5, clock_timestamp(), clock_timestamp() + $6 * interval '1 second') \
        on conflict (run_id) do update set attempt = excluded.attempt, owner = excluded.owner, \
            started_at = excluded.started_at, leased_until = excluded.leased_until, cancel_requested = false, \
            lost = case when job_leases.attempt = excluded.attempt and job_leases.owner <> excluded.owner \
                then job_leases.lost + 1 else 0 end, \
            done = null, total = null \
        where job_leases.leased_until < clock_timestamp() or job_leases.owner = excluded.owner \
            or job_leases.leased_until > clock_timestamp() + 2 * $6 * interval '1 second' \
        returning lost";
    const HELD: &str = "select greatest(extract(epoch from leased_until - clock_timestamp()), 0)::float8 \
        from job_leases where run_id = $1";
    let claimed = sqlx::query_scalar(CLAIM)
        .bind(run.run_id.0)
        .bind(run.job_id.0)
        .bind(run.shard.0)
        .bind(i32::try_from(run.attempt).unwrap_or(i32::MAX))
        .bind(owner)
        .bind(LEASE.as_secs_f64())
        .fetch_optional(pool);
    if let Some(lost) = answered(claimed).await? {
        return Ok(Claimed::Mine { lost });
    }
    let held: Option<f64> =
        answered(sqlx::query_scalar(HELD).bind(run.run_id.0).fetch_optional(pool)).await?;
    Ok(Claimed::Held(Duration::from_secs_f64(held.unwrap_or(0.0)).min(LEASE)))
}

/// Moves the lease on, and says how far the attempt is.
pub(super) async fn renew(
    pool: &PgPool,
    run: &OpenRun,
    owner: &str,
    (done, total): (Option<i64>, Option<i64>),
) -> Result<Renewed, sqlx::Error> {
    const SQL: &str = "update job_leases set leased_until = clock_timestamp() + $4 * interval '1 second', \
        done = $5, total = $6 where run_id = $1 and owner = $2 and attempt = $3 returning cancel_requested";
    let renewed = sqlx::query_scalar(SQL)
        .bind(run.run_id.0)
        .bind(owner)
        .bind(i32::try_from(run.attempt).unwrap_or(i32::MAX))
        .bind(LEASE.as_secs_f64())
        .bind(done)
        .bind(total)
        .fetch_optional(pool);
    Ok(match answered_within(RENEWED_WITHIN, renewed).await? {
        Some(false) => Renewed::Kept,
        Some(true) => Renewed::Cancelled,
        None => Renewed::Gone,
    })
}

/// Gives the lease of an attempt back. Of this one only: a word that comes late must not take the next attempt's lease.
pub(super) async fn release(pool: &PgPool, run: &OpenRun, owner: &str) -> Result<(), sqlx::Error> {
    const SQL: &str = "delete from job_leases where run_id = $1 and owner = $2 and attempt = $3";
    let attempt = i32::try_from(run.attempt).unwrap_or(i32::MAX);
    let released = sqlx::query(SQL).bind(run.run_id.0).bind(owner).bind(attempt).execute(pool);
    answered_within(RENEWED_WITHIN, released).await?;
    Ok(())
}

/// Tells owners, wherever they are, that these runs are not wanted any more.
pub(super) async fn cancel(pool: &PgPool, runs: &[RunId]) -> Result<(), sqlx::Error> {
    const SQL: &str = "update job_leases set cancel_requested = true where run_id = any($1)";
    answered_within(RENEWED_WITHIN, sqlx::query(SQL).bind(ids(runs)).execute(pool)).await?;
    Ok(())
}

/// Drops what is left of attempts that have ended.
pub(super) async fn forget(pool: &PgPool, ended: &[(RunId, u32)]) -> Result<(), sqlx::Error> {
    const SQL: &str = "delete from job_leases l using unnest($1::uuid[], $2::integer[]) as e(run_id, attempt) \
        where l.run_id = e.run_id and l.attempt <= e.attempt";
    let runs: Vec<RunId> = ended.iter().map(|(run_id, _)| *run_id).collect();
    let attempts: Vec<i32> =
        ended.iter().map(|(_, attempt)| i32::try_from(*attempt).unwrap_or(i32::MAX)).collect();
    let dropped = sqlx::query(SQL).bind(ids(&runs)).bind(attempts).execute(pool);
    answered_within(RENEWED_WITHIN, dropped).await?;
    Ok(())
}

/// Says that a worker is there, and of which shards it takes runs; drops what nobody has looked after for an hour.
pub(super) async fn show(
    pool: &PgPool,
    owner: &str,
    slots: usize,
    shards: &[Shard],
) -> Result<(), sqlx::Error> {
    const SHOW: &str = "insert into job_workers (owner, slots, shards, started_at, seen_at) \
        values ($1, $2, $3, clock_timestamp(), clock_timestamp()) \
        on conflict (owner) do update set shards = excluded.shards, seen_at = excluded.seen_at";
    const SWEEP: &str = "with workers as (delete from job_workers where seen_at < clock_timestamp() - interval '1 hour') \
        delete from job_leases where leased_until < clock_timestamp() - interval '1 hour'";
    let shards: Vec<i16> = shards.iter().map(|shard| shard.0).collect();
    let slots = i16::try_from(slots).unwrap_or(i16::MAX);
    let shown = sqlx::query(SHOW).bind(owner).bind(slots).bind(shards).execute(pool);
    answered_within(RENEWED_WITHIN, shown).await?;
    answered_within(RENEWED_WITHIN, sqlx::query(SWEEP).execute(pool)).await?;
    Ok(())
}

/// Says that a worker has gone.
pub(super) async fn hide(pool: &PgPool, owner: &str) -> Result<(), sqlx::Error> {
    const SQL: &str = "delete from job_workers where owner = $1";
    answered_within(RENEWED_WITHIN, sqlx::query(SQL).bind(owner).execute(pool)).await?;
    Ok(())
}

fn ids(runs: &[RunId]) -> Vec<Uuid> {
    runs.iter().map(|run| run.0).collect()
}
