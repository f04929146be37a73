//! What schedulers and workers begin with: what becomes due, and what is open.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use sqlx::PgPool;

use super::{Error, snapshot};
use crate::domain::ids::{Epoch, JobId, Position, RunId, Shard};
use crate::domain::job::{JobSettings, Schedule};
use crate::event_store::Place;

/// The session lock of the scheduler that acts.
pub const SCHEDULER_LOCK: &str = "scheduler";

/// A job, as far as its times go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedJob {
    /// The job.
    pub job_id: JobId,
    /// Its name.
    pub name: String,
    /// When it is due.
    pub schedule: Schedule,
    /// Since when it is due by this schedule.
    pub since: DateTime<Utc>,
    /// The last due time that was taken.
    pub due_taken: Option<DateTime<Utc>>,
}

/// What runs of a job are carried out by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownJob {
    /// The job.
    pub job_id: JobId,
    /// Of its stream.
    pub shard: Shard,
    /// Its name.
    pub name: String,
    /// Its settings as of now.
    pub settings: JobSettings,
}

/// A run that is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// The run.
    pub run_id: RunId,
    /// Its job.
    pub job_id: JobId,
    /// Of the job's stream.
    pub shard: Shard,
    /// When it was due.
    pub due_at: DateTime<Utc>,
    /// The attempt that is to be made or being made, from 1.
    pub attempt: u32,
    /// Before this the attempt may not begin.
    pub retry_at: Option<DateTime<Utc>>,
    /// When the log took it: a run that is tried again was due long before.
    pub scheduled_at: DateTime<Utc>,
    /// Of the last event about it that is known here. What the log says of it later is not.
    pub position: Position,
}

/// Jobs and open runs of some shards, as of a place in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The jobs.
    pub jobs: Vec<KnownJob>,
    /// The runs, the oldest first.
    pub runs: Vec<OpenRun>,
    /// Runs that somebody still has although they have ended.
    pub idle: Vec<RunId>,
    /// Events after these are not in it.
    pub places: Vec<(Shard, Place)>,
}

/// A run that waits for a worker, and all that is needed to carry it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingRun {
    /// The run.
    pub run: OpenRun,
    /// Its job.
    pub job: KnownJob,
}

/// Whether there is anything new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Another one when something has changed.
    pub state: String,
    /// By the clock of the database.
    pub now: DateTime<Utc>,
}

/// Asks whether jobs or runs have changed.
///
/// # Errors
/// The database.
pub async fn find_changes(pool: &PgPool) -> Result<Changes, Error> {
    let found = sqlx::query_file!("projections/jobs/find_changes.sql").fetch_one(pool).await?;
    Ok(Changes { state: found.state, now: found.now })
}

/// For how many seconds the oldest run that could go on has been waiting while nobody has it, by the clock of the database.
///
/// # Errors
/// The database.
pub async fn find_longest_wait(pool: &PgPool) -> Result<f64, Error> {
    Ok(sqlx::query_file_scalar!("projections/jobs/find_longest_wait.sql").fetch_one(pool).await?)
}

/// Every job that becomes due by itself.
///
/// # Errors
/// The database.
pub async fn list_planned_jobs(pool: &PgPool) -> Result<Vec<PlannedJob>, Error> {
    let rows = sqlx::query_file!("projections/jobs/list_planned_jobs.sql").fetch_all(pool).await?;
    let planned = rows.into_iter().map(|row| {
        Ok(PlannedJob {
            job_id: JobId(row.job_id),
            schedule: schedule(row.crontab, row.time_zone, row.interval_seconds)?,
            name: row.name,
            since: row.settings_at,
            due_taken: row.due_taken,
        })
    });
    planned.collect()
}

/// The job in a row that has all of its settings.
macro_rules! known_job {
    ($row:ident, $shard:expr) => {
        KnownJob {
            job_id: JobId($row.job_id),
            shard: $shard,
            name: $row.name,
            settings: JobSettings {
                kind: named(&$row.kind)?,
                schedule: schedule($row.crontab, $row.time_zone, $row.interval_seconds)?,
                soft_limit_seconds: number($row.soft_limit_seconds)?,
                time_limit_seconds: number($row.time_limit_seconds)?,
                attempts_max: number($row.attempts_max)?,
                retry_pause_seconds: number($row.retry_pause_seconds)?,
                overlap: named(&$row.overlap)?,
                symbols: $row.symbols,
                source: $row.source,
            },
        }
    };
}

/// The run in a row that has all of it.
macro_rules! open_run {
    ($row:ident, $shard:expr) => {
        OpenRun {
            run_id: RunId($row.run_id),
            job_id: JobId($row.job_id),
            shard: $shard,
            due_at: $row.due_at,
            attempt: number($row.attempt)?,
            retry_at: $row.retry_at,
            scheduled_at: $row.scheduled_at,
            position: Position($row.position),
        }
    };
}

/// Runs of any shard that nobody carries out although they could have begun `waited` ago, the oldest first.
///
/// # Errors
/// The database.
pub async fn list_waiting_runs(
    pool: &PgPool,
    waited: Duration,
    runs_max: i64,
) -> Result<Vec<WaitingRun>, Error> {
    let rows = sqlx::query_file!("projections/jobs/list_waiting_runs.sql", waited.as_secs_f64(), runs_max)
        .fetch_all(pool)
        .await?;
    let waiting = rows.into_iter().map(|row| {
        let shard = JobId(row.job_id).stream().shard();
        Ok(WaitingRun { run: open_run!(row, shard), job: known_job!(row, shard) })
    });
    waiting.collect()
}

/// What is open in some shards. One that has no rows yet begins before its first event.
///
/// # Errors
/// The database.
pub async fn load_open(pool: &PgPool, shards: &[Shard]) -> Result<Open, Error> {
    let mut tx = snapshot::begin(pool).await?;
    let numbers: Vec<i16> = shards.iter().map(|shard| shard.0).collect();
    let found = sqlx::query_file!("projections/jobs/list_places.sql", &numbers).fetch_all(&mut *tx).await?;
    let mut places: Vec<(Shard, Place)> = Vec::with_capacity(shards.len());
    for shard in shards {
        let place = found.iter().find(|row| row.shard == shard.0).map(|row| Place {
            epoch: Epoch(row.epoch),
            position: Position(row.position),
            event_id: row.event_id.as_ref().and_then(|id| id.parse().ok()),
            recorded_at: row.recorded_at,
        });
        places.push((*shard, place.unwrap_or_else(|| Place::origin(Epoch(1)))));
    }
    let mut jobs = Vec::new();
    for row in sqlx::query_file!("projections/jobs/list_known_jobs.sql").fetch_all(&mut *tx).await? {
        let job_id = JobId(row.job_id);
        let shard = job_id.stream().shard();
        if !shards.contains(&shard) {
            continue;
        }
        jobs.push(known_job!(row, shard));
    }
    let mut runs = Vec::new();
    for row in sqlx::query_file!("projections/jobs/list_open_runs.sql").fetch_all(&mut *tx).await? {
        let shard = JobId(row.job_id).stream().shard();
        if shards.contains(&shard) {
            runs.push(open_run!(row, shard));
        }
    }
    let idle =
        sqlx::query_file!("projections/jobs/list_idle_leases.sql", &numbers).fetch_all(&mut *tx).await?;
    let idle = idle.into_iter().map(|row| RunId(row.run_id)).collect();
    tx.commit().await?;
    Ok(Open { jobs, runs, idle, places })
}

fn schedule(
    crontab: Option<String>,
    time_zone: Option<String>,
    interval_seconds: Option<i64>,
) -> Result<Schedule, sqlx::Error> {
    match (crontab, time_zone, interval_seconds) {
        (Some(expression), Some(time_zone), _) => Ok(Schedule::Crontab { expression, time_zone }),
        (_, _, Some(seconds)) => Ok(Schedule::Interval { seconds: number(seconds)? }),
        _ => Err(sqlx::Error::Decode("a job has no schedule".into())),
    }
}

fn number(stored: i64) -> Result<u32, sqlx::Error> {
    u32::try_from(stored).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// The value that a projector stored by its name.
fn named<T: DeserializeOwned>(name: &str) -> Result<T, sqlx::Error> {
    let value = serde_json::from_value(serde_json::Value::String(name.to_owned()));
    value.map_err(|error| sqlx::Error::Decode(error.into()))
}
