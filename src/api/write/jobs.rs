//! Jobs: defining, changing and removing them, and what is asked of their runs.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::answer::{CommandAnswer, Wish};
use crate::api::body::{Json, NoBody};
use crate::api::fields::Field;
use crate::api::headers::CommandHeaders;
use crate::api::openapi::{ChangeProblems, CreateProblems};
use crate::api::parameters::{ChangeHeaders, CreateHeaders};
use crate::api::path::{InPath, JobRef, RunInPath};
use crate::api::problem::Problem;
use crate::api::schema;
use crate::commands::Command;
use crate::domain::currency::Symbol;
use crate::domain::fields::Fields;
use crate::domain::ids::{JobId, RunId};
use crate::domain::job::{JobCommand, JobKind, JobSettings, Overlap, ScheduleWish, SettingsWish};
use crate::domain::rejection::Rejection;

/// When a job is due: by `crontab`, in `time_zone`, or by `interval_seconds`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = ScheduleWish, example = json!({"crontab": "30 2 * * mon-fri", "time_zone": "Europe/Berlin"}))]
pub(crate) struct ScheduleBody {
    /// Minute, hour, day of month, month, day of week, as of crontab(5). At fixed hours, a time in the hour that daylight saving
    /// skips runs once right after it, and one in the doubled hour once, the first time; in every hour it goes on in real time.
    #[schema(value_type = Option<String>, max_length = 200)]
    crontab: Field<String>,
    /// IANA time zone of the crontab; `UTC` if not told.
    #[schema(value_type = Option<String>)]
    time_zone: Field<String>,
    /// Seconds, counted from the start of 1970.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 31_622_400)]
    interval_seconds: Field<u32>,
}

impl ScheduleBody {
    fn wish(self, fields: &mut Fields) -> ScheduleWish {
        ScheduleWish {
            crontab: self.crontab.optional("schedule.crontab", fields),
            time_zone: self.time_zone.optional("schedule.time_zone", fields),
            interval_seconds: self.interval_seconds.optional("schedule.interval_seconds", fields),
        }
    }
}

/// Bodies with the settings of a job. They are written out, because what is flattened cannot be read strictly.
macro_rules! with_settings {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(Deserialize, ToSchema)]
        #[serde(deny_unknown_fields, expecting = "an object")]
        $(#[$doc])*
        pub(crate) struct $name {
            $($(#[$field_doc])* $field: $type,)*
            /// `fetch-quotes`, `fetch-history`, `fetch-rates`, `recompute-risk`, `verify` or `backup`.
            #[schema(value_type = schema::JobKind)]
            kind: Field<JobKind>,
            /// When it is due.
            #[schema(required = true)]
            schedule: Option<ScheduleBody>,
            /// After so many seconds an attempt is asked to end; nine tenths of the time limit if not told.
            #[schema(value_type = Option<u32>, minimum = 1)]
            soft_limit_seconds: Field<u32>,
            /// After so many seconds an attempt has failed: at most a week; an hour if not told.
            #[schema(value_type = Option<u32>, minimum = 1, maximum = 604_800)]
            time_limit_seconds: Field<u32>,
            /// Attempts at one run; 3 if not told.
            #[schema(value_type = Option<u32>, minimum = 1, maximum = 20)]
            attempts_max: Field<u32>,
            /// Seconds before the second attempt, doubled for each further one, a day at most; 60 if not told.
            #[schema(value_type = Option<u32>, minimum = 1, maximum = 86_400)]
            retry_pause_seconds: Field<u32>,
            /// At a due time while an earlier run is open: `skip` (default), or `allow` up to 16 at once.
            #[schema(value_type = Option<schema::Overlap>)]
            overlap: Field<Overlap>,
            /// For the kinds that fetch: at most 1,000 symbols; all that somebody holds if there are none.
            #[schema(value_type = Option<Vec<String>>, max_items = 1_000)]
            symbols: Option<Vec<Field<Symbol>>>,
            /// For the kinds that fetch: the source, if not that of each asset.
            #[schema(value_type = Option<String>, max_length = 50)]
            source: Field<String>,
        }

        impl $name {
            fn settings(self, fields: &mut Fields) -> Option<JobSettings> {
                let kind = self.kind.required("kind", fields);
                if self.schedule.is_none() {
                    fields.refuse("schedule", "is missing");
                }
                let schedule = self.schedule.map(|schedule| schedule.wish(fields));
                let soft_limit_seconds = self.soft_limit_seconds.optional("soft_limit_seconds", fields);
                let time_limit_seconds = self.time_limit_seconds.optional("time_limit_seconds", fields);
                let attempts_max = self.attempts_max.optional("attempts_max", fields);
                let retry_pause_seconds = self.retry_pause_seconds.optional("retry_pause_seconds", fields);
                let overlap = self.overlap.optional("overlap", fields);
                let symbols = symbols(self.symbols, fields);
                let source = self.source.optional("source", fields);
                let (kind, schedule) = (kind?, schedule?);
                let wish = SettingsWish {
                    kind, schedule, soft_limit_seconds, time_limit_seconds, attempts_max, retry_pause_seconds, overlap,
                    symbols, source,
                };
                wish.settle(fields)
            }
        }
    };
}

with_settings! {
    /// What is defined.
    #[schema(as = DefineJob, example = json!({
        "name": "nightly-risk", "kind": "recompute-risk", "schedule": {"crontab": "30 2 * * *", "time_zone": "Europe/Berlin"}
    }))]
    DefineBody {
        /// Its name, unique: 1 to 64 small letters, digits or any of `. _ -`.
        #[schema(value_type = String, max_length = 64)]
        name: Field<String>,
    }
}

with_settings! {
    /// All settings from now on; what is left out has its default again.
    #[schema(as = ChangeJob, example = json!({
        "kind": "recompute-risk", "schedule": {"interval_seconds": 21_600}, "time_limit_seconds": 600
    }))]
    ChangeBody {}
}

fn symbols(given: Option<Vec<Field<Symbol>>>, fields: &mut Fields) -> Vec<String> {
    let mut symbols = Vec::new();
    for (i, symbol) in given.unwrap_or_default().into_iter().enumerate() {
        symbols.extend(symbol.required(&format!("symbols[{i}]"), fields).map(|symbol| symbol.to_string()));
    }
    symbols
}

impl DefineBody {
    fn command(mut self) -> Result<(JobId, JobCommand), Rejection> {
        let mut fields = Fields::new();
        let name = std::mem::replace(&mut self.name, Field::Absent).required("name", &mut fields);
        let settings = self.settings(&mut fields);
        let (Some(name), Some(settings)) = (name, settings) else { return Err(fields.rejection()) };
        fields.finish()?;
        Ok((JobId::named(&name), JobCommand::Define { name, settings }))
    }
}

impl ChangeBody {
    fn command(self) -> Result<JobCommand, Rejection> {
        let mut fields = Fields::new();
        let Some(settings) = self.settings(&mut fields) else { return Err(fields.rejection()) };
        fields.finish()?;
        Ok(JobCommand::Change { settings })
    }
}

/// Define a job
///
/// It becomes due from now on. The same again changes nothing.
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs", operation_id = "defineJob",
    params(CreateHeaders), request_body = DefineBody,
    responses((status = 201, description = "Defined", body = CommandAnswer),
        (status = 200, description = "It was defined so before", body = CommandAnswer), CreateProblems))]
pub(crate) async fn define(
    State(api): State<Arc<Api>>,
    headers: CommandHeaders,
    body: Json<DefineBody>,
) -> Result<Response, Problem> {
    let headers = headers.without_version()?;
    let hash = body.hash(None, &[])?;
    let (job_id, command) = body.value.command()?;
    let command = Command::Job { job_id, command };
    api.create("/v1/jobs", Wish { command, headers, hash, occurred_at: None }).await
}

/// Change a job
///
/// An attempt that is on goes on as it began; the next attempts, also of runs that are open, follow the new settings. A due time that
/// has passed is not caught up.
#[utoipa::path(post, path = "/v1/jobs/{job}/change", tag = "jobs", operation_id = "changeJob",
    params(JobRef, ChangeHeaders), request_body = ChangeBody,
    responses((status = 201, description = "Changed", body = CommandAnswer),
        (status = 200, description = "It was so before", body = CommandAnswer), ChangeProblems))]
pub(crate) async fn change(
    State(api): State<Arc<Api>>,
    InPath(JobRef(job_id)): InPath<JobRef>,
    headers: CommandHeaders,
    body: Json<ChangeBody>,
) -> Result<Response, Problem> {
    let hash = body.hash(headers.if_match, &[])?;
    let command = Command::Job { job_id, command: body.value.command()? };
    api.change(Wish { command, headers, hash, occurred_at: None }).await
}

/// Remove a job
///
/// It is never due again, and its open runs are cancelled. Another job may take its name.
#[utoipa::path(post, path = "/v1/jobs/{job}/remove", tag = "jobs", operation_id = "removeJob",
    params(JobRef, ChangeHeaders),
    responses((status = 201, description = "Removed", body = CommandAnswer), ChangeProblems))]
pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    InPath(JobRef(job_id)): InPath<JobRef>,
    headers: CommandHeaders,
    body: NoBody,
) -> Result<Response, Problem> {
    api.ask(job_id, JobCommand::Remove, headers, &body).await
}

/// Run a job now
///
/// Beside its schedule. The run's id is the answer's `command_id`.
#[utoipa::path(post, path = "/v1/jobs/{job}/run", tag = "jobs", operation_id = "runJob",
    params(JobRef, ChangeHeaders),
    responses((status = 201, description = "A run is to be carried out", body = CommandAnswer), ChangeProblems))]
pub(crate) async fn run(
    State(api): State<Arc<Api>>,
    InPath(JobRef(job_id)): InPath<JobRef>,
    headers: CommandHeaders,
    body: NoBody,
) -> Result<Response, Problem> {
    let run_id = RunId(headers.command_id);
    api.ask(job_id, JobCommand::RunNow { run_id }, headers, &body).await
}

/// Cancel a job's open runs
///
/// Whoever carries them out is told to end.
#[utoipa::path(post, path = "/v1/jobs/{job}/cancel", tag = "jobs", operation_id = "cancelRuns",
    params(JobRef, ChangeHeaders),
    responses((status = 201, description = "Cancelled", body = CommandAnswer), ChangeProblems))]
pub(crate) async fn cancel_open(
    State(api): State<Arc<Api>>,
    InPath(JobRef(job_id)): InPath<JobRef>,
    headers: CommandHeaders,
    body: NoBody,
) -> Result<Response, Problem> {
    api.ask(job_id, JobCommand::CancelOpen, headers, &body).await
}

/// Cancel a run
///
/// Whoever carries it out is told to end.
#[utoipa::path(post, path = "/v1/jobs/{job}/runs/{run}/cancel", tag = "jobs", operation_id = "cancelRun",
    params(RunInPath, ChangeHeaders),
    responses((status = 201, description = "Cancelled", body = CommandAnswer), ChangeProblems))]
pub(crate) async fn cancel(
    State(api): State<Arc<Api>>,
    RunInPath { job: JobRef(job_id), run: run_id }: RunInPath,
    headers: CommandHeaders,
    body: NoBody,
) -> Result<Response, Problem> {
    api.ask(job_id, JobCommand::CancelRun { run_id }, headers, &body).await
}

/// Try a run again that failed for good
///
/// By a new run, for the same due time. Its id is the answer's `command_id`.
#[utoipa::path(post, path = "/v1/jobs/{job}/runs/{run}/retry", tag = "jobs", operation_id = "retryRun",
    params(RunInPath, ChangeHeaders),
    responses((status = 201, description = "A run is to be carried out", body = CommandAnswer), ChangeProblems))]
pub(crate) async fn retry(
    State(api): State<Arc<Api>>,
    RunInPath { job: JobRef(job_id), run: run_id }: RunInPath,
    headers: CommandHeaders,
    body: NoBody,
) -> Result<Response, Problem> {
    let new_run_id = RunId(headers.command_id);
    api.ask(job_id, JobCommand::RetryRun { run_id, new_run_id }, headers, &body).await
}

impl Api {
    /// Runs a command that says all in its address.
    async fn ask(
        &self,
        job_id: JobId,
        command: JobCommand,
        headers: CommandHeaders,
        body: &NoBody,
    ) -> Result<Response, Problem> {
        let hash = body.hash(headers.if_match)?;
        let command = Command::Job { job_id, command };
        self.change(Wish { command, headers, hash, occurred_at: None }).await
    }
}
