//! What happened to jobs and their runs.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::ids::{JobId, RunId, Shard};

/// What happened to a job. All in the stream `job-…`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub enum JobEvent {
    /// A job is there, and becomes due from now on.
    JobDefined(JobDefined),
    /// Its settings are others now.
    JobChanged(JobChanged),
    /// It is never due again.
    JobRemoved(JobRemoved),
    /// A run is to be carried out.
    RunScheduled(RunScheduled),
    /// A due time passed without a run, because another one was still open.
    RunSkipped(RunSkipped),
    /// A run did what it was for.
    RunFinished(RunFinished),
    /// An attempt at a run failed.
    RunFailed(RunFailed),
    /// A run is not wanted any more.
    RunCancelled(RunCancelled),
}

impl JobEvent {
    /// The job concerned.
    pub fn job_id(&self) -> JobId {
        match self {
            Self::JobDefined(event) => event.job_id,
            Self::JobChanged(event) => event.job_id,
            Self::JobRemoved(event) => event.job_id,
            Self::RunScheduled(event) => event.job_id,
            Self::RunSkipped(event) => event.job_id,
            Self::RunFinished(event) => event.job_id,
            Self::RunFailed(event) => event.job_id,
            Self::RunCancelled(event) => event.job_id,
        }
    }
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// Asks sources for the newest prices of what is held.
    FetchQuotes,
    /// Asks sources for closes by day of what is held.
    FetchHistory,
    /// Asks sources for exchange rates.
    FetchRates,
    /// Computes the risk of every portfolio anew.
    RecomputeRisk,
    /// Compares the log and the read models with the reference ledger.
    Verify,
    /// Writes a backup of the database into the backup folder.
    Backup,
}

/// When a job is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Five fields as of crontab(5), read in a time zone.
    Crontab {
        /// Minute, hour, day of month, month, day of week.
        expression: String,
        /// IANA time zone, for example `Europe/Berlin`.
        time_zone: String,
    },
    /// Every so many seconds, counted from the start of 1970 in UTC, so that the times depend on nothing else.
    Interval {
        /// Seconds.
        seconds: u32,
    },
}

/// What happens at a due time while an earlier run is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The due time passes without a run.
    #[default]
    Skip,
    /// The new run stands beside the old one.
    Allow,
}

/// Everything about a job that can be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobSettings {
    /// What it does.
    pub kind: JobKind,
    /// When it is due.
    pub schedule: Schedule,
    /// After so many seconds an attempt is asked to end, and told so in its logs.
    pub soft_limit_seconds: u32,
    /// After so many seconds an attempt is ended, and has failed.
    pub time_limit_seconds: u32,
    /// Attempts at one run.
    pub attempts_max: u32,
    /// Seconds before the second attempt; doubled for each further one.
    pub retry_pause_seconds: u32,
    /// While an earlier run is open.
    pub overlap: Overlap,
    /// For the kinds that fetch: symbols; all that somebody holds if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub symbols: Vec<String>,
    /// For the kinds that fetch: the source, if not that of each asset.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
}

/// Payload of `JobDefined`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobDefined {
    /// The job; a function of its name, so that a name names one job.
    pub job_id: JobId,
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: JobSettings,
    /// It is due after this instant.
    pub defined_at: DateTime<Utc>,
}

/// Payload of `JobChanged`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobChanged {
    /// The job.
    pub job_id: JobId,
    /// Its settings from now on.
    pub settings: JobSettings,
    /// Under these it is due after this instant.
    pub changed_at: DateTime<Utc>,
}

/// Payload of `JobRemoved`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobRemoved {
    /// The job.
    pub job_id: JobId,
}

/// Why there is a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The job was due.
    Schedule,
    /// Someone asked for it.
    Manual,
    /// Someone asked for what had failed for good.
    Retry,
}

/// Payload of `RunScheduled`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunScheduled {
    /// The job.
    pub job_id: JobId,
    /// The run; of a schedule, a function of the job and the due time.
    pub run_id: RunId,
    /// When it was due.
    pub due_at: DateTime<Utc>,
    /// Why.
    pub trigger: Trigger,
    /// Due times before this one that were missed and are not caught up.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub missed: u32,
    /// The run that had failed for good and is tried again by this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_of: Option<RunId>,
}

/// Payload of `RunSkipped`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunSkipped {
    /// The job.
    pub job_id: JobId,
    /// When it was due.
    pub due_at: DateTime<Utc>,
    /// The run that was still open.
    pub open_run_id: RunId,
    /// Due times before this one that passed while the same run was open, and were not told one by one.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub missed: u32,
}

/// Payload of `RunFinished`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunFinished {
    /// The job.
    pub job_id: JobId,
    /// The run.
    pub run_id: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When the attempt began.
    pub started_at: DateTime<Utc>,
    /// When it was done.
    pub finished_at: DateTime<Utc>,
    /// What came of it, in a sentence.
    pub result: String,
}

/// Payload of `RunFailed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunFailed {
    /// The job.
    pub job_id: JobId,
    /// The run.
    pub run_id: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When the attempt began.
    pub started_at: DateTime<Utc>,
    /// When it had failed.
    pub failed_at: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// When the next attempt may begin; none if it has failed for good.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_at: Option<DateTime<Utc>>,
}

/// Payload of `RunCancelled`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunCancelled {
    /// The job.
    pub job_id: JobId,
    /// The run.
    pub run_id: RunId,
}

/// What is asked of everybody who owns a shard. In the stream `shard-N`, which lives in shard N itself.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub enum ShardEvent {
    /// The risk of every portfolio of the shard is to be computed anew.
    RiskRecomputeRequested(RiskRecomputeRequested),
}

/// Payload of `RiskRecomputeRequested`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RiskRecomputeRequested {
    /// The shard.
    pub shard: Shard,
    /// The job that wants it.
    pub job_id: JobId,
    /// The run that wants it.
    pub run_id: RunId,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}
