//! How the installation is doing, for people and for what watches it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use utoipa::ToSchema;
use uuid::Uuid;

use super::failed;
use crate::api::Api;
use crate::api::openapi::StatusProblems;
use crate::api::problem::Problem;
use crate::queries::{self, status};

/// What tells how the installation is doing.
pub type AskStatus =
    Box<dyn Fn() -> BoxFuture<'static, Result<status::Status, queries::Error>> + Send + Sync>;

/// How the installation is doing.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the document is that of `queries::status`; here it is described")]
struct Status {
    /// Version of the program that answers.
    #[schema(example = "0.1.0")]
    program: String,
    /// The end of the log.
    head: StatusHead,
    /// Events appended per second, just now.
    appended_per_second: f64,
    /// Each read model.
    read_models: Vec<StatusReadModel>,
    /// Scheduled work.
    work: StatusWork,
    /// The way to the bus; absent where there is none.
    #[schema(required = false)]
    bus: StatusBus,
    /// What does not get on, in words; empty when all is well.
    #[schema(example = json!(["holdings has 1 stream parked: see `insight parked list holdings`"]))]
    stuck: Vec<String>,
}

/// The end of the log.
#[derive(ToSchema)]
#[allow(dead_code, reason = "described")]
struct StatusHead {
    /// The history.
    #[schema(example = 1)]
    epoch: i32,
    /// The last position.
    #[schema(example = 901)]
    position: i64,
    /// When the log took it; null before the first event.
    recorded_at: Option<DateTime<Utc>>,
}

/// A read model beside the log.
#[derive(ToSchema)]
#[allow(dead_code, reason = "described")]
struct StatusReadModel {
    /// Its name.
    #[schema(example = "holdings")]
    name: String,
    /// What its tables were made from; null if they are not there.
    #[schema(example = "shape 0f8e4c1a3d5b5c2e9f7a6b1d2c3e4f50")]
    shape: Option<String>,
    /// The version of that shape, which is part of the schema's name from the second on.
    #[schema(example = 1)]
    shape_version: u32,
    /// Everything up to here is in its rows.
    position: i64,
    /// Events of the log beyond that.
    lag_events: i64,
    /// How long the first of them has waited.
    lag_seconds: f64,
    /// Positions it moves on by per second, just now.
    events_per_second: f64,
    /// Who works on which shards.
    owners: Vec<StatusOwner>,
    /// How many streams are parked.
    parked_count: i64,
    /// The first hundred of them.
    parked: Vec<StatusParked>,
    /// How many events were skipped on purpose.
    skipped_count: i64,
}

/// Who works on shards.
#[derive(ToSchema)]
#[allow(dead_code, reason = "described")]
struct StatusOwner {
    /// The process, as it calls itself.
    #[schema(example = "insight/4711@ledger-1")]
    who: String,
    /// Where it is; absent if that is not known.
    #[schema(required = false, example = "10.0.0.7")]
    host: String,
    /// The shards, in order.
    shards: Vec<i16>,
}

/// A stream that holds an event which could not be applied.
#[derive(ToSchema)]
#[allow(dead_code, reason = "described")]
struct StatusParked {
    /// The stream.
    stream_id: String,
    /// The first event whose effect is missing.
    position: i64,
    /// Its name.
    event_id: String,
    /// Why it could not be applied.
    reason: String,
}

/// Scheduled work.
#[derive(ToSchema)]
#[allow(dead_code, reason = "described")]
struct StatusWork {
    /// Who makes runs of due times; null if nobody does.
    scheduler: Option<StatusOwner>,
    /// Jobs that become due by themselves.
    jobs: i64,
    /// Runs that may begin or are being carried out.
    open_runs: i64,
    /// How long the first of them that nobody carries out has waited.
    waiting_seconds: f64,
    /// Processes that carry out runs.
    workers: Vec<StatusWorker>,
}

/// A process that carries out runs.
#[derive(ToSchema)]
#[allow(dead_code, reason = "described")]
struct StatusWorker {
    /// The process, as it calls itself.
    #[schema(example = "insight/4711@ledger-1 9c2e11af")]
    who: String,
    /// Runs that it carries out at once.
    #[schema(example = 2)]
    slots: i16,
    /// The shards whose runs it takes.
    shards: Vec<i16>,
    /// What it carries out.
    runs: Vec<StatusRun>,
}

/// A run that is being carried out.
#[derive(ToSchema)]
#[allow(dead_code, reason = "described")]
struct StatusRun {
    /// The name of its job; null if that is not known yet.
    #[schema(example = "nightly")]
    job: Option<String>,
    /// The run.
    run_id: Uuid,
    /// The attempt, from 1.
    #[schema(example = 1)]
    attempt: i32,
    /// Since so long.
    seconds: f64,
    /// How much is done; null if that is not known.
    done: Option<i64>,
    /// Of how much; null if that is not known.
    total: Option<i64>,
}

/// The way to the bus.
#[derive(ToSchema)]
#[allow(dead_code, reason = "described")]
struct StatusBus {
    /// Who copies the log; null if nobody does.
    relay: Option<StatusOwner>,
    /// Each topic.
    topics: Vec<StatusTopic>,
    /// Why the brokers could not be asked who owns which shards; absent if they could.
    #[schema(required = false)]
    trouble: String,
}

/// How far the log is in a topic.
#[derive(ToSchema)]
#[allow(dead_code, reason = "described")]
struct StatusTopic {
    /// Its name.
    #[schema(example = "portfolio.events.v1")]
    name: String,
    /// The last position that is known to be in it.
    position: i64,
    /// Events that wait to be copied, at most 10,000 of each shard.
    lag_events: i64,
    /// How long the first of them has waited.
    lag_seconds: f64,
}

/// How the installation is doing
///
/// The end of the log, each read model beside it with who works on it and what is parked, who schedules and works, and the way to the bus. It looks
/// twice, a second apart, to tell rates. What `insight status --json` prints.
#[utoipa::path(get, path = "/v1/status", tag = "operations", operation_id = "status",
    responses((status = 200, description = "How it is doing", body = Status), StatusProblems))]
pub(crate) async fn show(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let status = (api.status)().await.map_err(failed)?;
    Ok(Json(status).into_response())
}
