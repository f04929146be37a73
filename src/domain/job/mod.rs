//! Scheduled work: jobs, when they are due, and what became of their runs.
//!
//! A job is a stream of its own. The log decides what runs: a due time is taken once, however many processes see it, and
//! a run ends once, however many workers believe that they have it.

pub mod event;

pub use event::{
    JobChanged, JobDefined, JobEvent, JobKind, JobRemoved, JobSettings, Overlap, RiskRecomputeRequested,
    RunCancelled, RunFailed, RunFinished, RunScheduled, RunSkipped, Schedule, ShardEvent, Trigger,
};
