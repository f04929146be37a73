//! The role `schedule`: due times become runs.
//!
//! One scheduler acts, by a session lock; others wait and take over within five seconds of the end of its session, also when
//! it is frozen. Two that act at once would do no harm: a due time is taken once, which the job's stream decides.
//!
//! | happens | then |
//! | --- | --- |
//! | the process starts, whether it will act or not | jobs of the file are defined or changed, where they are not as it says |
//! | a job is due | `ScheduleRun` with the latest due time that has come, and how many were missed before it |
//! | the rows of `jobs` move | definitions are read again; the read model may lag, the stream decides |
//! | the answer is lost, the log is away, a job is refused | the same command again after a pause that doubles; other jobs go on |
//! | this machine's clock is ahead of the database's | the database's counts: a due time that was taken too early is taken for good |
//! | anything takes long | the lock is checked beside it |
//! | a clock is put back | nothing is due until the time has come again |

mod agenda;

use std::convert::Infallible;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use sqlx::PgPool;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use self::agenda::Agenda;
use super::jobs_file::{self, DeclaredJob};
use super::send;
use crate::clock::Clock;
use crate::commands::{Command, Commands, Refusal};
use crate::domain::ids::JobId;
use crate::domain::job::calendar::Due;
use crate::domain::job::{JobCommand, ScheduleRun};
use crate::postgres::{SessionLock, answered, checked_within};
use crate::queries::job_plan::{Changes, SCHEDULER_LOCK, find_changes, find_longest_wait, list_planned_jobs};
use crate::retry::Backoff;

/// How often the lock is checked and the read model looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The server ends the session of a holder that was silent for so long: with the time until the next one asks, less than five
/// seconds.
const SILENT_MAX: Duration = Duration::from_secs(4);
/// What could not be declared is tried again.
const DECLARE_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How often it is told how long runs have been waiting.
const SHOW_EVERY: Duration = Duration::from_secs(5);
/// Runs that are asked for at once.
const ASKED_MAX: usize = 32;
/// A job that is due and cannot be asked for does not keep a core busy.
const REST_MIN: Duration = Duration::from_millis(20);
/// Clocks may differ so much before it is told.
const CLOCKS_DIFFER_MAX: TimeDelta = TimeDelta::seconds(30);

const ACTIVE: &str = "insight_scheduler_active";
const SCHEDULED: &str = "insight_scheduler_due_total";
const LONGEST_WAIT: &str = "insight_scheduler_longest_wait_seconds";

/// What a scheduler stands on.
pub struct Parts {
    /// Where the read models are.
    pub pool: PgPool,
    /// The write side.
    pub commands: Commands,
    /// Tells what is due.
    pub clock: Clock,
    /// Jobs that are to be there.
    pub declared: Vec<DeclaredJob>,
}

/// Schedules until it is asked to end.
///
/// # Errors
/// Never; the signature is that of a task. What passes by itself is waited for.
pub async fn run(parts: Parts, cancel: CancellationToken) -> Result<(), sqlx::Error> {
    tokio::select! {
        never = take_turns(&parts) => match never {},
        never = declare(&parts) => match never {},
        () = cancel.cancelled() => {}
    }
    metrics::gauge!(ACTIVE).set(0.0);
    metrics::gauge!(LONGEST_WAIT).set(0.0);
    Ok(())
}

/// Acts whenever it has the lock.
async fn take_turns(parts: &Parts) -> Infallible {
    let options = checked_within(&parts.pool.connect_options(), SILENT_MAX);
    let mut pauses = Backoff::pauses(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        match SessionLock::acquire(&options, SCHEDULER_LOCK).await {
            Ok(lock) => {
                info!("the scheduler acts");
                metrics::gauge!(ACTIVE).set(1.0);
                let error = act(parts, lock).await;
                metrics::gauge!(ACTIVE).set(0.0);
                metrics::gauge!(LONGEST_WAIT).set(0.0);
                warn!(%error, "the scheduler has lost its lock");
            }
            Err(error) => debug!(%error, "the lock of the scheduler cannot be asked for"),
        }
        pauses.sleep().await;
    }
}

/// Schedules while the lock is held. Returns how that ended.
async fn act(parts: &Parts, mut lock: SessionLock) -> sqlx::Error {
    let held = async {
        loop {
            if let Err(error) = lock.check().await {
                return error;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    let scheduler = Scheduler { parts, agenda: Agenda::default(), seen: None, told: false };
    tokio::select! {
        lost = held => lost,
        never = scheduler.run() => match never {},
        never = show(&parts.pool) => match never {},
    }
}

/// Makes jobs what the file says, once: what is changed by command afterwards stays, whoever acts.
async fn declare(parts: &Parts) -> Infallible {
    let Parts { commands, pool, declared, .. } = parts;
    while !declared.is_empty() {
        match jobs_file::declare(commands, pool, declared).await {
            Ok(_) => break,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(error, "jobs of the file are not all declared yet");
            }
        }
        sleep(DECLARE_AGAIN_AFTER).await;
    }
    std::future::pending().await
}

/// Tells how long runs have been waiting, also while there is no worker that could.
async fn show(pool: &PgPool) -> Infallible {
    loop {
        match answered(find_longest_wait(pool)).await {
            Ok(seconds) => metrics::gauge!(LONGEST_WAIT).set(seconds),
            Err(error) => debug!(%error, "runs that wait cannot be read"),
        }
        sleep(SHOW_EVERY).await;
    }
}

struct Scheduler<'a> {
    parts: &'a Parts,
    agenda: Agenda,
    /// The state of the read model that the agenda is made from.
    seen: Option<String>,
    /// That clocks differ has been told.
    told: bool,
}

/// What became of a due time.
struct Asked {
    job_id: JobId,
    name: String,
    due: Due,
    answer: Result<bool, Refusal>,
}

impl Scheduler<'_> {
    /// Looks again and again. What is due is asked for beside that, so that one slow answer holds nothing up.
    async fn run(mut self) -> Infallible {
        let commands = &self.parts.commands;
        let mut asking = FuturesUnordered::new();
        let mut look_at = Instant::now();
        let mut wake_at = look_at;
        // What time it was at the last look.
        let mut looked: Option<(DateTime<Utc>, Instant)> = None;
        loop {
            tokio::select! {
                Some(asked) = asking.next() => self.answered(asked),
                () = sleep_until(wake_at) => {}
            }
            if look_at <= Instant::now() {
                look_at = Instant::now() + LOOK_EVERY;
                looked = match self.look().await {
                    Ok(now) => Some((now, Instant::now())),
                    Err(error) => {
                        warn!(%error, "the jobs cannot be read");
                        None
                    }
                };
            }
            wake_at = look_at;
            let Some((now, at)) = looked else { continue };
            let clock = Instant::now();
            let now = now + TimeDelta::from_std(clock - at).unwrap_or_default();
            for (job_id, name, due) in self.agenda.due(now, clock, ASKED_MAX - self.agenda.asked_count()) {
                self.agenda.asked(job_id, due.due_at);
                asking.push(async move {
                    let answer = schedule(commands, job_id, due).await;
                    Asked { job_id, name, due, answer }
                });
            }
            if self.agenda.asked_count() < ASKED_MAX
                && let Some(wait) = self.agenda.wait(now, clock)
            {
                wake_at = wake_at.min(clock + wait.max(REST_MIN));
            }
        }
    }

    /// Reads the jobs if they have changed. Returns what time it is.
    async fn look(&mut self) -> Result<DateTime<Utc>, crate::queries::Error> {
        let Changes { state, now } = answered(find_changes(&self.parts.pool)).await?;
        if self.seen.as_ref() != Some(&state) {
            let jobs = answered(list_planned_jobs(&self.parts.pool)).await?;
            self.agenda.replace(jobs);
            self.seen = Some(state);
            debug!(jobs = self.agenda.len(), "jobs read");
        }
        Ok(self.earlier(now))
    }

    /// The earlier of two clocks: what is done too late can be caught up, what is done too early cannot.
    fn earlier(&mut self, database: DateTime<Utc>) -> DateTime<Utc> {
        let ours = self.parts.clock.now();
        let differ = (ours - database).abs() > CLOCKS_DIFFER_MAX;
        if differ && !self.told {
            warn!(%ours, %database, "the clocks of this machine and of the database differ: the earlier one counts");
        }
        self.told = differ;
        ours.min(database)
    }

    fn answered(&mut self, asked: Asked) {
        let Asked { job_id, name: job, due: Due { due_at, missed }, answer } = asked;
        let at = Instant::now();
        match answer {
            Ok(made) => match self.agenda.answered(job_id, made, self.parts.clock.now(), at) {
                None => {
                    let outcome = if made { "scheduled" } else { "taken" };
                    metrics::counter!(SCHEDULED, "outcome" => outcome).increment(1);
                    info!(job, %due_at, missed, outcome, "due");
                }
                Some(again_in) => {
                    warn!(job, %due_at, ?again_in, "was due, and is to come again: the clock was put back");
                }
            },
            // Removed, and not seen yet.
            Err(Refusal::Rejected(rejection)) => {
                debug!(job, %rejection, "a job is not due any more");
                self.agenda.taken(job_id);
            }
            Err(refusal) => {
                let again_in = self.agenda.refused(job_id, at);
                warn!(job, %due_at, %refusal, ?again_in, "due, and not scheduled yet");
            }
        }
    }
}

/// Asks for the run of a due time. Returns whether that changed anything.
async fn schedule(commands: &Commands, job_id: JobId, due: Due) -> Result<bool, Refusal> {
    let due_at = due.due_at;
    let run_id = job_id.run_due(due_at);
    let command_id = Uuid::new_v5(&run_id.0, b"schedule");
    let command = JobCommand::ScheduleRun(ScheduleRun { due_at });
    let answer = send(commands, Command::Job { job_id, command }, command_id, run_id.0).await?;
    Ok(!answer.events.is_empty())
}
