//! Scheduled work: jobs, when they are due, and what became of their runs.
//!
//! A job is a stream of its own. The log decides what runs: a due time is taken once, however many processes see it, and
//! a run ends once, however many workers believe that they have it.

pub mod calendar;
pub mod crontab;
pub mod decide;
pub mod event;
pub mod settings;
pub mod state;

pub use decide::{FailRun, FinishRun, JobCommand, ScheduleRun, decide};
pub use event::{
    JobChanged, JobDefined, JobEvent, JobKind, JobRemoved, JobSettings, Overlap, RiskRecomputeRequested,
    RunCancelled, RunFailed, RunFinished, RunScheduled, RunSkipped, Schedule, ShardEvent, Trigger,
};
pub use settings::{ScheduleWish, SettingsWish};
pub use state::{Definition, FailedRun, Job, OpenRun, RunEnd};

#[cfg(test)]
mod tests;
