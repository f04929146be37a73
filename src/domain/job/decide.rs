//! Decides about jobs and their runs.
//!
//! | who | asks for | and is told |
//! | --- | --- | --- |
//! | several schedulers at once | the run of one due time | one of them makes it; for the others nothing changes |
//! | a scheduler that knows an older schedule | a run of a time that is not due any more | nothing changes |
//! | a scheduler, again and again while a run is open that may not be overlapped | runs | the first due time is skipped, with an event; the others are one event when that run ends |
//! | a worker that lost its run, or was asleep | to end it | that the run is not open, or that another attempt is on |

use chrono::{DateTime, TimeDelta, Utc};

use super::calendar::Due;
use super::event::{
    JobChanged, JobDefined, JobEvent, JobRemoved, JobSettings, Overlap, RunCancelled, RunFailed, RunFinished,
    RunScheduled, RunSkipped, Trigger,
};
use super::settings;
use super::state::{Definition, Job, Known, OpenRun};
use crate::domain::dates::CLOCK_SKEW_MAX;
use crate::domain::fields::Fields;
use crate::domain::ids::{JobId, RunId};
use crate::domain::rejection::Rejection;

/// Runs of one job that may be open at once, where runs may overlap.
pub const OPEN_RUNS_MAX: usize = 16;
/// Characters of a result or reason that are kept.
pub const SENTENCE_CHARS_MAX: usize = 2_000;
/// Longest pause before a retry: a day.
const PAUSE_SECONDS_MAX: i64 = 86_400;

/// What can be wished of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobCommand {
    /// Let there be a job of this name.
    Define {
        /// Its name; its id is made of it.
        name: String,
        /// Its settings.
        settings: JobSettings,
    },
    /// Give it other settings.
    Change {
        /// All of them.
        settings: JobSettings,
    },
    /// Let it never be due again, and cancel what is open.
    Remove,
    /// A due time has come.
    ScheduleRun(ScheduleRun),
    /// Run it now.
    RunNow {
        /// Id of the run, new.
        run_id: RunId,
    },
    /// An attempt did what the run is for.
    FinishRun(FinishRun),
    /// An attempt failed.
    FailRun(FailRun),
    /// A run is not wanted any more.
    CancelRun {
        /// The run.
        run_id: RunId,
    },
    /// No open run is wanted any more.
    CancelOpen,
    /// Try a run again that failed for good.
    RetryRun {
        /// The run that failed.
        run_id: RunId,
        /// Id of the new run.
        new_run_id: RunId,
    },
}

/// A due time that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleRun {
    /// It.
    pub due_at: DateTime<Utc>,
}

/// An attempt that did what the run is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishRun {
    /// The run.
    pub run_id: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When the attempt began.
    pub started_at: DateTime<Utc>,
    /// What came of it, in a sentence. What is too long is cut.
    pub result: String,
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailRun {
    /// The run.
    pub run_id: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When the attempt began.
    pub started_at: DateTime<Utc>,
    /// Why. What is too long is cut.
    pub reason: String,
}

/// What a command makes of a job. No events: nothing would change.
///
/// # Errors
/// [`Rejection`]: a field is impossible, there is no such job or run, or it is not in a state for that.
pub fn decide(
    job: &Job,
    job_id: JobId,
    command: &JobCommand,
    now: DateTime<Utc>,
) -> Result<Vec<JobEvent>, Rejection> {
    if let JobCommand::Define { name, settings } = command {
        return define(job, job_id, name, settings, now);
    }
    let Some(definition) = job.definition() else { return Err(Rejection::NotFound { kind: "job" }) };
    match command {
        JobCommand::Define { .. } => Ok(Vec::new()),
        JobCommand::Change { settings } => change(definition, settings, now),
        JobCommand::Remove => {
            let mut events = cancel_open(job, job_id);
            events.push(JobEvent::JobRemoved(JobRemoved { job_id }));
            Ok(events)
        }
        JobCommand::ScheduleRun(due) => Ok(schedule(job, definition, *due, now)),
        JobCommand::RunNow { run_id } => {
            check_overlap(job, definition)?;
            Ok(vec![run(job_id, *run_id, now, Trigger::Manual, None)])
        }
        JobCommand::FinishRun(finish) => {
            find_attempt(job, finish.run_id, finish.attempt)?;
            let finished = JobEvent::RunFinished(RunFinished {
                job_id,
                run_id: finish.run_id,
                attempt: finish.attempt,
                started_at: finish.started_at.min(now),
                finished_at: now,
                result: sentence(&finish.result),
            });
            Ok(skipped_for(job, finish.run_id, now).into_iter().chain([finished]).collect())
        }
        JobCommand::FailRun(fail) => {
            find_attempt(job, fail.run_id, fail.attempt)?;
            let retry_at = retry_at(&definition.settings, fail.attempt, now);
            let skipped = skipped_for(job, fail.run_id, now).filter(|_| retry_at.is_none());
            let failed = JobEvent::RunFailed(RunFailed {
                job_id,
                run_id: fail.run_id,
                attempt: fail.attempt,
                started_at: fail.started_at.min(now),
                failed_at: now,
                reason: sentence(&fail.reason),
                retry_at,
            });
            Ok(skipped.into_iter().chain([failed]).collect())
        }
        JobCommand::CancelRun { run_id } => {
            find_open(job, *run_id)?;
            let cancelled = JobEvent::RunCancelled(RunCancelled { job_id, run_id: *run_id });
            Ok(skipped_for(job, *run_id, now).into_iter().chain([cancelled]).collect())
        }
        JobCommand::CancelOpen if job.open_runs().is_empty() => {
            Err(Rejection::RunNotOpen { reason: "no run of this job is open".to_owned() })
        }
        JobCommand::CancelOpen => {
            let skipped = job.in_the_way().and_then(|run_id| skipped_for(job, run_id, now));
            Ok(skipped.into_iter().chain(cancel_open(job, job_id)).collect())
        }
        JobCommand::RetryRun { run_id, new_run_id } => retry(job, definition, *run_id, *new_run_id),
    }
}

fn define(
    job: &Job,
    job_id: JobId,
    name: &str,
    settings: &JobSettings,
    now: DateTime<Utc>,
) -> Result<Vec<JobEvent>, Rejection> {
    let mut fields = Fields::new();
    settings::check_name(name, &mut fields);
    settings::check(settings, &mut fields);
    fields.finish()?;
    match job.definition() {
        Some(definition) if definition.settings == *settings => Ok(Vec::new()),
        Some(_) => Err(Rejection::NameTaken { name: name.to_owned() }),
        None => {
            let (name, settings) = (name.to_owned(), settings.clone());
            Ok(vec![JobEvent::JobDefined(JobDefined { job_id, name, settings, defined_at: now })])
        }
    }
}

fn change(
    definition: &Definition,
    settings: &JobSettings,
    now: DateTime<Utc>,
) -> Result<Vec<JobEvent>, Rejection> {
    let mut fields = Fields::new();
    settings::check(settings, &mut fields);
    fields.finish()?;
    if definition.settings == *settings {
        return Ok(Vec::new());
    }
    let changed = JobChanged { job_id: definition.job_id, settings: settings.clone(), changed_at: now };
    Ok(vec![JobEvent::JobChanged(changed)])
}

/// A due time becomes a run, or is skipped; one that is taken, not of this schedule or yet to come is neither.
fn schedule(job: &Job, definition: &Definition, due: ScheduleRun, now: DateTime<Utc>) -> Vec<JobEvent> {
    let (job_id, due_at) = (definition.job_id, due.due_at);
    let run_id = job_id.run_due(due_at);
    let is_due = |due: &Due| due.due_at == due_at && due_at <= now + CLOCK_SKEW_MAX;
    let Some(Due { missed, .. }) = job.due(due_at).filter(is_due) else { return Vec::new() };
    // A run of the same due time may be known from before the job was changed.
    if matches!(job.run(run_id), Known::Open(_) | Known::Ended(_)) {
        return Vec::new();
    }
    let is_full = job.open_runs().len() >= OPEN_RUNS_MAX || definition.settings.overlap == Overlap::Skip;
    match job.open_runs().keys().next() {
        // A run of a day would fill the log of a job of every second with what nobody wants to read.
        Some(_) if is_full && job.in_the_way().is_some() => Vec::new(),
        Some(open) if is_full => {
            vec![JobEvent::RunSkipped(RunSkipped { job_id, due_at, open_run_id: *open, missed })]
        }
        _ => {
            let trigger = Trigger::Schedule;
            let run = RunScheduled { job_id, run_id, due_at, trigger, missed, retry_of: None };
            vec![JobEvent::RunScheduled(run)]
        }
    }
}

/// The last due time that was skipped for a run which ends now, with how many there were since the first. So that it does not
/// depend on which scheduler remembers them whether they are made up for: they are not.
fn skipped_for(job: &Job, run_id: RunId, now: DateTime<Utc>) -> Option<JobEvent> {
    let job_id = job.in_the_way().filter(|open| *open == run_id).and(job.definition())?.job_id;
    let Due { due_at, missed } = job.due(now)?;
    Some(JobEvent::RunSkipped(RunSkipped { job_id, due_at, open_run_id: run_id, missed }))
}

fn retry(
    job: &Job,
    definition: &Definition,
    run_id: RunId,
    new_run_id: RunId,
) -> Result<Vec<JobEvent>, Rejection> {
    if let Some(failed) = job.failed_run(run_id) {
        check_overlap(job, definition)?;
        return Ok(vec![run(definition.job_id, new_run_id, failed.due_at, Trigger::Retry, Some(run_id))]);
    }
    let reason = match job.run(run_id) {
        Known::Never => return Err(Rejection::NotFound { kind: "run" }),
        Known::Open(_) => "this run is still open",
        Known::Ended(super::state::RunEnd::Failed) => {
            "this run was tried again already, or its job was removed since"
        }
        Known::Ended(_) => "this run did not fail",
        Known::Forgotten => "this run ended too long ago to be tried again",
    };
    Err(Rejection::RunNotFailed { reason })
}

fn run(
    job_id: JobId,
    run_id: RunId,
    due_at: DateTime<Utc>,
    trigger: Trigger,
    retry_of: Option<RunId>,
) -> JobEvent {
    JobEvent::RunScheduled(RunScheduled { job_id, run_id, due_at, trigger, missed: 0, retry_of })
}

fn cancel_open(job: &Job, job_id: JobId) -> Vec<JobEvent> {
    let cancelled = |run_id: &RunId| JobEvent::RunCancelled(RunCancelled { job_id, run_id: *run_id });
    job.open_runs().keys().map(cancelled).collect()
}

/// Someone who asks for a run is told that it cannot be now, where a schedule passes over it.
fn check_overlap(job: &Job, definition: &Definition) -> Result<(), Rejection> {
    let open = job.open_runs();
    match open.keys().next() {
        Some(run_id) if definition.settings.overlap == Overlap::Skip || open.len() >= OPEN_RUNS_MAX => {
            Err(Rejection::RunOpen { run_id: *run_id })
        }
        _ => Ok(()),
    }
}

fn find_open(job: &Job, run_id: RunId) -> Result<OpenRun, Rejection> {
    let reason = match job.run(run_id) {
        Known::Open(run) => return Ok(run),
        Known::Never => return Err(Rejection::NotFound { kind: "run" }),
        Known::Ended(end) => format!("this run {}", end.word()),
        Known::Forgotten => "this run ended long ago".to_owned(),
    };
    Err(Rejection::RunNotOpen { reason })
}

fn find_attempt(job: &Job, run_id: RunId, attempt: u32) -> Result<(), Rejection> {
    let run = find_open(job, run_id)?;
    if run.attempt == attempt {
        return Ok(());
    }
    let reason = format!("attempt {attempt} is not on: attempt {} is", run.attempt);
    Err(Rejection::RunNotOpen { reason })
}

/// When the next attempt may begin; none after the last.
fn retry_at(settings: &JobSettings, attempt: u32, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if attempt >= settings.attempts_max {
        return None;
    }
    let doublings = attempt.saturating_sub(1).min(20);
    let seconds = (i64::from(settings.retry_pause_seconds) << doublings).min(PAUSE_SECONDS_MAX);
    Some(now + TimeDelta::seconds(seconds))
}

/// One line, of bounded length: it stands in the log for ever.
fn sentence(text: &str) -> String {
    let printable = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut kept: String = printable.take(SENTENCE_CHARS_MAX).collect();
    if text.trim().chars().nth(SENTENCE_CHARS_MAX).is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}
