//! Jobs with when they are due, and their runs with who carries them out.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::snapshot::{self, Answer, job_shards};
use super::{Error, Page, PageRequest};
use crate::domain::ids::{JOB_SHARD_FIRST, JobId, Position, RunId, SHARDS};
use crate::domain::job::Schedule;
use crate::domain::job::calendar::first_due_after;

/// What can become of a run. Who runs is known by a lease, everything else by the log.
pub const RUN_STATES: &[&str] =
    &["scheduled", "running", "retrying", "finished", "failed", "cancelled", "skipped"];

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// The job.
    pub job_id: Uuid,
    /// Its name.
    pub name: String,
    /// `fetch-quotes`, `fetch-history`, `fetch-rates`, `recompute-risk`, `verify`, `backup`.
    pub kind: String,
    /// Five fields, if it is due by a crontab.
    pub crontab: Option<String>,
    /// The zone that the crontab is read in.
    pub time_zone: Option<String>,
    /// Seconds, if it is due by an interval.
    pub interval_seconds: Option<i64>,
    /// After so many seconds an attempt is asked to end.
    pub soft_limit_seconds: i64,
    /// After so many seconds an attempt has failed.
    pub time_limit_seconds: i64,
    /// Attempts at one run.
    pub attempts_max: i64,
    /// Seconds before the second attempt.
    pub retry_pause_seconds: i64,
    /// `skip` or `allow`.
    pub overlap: String,
    /// What to fetch; all that is held if there are none.
    pub symbols: Vec<String>,
    /// Where to fetch it, if told.
    pub source: Option<String>,
    /// Opaque id of who defined it.
    pub defined_by: String,
    /// When it was defined.
    pub defined_at: DateTime<Utc>,
    /// When it was defined or changed last.
    pub settings_at: DateTime<Utc>,
    /// The latest due time that became a run or was skipped.
    pub due_taken: Option<DateTime<Utc>>,
    /// Of the job's stream: what `If-Match` is compared with.
    pub version: i64,
    /// Of the last event of that stream.
    pub position: i64,
    /// Where its last run stands in the log.
    pub last_position: Option<i64>,
    /// What became of that.
    pub last_state: Option<String>,
    /// When that was due.
    pub last_due_at: Option<DateTime<Utc>>,
    /// When that ended.
    pub last_ended_at: Option<DateTime<Utc>>,
    /// Runs that are to be carried out.
    pub open_runs: i64,
    /// Runs that failed for good and can be tried again; at most 200 are counted.
    pub failed_runs: i64,
}

impl JobRow {
    /// When it is due next. In the past, if the scheduler has not come to it yet.
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        let schedule = match (&self.crontab, &self.time_zone, self.interval_seconds) {
            (Some(expression), Some(time_zone), _) => {
                Schedule::Crontab { expression: expression.clone(), time_zone: time_zone.clone() }
            }
            (_, _, seconds) => Schedule::Interval { seconds: u32::try_from(seconds?).ok()? },
        };
        first_due_after(
            &schedule,
            self.due_taken.map_or(self.settings_at, |taken| taken.max(self.settings_at)),
        )
    }
}

/// A run, or a due time that passed without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// The job.
    pub job_id: Uuid,
    /// Its name.
    pub job: String,
    /// The event by which the run is there.
    pub scheduled_position: i64,
    /// The run; none for a due time that was skipped.
    pub run_id: Option<Uuid>,
    /// When it was due.
    pub due_at: DateTime<Utc>,
    /// `schedule`, `manual`, `retry`.
    pub trigger: String,
    /// `scheduled`, `running`, `retrying`, `finished`, `failed`, `cancelled`, `skipped`.
    pub state: String,
    /// Due times before it that passed without a run.
    pub missed: i64,
    /// The run that is tried again by this one.
    pub retry_of: Option<Uuid>,
    /// The run by which this one is tried again.
    pub retried_by: Option<Uuid>,
    /// The run that was open when this was skipped.
    pub open_run_id: Option<Uuid>,
    /// The attempt that is on or to come, or the last one.
    pub attempt: i64,
    /// Why the last attempt that failed did.
    pub reason: Option<String>,
    /// What came of it.
    pub result: Option<String>,
    /// When the log took it.
    pub scheduled_at: DateTime<Utc>,
    /// When the last attempt that ended began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When the next attempt may begin.
    pub retry_at: Option<DateTime<Utc>>,
    /// Of the last event about it.
    pub position: i64,
    /// Who carries it out.
    pub owner: Option<String>,
    /// Since when.
    pub running_since: Option<DateTime<Utc>>,
    /// Whether they were asked to end.
    pub cancel_requested: Option<bool>,
    /// How much is done.
    pub done: Option<i64>,
    /// Of how much.
    pub total: Option<i64>,
}

/// Jobs by name.
///
/// # Errors
/// [`Error::BadCursor`], the database.
pub async fn list_jobs(pool: &PgPool, page: &PageRequest) -> Result<Answer<Page<JobRow>>, Error> {
    const LIST: &str = "jobs";
    let name: Option<String> = page.key(LIST)?;
    let mut tx = snapshot::begin(pool).await?;
    let rows = sqlx::query_file_as!(
        JobRow,
        "projections/jobs/list_jobs.sql",
        None::<Uuid>,
        name.as_deref(),
        page.rows()
    )
    .fetch_all(&mut *tx)
    .await?;
    let page = page.page(LIST, rows, |row| row.name.clone());
    snapshot::answer(&mut tx, &job_shards().collect::<Vec<_>>(), &[], page).await
}

/// Names of the jobs that this actor defined and that are still there.
///
/// # Errors
/// The database.
pub async fn list_names_defined_by(pool: &PgPool, actor: &str) -> Result<Vec<String>, Error> {
    let rows = sqlx::query_file!("projections/jobs/list_names_defined_by.sql", actor).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// The last event of the log that is about a job: what rows must have seen to be up to date.
///
/// # Errors
/// The database.
pub async fn last_event(pool: &PgPool) -> Result<Option<Position>, Error> {
    const SQL: &str = "select max(l.position) from generate_series($1::int, $2::int) s(shard) cross join lateral \
        (select position from events e where e.shard = s.shard::smallint order by position desc limit 1) l";
    let last: Option<i64> = sqlx::query_scalar(SQL)
        .bind(i32::from(JOB_SHARD_FIRST))
        .bind(i32::from(SHARDS) - 1)
        .fetch_one(pool)
        .await?;
    Ok(last.map(Position))
}

/// The job, unless it was removed.
///
/// # Errors
/// The database.
pub async fn find_job(pool: &PgPool, id: JobId) -> Result<Option<Answer<JobRow>>, Error> {
    let mut tx = snapshot::begin(pool).await?;
    let row = sqlx::query_file_as!(JobRow, "projections/jobs/list_jobs.sql", Some(id.0), None::<&str>, 1)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let stream = id.stream();
    snapshot::answer(&mut tx, &[("jobs", stream.shard())], &[stream], row).await.map(Some)
}

/// A job's runs, the latest first; of one state, if told. A removed job has none.
///
/// # Errors
/// [`Error::BadCursor`], the database.
pub async fn list_runs(
    pool: &PgPool,
    id: JobId,
    state: Option<&str>,
    page: &PageRequest,
) -> Result<Answer<Page<RunRow>>, Error> {
    const LIST: &str = "runs";
    let position: Option<i64> = page.key(LIST)?;
    let mut tx = snapshot::begin(pool).await?;
    let limit = page.rows();
    let rows = match state {
        None => {
            sqlx::query_file_as!(RunRow, "projections/jobs/list_runs.sql", id.0, position, limit)
                .fetch_all(&mut *tx)
                .await?
        }
        Some("running") => {
            sqlx::query_file_as!(RunRow, "projections/jobs/list_running_runs.sql", id.0, position, limit)
                .fetch_all(&mut *tx)
                .await?
        }
        Some(state) => {
            sqlx::query_file_as!(
                RunRow,
                "projections/jobs/list_runs_in_state.sql",
                id.0,
                state,
                position,
                limit
            )
            .fetch_all(&mut *tx)
            .await?
        }
    };
    let page = page.page(LIST, rows, |row| row.scheduled_position);
    let stream = id.stream();
    snapshot::answer(&mut tx, &[("jobs", stream.shard())], &[stream], page).await
}

/// The run of a job.
///
/// # Errors
/// The database.
pub async fn find_run(pool: &PgPool, id: JobId, run_id: RunId) -> Result<Option<Answer<RunRow>>, Error> {
    let mut tx = snapshot::begin(pool).await?;
    let row = sqlx::query_file_as!(RunRow, "projections/jobs/find_run.sql", id.0, run_id.0)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let stream = id.stream();
    snapshot::answer(&mut tx, &[("jobs", stream.shard())], &[stream], row).await.map(Some)
}

/// Runs of all jobs that failed for good and can be tried again, the latest first.
///
/// # Errors
/// [`Error::BadCursor`], the database.
pub async fn list_failed_runs(pool: &PgPool, page: &PageRequest) -> Result<Answer<Page<RunRow>>, Error> {
    const LIST: &str = "failed_runs";
    let position: Option<i64> = page.key(LIST)?;
    let mut tx = snapshot::begin(pool).await?;
    let rows = sqlx::query_file_as!(RunRow, "projections/jobs/list_failed_runs.sql", position, page.rows())
        .fetch_all(&mut *tx)
        .await?;
    let page = page.page(LIST, rows, |row| row.scheduled_position);
    snapshot::answer(&mut tx, &job_shards().collect::<Vec<_>>(), &[], page).await
}
