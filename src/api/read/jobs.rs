//! Jobs: when they are due, and what became of their runs.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::answer::send;
use super::{Answered, List, One, Page, failed};
use crate::api::Api;
use crate::api::fields::{Field, FieldValue};
use crate::api::openapi::{FindProblems, ListProblems};
use crate::api::parameters::ReadHeaders;
use crate::api::path::{InPath, JobRef, RunInPath};
use crate::api::problem::Problem;
use crate::api::query::{Limit, Place, Query, WaitMs};
use crate::api::schema;
use crate::domain::fields::Fields;
use crate::queries::jobs::{self, JobRow, RunRow};

/// A job.
#[derive(Serialize, ToSchema)]
pub(crate) struct Job {
    /// The job; a function of its name.
    id: Uuid,
    /// Its name.
    #[schema(example = "nightly-risk")]
    name: String,
    /// What it does.
    #[schema(value_type = schema::JobKind)]
    kind: String,
    /// When it is due.
    schedule: Schedule,
    /// When it is due next; in the past, if the scheduler has not come to it yet.
    next_due_at: Option<DateTime<Utc>>,
    /// After so many seconds an attempt is asked to end.
    soft_limit_seconds: i64,
    /// After so many seconds an attempt has failed.
    time_limit_seconds: i64,
    /// Attempts at one run.
    attempts_max: i64,
    /// Seconds before the second attempt, doubled for each further one.
    retry_pause_seconds: i64,
    /// What happens at a due time while an earlier run is open.
    #[schema(value_type = schema::Overlap)]
    overlap: String,
    /// What to fetch; all that somebody holds if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    symbols: Vec<String>,
    /// Where to fetch it, if not from the source of each asset.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Who defined it: an opaque id.
    defined_by: String,
    /// When it was defined.
    defined_at: DateTime<Utc>,
    /// When it was defined or changed last.
    changed_at: DateTime<Utc>,
    /// Its last run; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_run: Option<LastRun>,
    /// Runs that are to be carried out or are being carried out.
    open_run_count: i64,
    /// Runs that failed for good and can be tried again; at most 200 are counted.
    failed_run_count: i64,
    /// The version of the stream: what `If-Match` takes. Every run moves it.
    version: i64,
}

/// When a job is due: by `crontab` in `time_zone`, or by `interval_seconds`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Schedule {
    /// Minute, hour, day of month, month, day of week.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "30 2 * * *")]
    crontab: Option<String>,
    /// IANA time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Europe/Berlin")]
    time_zone: Option<String>,
    /// Seconds, counted from the start of 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_seconds: Option<i64>,
}

/// What became of a job's last run.
#[derive(Serialize, ToSchema)]
pub(crate) struct LastRun {
    /// When it was due.
    due_at: DateTime<Utc>,
    /// What became of it.
    #[schema(value_type = schema::RunState)]
    state: String,
    /// When it ended; absent while it has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<DateTime<Utc>>,
}

/// A run, or a due time that was skipped. What does not apply is left out.
#[derive(Serialize, ToSchema)]
pub(crate) struct Run {
    /// The run: what `cancel` and `retry` take. Absent for a due time that was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
    /// Its job.
    job_id: Uuid,
    /// That job's name.
    #[schema(example = "nightly-risk")]
    job: String,
    /// When it was due.
    due_at: DateTime<Utc>,
    /// `schedule`, `manual` or `retry`.
    #[schema(value_type = schema::Trigger)]
    trigger: String,
    /// What became of it.
    #[schema(value_type = schema::RunState)]
    state: String,
    /// The attempt that is on or to come, or the last one.
    attempt: i64,
    /// Due times before it that passed without a run; 1000 stands for more.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    missed: i64,
    /// Why the last attempt that failed did.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    /// When the log took it.
    scheduled_at: DateTime<Utc>,
    /// When the last attempt that ended began.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<DateTime<Utc>>,
    /// When the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<DateTime<Utc>>,
    /// When the next attempt may begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<DateTime<Utc>>,
    /// The run that failed and is tried again by this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<Uuid>,
    /// The run by which this one is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retried_by: Option<Uuid>,
    /// The run that was still open when this one was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    open_run_id: Option<Uuid>,
    /// Who carries it out; absent while nobody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<Worker>,
}

/// Who carries a run out, and how far they are.
#[derive(Serialize, ToSchema)]
pub(crate) struct Worker {
    /// The process.
    owner: String,
    /// Since when.
    since: DateTime<Utc>,
    /// They were asked to end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    cancel_requested: bool,
    /// How much is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<i64>,
    /// Of how much.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<i64>,
}

fn is_zero(count: &i64) -> bool {
    *count == 0
}

impl From<JobRow> for Job {
    fn from(row: JobRow) -> Self {
        let next_due_at = row.next_due();
        let last = row.last_due_at.zip(row.last_state);
        Self {
            id: row.job_id,
            name: row.name,
            kind: row.kind,
            schedule: Schedule {
                crontab: row.crontab,
                time_zone: row.time_zone,
                interval_seconds: row.interval_seconds,
            },
            next_due_at,
            soft_limit_seconds: row.soft_limit_seconds,
            time_limit_seconds: row.time_limit_seconds,
            attempts_max: row.attempts_max,
            retry_pause_seconds: row.retry_pause_seconds,
            overlap: row.overlap,
            symbols: row.symbols,
            source: row.source,
            defined_by: row.defined_by,
            defined_at: row.defined_at,
            changed_at: row.settings_at,
            last_run: last.map(|(due_at, state)| LastRun { due_at, state, ended_at: row.last_ended_at }),
            open_run_count: row.open_runs,
            failed_run_count: row.failed_runs,
            version: row.version,
        }
    }
}

impl From<RunRow> for Run {
    fn from(row: RunRow) -> Self {
        let is_running = row.state == "running";
        let worker = row.owner.zip(row.running_since).filter(|_| is_running);
        Self {
            id: row.run_id,
            job_id: row.job_id,
            job: row.job,
            due_at: row.due_at,
            trigger: row.trigger,
            state: row.state,
            attempt: row.attempt,
            missed: row.missed,
            reason: row.reason,
            result: row.result,
            scheduled_at: row.scheduled_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            retry_at: row.retry_at,
            retry_of: row.retry_of,
            retried_by: row.retried_by,
            open_run_id: row.open_run_id,
            worker: worker.map(|(owner, since)| Worker {
                owner,
                since,
                cancel_requested: row.cancel_requested.unwrap_or_default(),
                done: row.done,
                total: row.total,
            }),
        }
    }
}

/// Which runs.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// In this state.
    #[param(value_type = Option<schema::RunState>)]
    state: Field<RunState>,
    /// Where the page begins: `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Field<String>,
    /// Rows of the page: 1 to 500; 50 if not told.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Field<Limit>,
    /// A place that the answer must have seen: the `place` of a command's answer, such as `1:901`.
    #[param(value_type = Option<String>)]
    min_position: Field<Place>,
    /// How long to wait for it, in milliseconds: 0 to 10,000; 2,000 if not told.
    #[param(value_type = Option<u32>)]
    max_wait_ms: Field<WaitMs>,
}

/// What can become of a run.
pub(crate) struct RunState(&'static str);

impl FieldValue for RunState {
    const EXPECTED: &'static str =
        "one of scheduled, running, retrying, finished, failed, cancelled, skipped";
    const WORDS: &'static [&'static str] = jobs::RUN_STATES;
    fn from_text(text: &str) -> Result<Self, String> {
        Self::WORDS.iter().find(|word| **word == text).map(|word| Self(word)).ok_or_else(Self::refusal)
    }
}

/// List jobs
///
/// By name.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", operation_id = "listJobs",
    params(List, ReadHeaders),
    responses((status = 200, description = "A page", body = Answered<Page<Job>>), ListProblems))]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Query(list): Query<List>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut fields = Fields::new();
    let (page, freshness) = list.read(&mut fields);
    fields.finish()?;
    api.wait_for(&freshness, &["jobs"], None).await?;
    let answer = jobs::list_jobs(&api.pool, &page).await.map_err(failed)?;
    Ok(send(&request, answer, Page::<Job>::of))
}

/// Find a job
///
/// With when it is due next.
#[utoipa::path(get, path = "/v1/jobs/{job}", tag = "jobs", operation_id = "findJob",
    params(JobRef, One, ReadHeaders),
    responses((status = 200, description = "The job", body = Answered<Job>), FindProblems))]
pub(crate) async fn find(
    State(api): State<Arc<Api>>,
    InPath(JobRef(id)): InPath<JobRef>,
    Query(one): Query<One>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    api.wait_for(&one.read()?, &["jobs"], None).await?;
    let found = jobs::find_job(&api.pool, id).await.map_err(failed)?;
    Ok(send(&request, found.ok_or_else(|| Problem::not_found("job"))?, Job::from))
}

/// List a job's runs
///
/// The latest first, with the due times that were skipped.
#[utoipa::path(get, path = "/v1/jobs/{job}/runs", tag = "jobs", operation_id = "listRuns",
    params(JobRef, Which, ReadHeaders),
    responses((status = 200, description = "A page", body = Answered<Page<Run>>), FindProblems))]
pub(crate) async fn list_runs(
    State(api): State<Arc<Api>>,
    InPath(JobRef(id)): InPath<JobRef>,
    Query(which): Query<Which>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut fields = Fields::new();
    let Which { state, after, limit, min_position, max_wait_ms } = which;
    let state = state.optional("state", &mut fields).map(|RunState(state)| state);
    let (page, freshness) = List { after, limit, min_position, max_wait_ms }.read(&mut fields);
    fields.finish()?;
    api.wait_for(&freshness, &["jobs"], None).await?;
    let answer = jobs::list_runs(&api.pool, id, state, &page).await.map_err(failed)?;
    // A job may have no run yet: an empty page may be for want of a job.
    if answer.data.items.is_empty() && jobs::find_job(&api.pool, id).await.map_err(failed)?.is_none() {
        return Err(Problem::not_found("job"));
    }
    Ok(send(&request, answer, Page::<Run>::of))
}

/// Find a run
///
/// With who carries it out, and how far they are.
#[utoipa::path(get, path = "/v1/jobs/{job}/runs/{run}", tag = "jobs", operation_id = "findRun",
    params(RunInPath, One, ReadHeaders),
    responses((status = 200, description = "The run", body = Answered<Run>), FindProblems))]
pub(crate) async fn find_run(
    State(api): State<Arc<Api>>,
    RunInPath { job: JobRef(id), run }: RunInPath,
    Query(one): Query<One>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    api.wait_for(&one.read()?, &["jobs"], None).await?;
    let found = jobs::find_run(&api.pool, id, run).await.map_err(failed)?;
    Ok(send(&request, found.ok_or_else(|| Problem::not_found("run"))?, Run::from))
}

/// List what failed for good
///
/// Of all jobs, the latest first, without what was tried again. `retry` takes `job` and `id`. Of one job the latest 200 are kept.
#[utoipa::path(get, path = "/v1/jobs/failed", tag = "jobs", operation_id = "listFailedRuns",
    params(List, ReadHeaders),
    responses((status = 200, description = "A page", body = Answered<Page<Run>>), ListProblems))]
pub(crate) async fn list_failed(
    State(api): State<Arc<Api>>,
    Query(list): Query<List>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut fields = Fields::new();
    let (page, freshness) = list.read(&mut fields);
    fields.finish()?;
    api.wait_for(&freshness, &["jobs"], None).await?;
    let answer = jobs::list_failed_runs(&api.pool, &page).await.map_err(failed)?;
    Ok(send(&request, answer, Page::<Run>::of))
}
