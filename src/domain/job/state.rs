//! What decisions about a job need to know. Folds are total: they cannot fail and never check.
//!
//! A job of every minute has half a million runs a year, so what has ended is forgotten: of runs that failed for good and
//! of runs that ended only the last ones are known.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};

use super::calendar::{Calendar, Due};
use super::event::{JobEvent, JobSettings, RunFailed, RunScheduled, Trigger};
use crate::domain::fields::Fields;
use crate::domain::ids::{JobId, RunId};

/// Of so many runs that failed for good, the last ones to be scheduled, each can be tried again, once.
pub const FAILED_MAX: usize = 200;
/// Runs that ended and are still known by how they did.
const ENDED_MAX: usize = 200;

/// A job as its stream tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Job {
    definition: Option<Definition>,
    /// The latest due time that became a run or was skipped.
    due_taken: Option<DateTime<Utc>>,
    open: BTreeMap<RunId, OpenRun>,
    /// The open run for which a due time was skipped last; further ones are told when it ends.
    in_the_way: Option<RunId>,
    /// How many runs there have been.
    runs: u64,
    /// By which run it was, tried again or not.
    failed: BTreeMap<u64, FailedRun>,
    /// The latest last.
    ended: VecDeque<(RunId, RunEnd)>,
    forgets_ended: bool,
}

/// What a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The job.
    pub job_id: JobId,
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: JobSettings,
    /// Under these settings it is due after this instant.
    pub since: DateTime<Utc>,
}

/// A run that is to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenRun {
    /// When it was due.
    pub due_at: DateTime<Utc>,
    /// Why there is a run.
    pub trigger: Trigger,
    /// The attempt that is to be made or being made, from 1.
    pub attempt: u32,
    /// Before this the attempt may not begin.
    pub retry_at: Option<DateTime<Utc>>,
    /// Which run of the job it is, from 1.
    number: u64,
}

/// A run that failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedRun {
    /// The run.
    pub run_id: RunId,
    /// When it was due.
    pub due_at: DateTime<Utc>,
    is_retried: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// It did what it was for.
    Finished,
    /// Its last attempt failed.
    Failed,
    /// It was not wanted any more.
    Cancelled,
}

impl RunEnd {
    /// As a word in a sentence.
    pub fn word(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed for good",
            Self::Cancelled => "was cancelled",
        }
    }
}

/// What is known of a run by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is to be carried out.
    Open(OpenRun),
    /// It ended so.
    Ended(RunEnd),
    /// It ended long ago, or was never there.
    Forgotten,
    /// It was never there.
    Never,
}

impl Job {
    /// A job without events.
    pub fn initial() -> Self {
        Self::default()
    }

    /// Takes in an event of the job's stream.
    pub fn evolve(&mut self, event: &JobEvent) {
        match event {
            JobEvent::JobDefined(defined) => {
                self.due_taken = None;
                self.definition = Some(Definition {
                    job_id: defined.job_id,
                    name: defined.name.clone(),
                    settings: defined.settings.clone(),
                    since: defined.defined_at,
                });
            }
            JobEvent::JobChanged(changed) => {
                // A clock that ran ahead may have taken due times far from now. A change begins anew.
                self.due_taken = None;
                self.in_the_way = None;
                if let Some(definition) = &mut self.definition {
                    definition.settings.clone_from(&changed.settings);
                    definition.since = changed.changed_at;
                }
            }
            JobEvent::JobRemoved(_) => {
                self.definition = None;
                self.failed.clear();
            }
            JobEvent::RunScheduled(scheduled) => self.schedule(scheduled),
            JobEvent::RunSkipped(skipped) => {
                self.take_due(skipped.due_at);
                self.in_the_way = Some(skipped.open_run_id);
            }
            JobEvent::RunFinished(finished) => self.end(finished.run_id, RunEnd::Finished),
            JobEvent::RunFailed(failed) => self.fail(failed),
            JobEvent::RunCancelled(cancelled) => self.end(cancelled.run_id, RunEnd::Cancelled),
        }
    }

    /// What it is; `None` while there is no such job, and after it was removed.
    pub fn definition(&self) -> Option<&Definition> {
        self.definition.as_ref()
    }

    /// The runs that are to be carried out.
    pub fn open_runs(&self) -> &BTreeMap<RunId, OpenRun> {
        &self.open
    }

    /// The open run for which due times are being skipped: the first of them is in the log, the others will be when it ends.
    pub fn in_the_way(&self) -> Option<RunId> {
        self.in_the_way
    }

    /// The runs that failed for good and can be tried again, in the order in which they were scheduled.
    pub fn failed_runs(&self) -> impl Iterator<Item = &FailedRun> {
        self.failed.values().filter(|run| !run.is_retried)
    }

    /// It is due after this instant.
    pub fn due_after(&self) -> Option<DateTime<Utc>> {
        let since = self.definition.as_ref()?.since;
        Some(self.due_taken.map_or(since, |taken| taken.max(since)))
    }

    /// When it is due next, whether that has come or not.
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        self.calendar()?.first_due_after(self.due_after()?)
    }

    /// The due time that is to be taken now, if one has come.
    pub fn due(&self, now: DateTime<Utc>) -> Option<Due> {
        self.calendar()?.latest_due(self.due_after()?, now)
    }

    /// What is known of a run.
    pub fn run(&self, run_id: RunId) -> Known {
        if let Some(open) = self.open.get(&run_id) {
            return Known::Open(*open);
        }
        let ended = self.ended.iter().rev().find(|(id, _)| *id == run_id);
        match ended {
            Some((_, end)) => Known::Ended(*end),
            None if self.failed.values().any(|run| run.run_id == run_id) => Known::Ended(RunEnd::Failed),
            None if self.forgets_ended => Known::Forgotten,
            None => Known::Never,
        }
    }

    /// The run that failed for good and can be tried again.
    pub fn failed_run(&self, run_id: RunId) -> Option<&FailedRun> {
        self.failed_runs().find(|run| run.run_id == run_id)
    }

    fn calendar(&self) -> Option<Calendar> {
        Calendar::read(&self.definition.as_ref()?.settings.schedule, &mut Fields::new())
    }

    fn schedule(&mut self, scheduled: &RunScheduled) {
        if scheduled.trigger == Trigger::Schedule {
            self.take_due(scheduled.due_at);
            self.in_the_way = None;
        }
        for failed in self.failed.values_mut().filter(|run| Some(run.run_id) == scheduled.retry_of) {
            failed.is_retried = true;
        }
        self.runs += 1;
        let (due_at, trigger, number) = (scheduled.due_at, scheduled.trigger, self.runs);
        self.open.insert(scheduled.run_id, OpenRun { due_at, trigger, attempt: 1, retry_at: None, number });
    }

    fn take_due(&mut self, due_at: DateTime<Utc>) {
        self.due_taken = self.due_taken.max(Some(due_at));
    }

    fn fail(&mut self, failed: &RunFailed) {
        if failed.retry_at.is_some() {
            if let Some(run) = self.open.get_mut(&failed.run_id) {
                run.attempt = failed.attempt + 1;
                run.retry_at = failed.retry_at;
            }
            return;
        }
        if let Some(run) = self.open.get(&failed.run_id) {
            let (run_id, due_at) = (failed.run_id, run.due_at);
            self.failed.insert(run.number, FailedRun { run_id, due_at, is_retried: false });
            // What was tried again keeps its place, as in the list that clients see: else that would show what is forgotten here.
            if self.failed.len() > FAILED_MAX {
                self.failed.pop_first();
            }
        }
        self.end(failed.run_id, RunEnd::Failed);
    }

    fn end(&mut self, run_id: RunId, end: RunEnd) {
        self.open.remove(&run_id);
        self.in_the_way = self.in_the_way.filter(|open| *open != run_id);
        self.ended.push_back((run_id, end));
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
            self.forgets_ended = true;
        }
    }
}
