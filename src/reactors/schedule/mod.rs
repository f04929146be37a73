//! The role `schedule`: due times become runs.
//!
//! One scheduler acts, by a session lock; others wait and take over within five seconds of the end of its session, also when
//! it is frozen. Two that act at once would do no harm: a due time is taken once, which the job's stream decides.
//!
//! | happens | then |
//! | --- | --- |
//! | it begins to act | jobs of the file are defined or changed, where they are not as it says |
//! | a job is due | `ScheduleRun` with the latest due time that has come, and how many were missed before it |
//! | the rows of `jobs` move | definitions are read again; the read model may lag, the stream decides |
//! | the answer is lost, the log is away | the same command again, at the next look |
//! | this machine's clock is ahead of the database's | the database's counts: a due time that was taken too early is taken for good |
//! | a clock is put back | nothing is due until the time has come again |

mod agenda;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tokio::time::{Instant, sleep};
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
use crate::queries::job_plan::{Changes, SCHEDULER_LOCK, find_changes, list_planned_jobs};
use crate::retry::Backoff;

/// How often the lock is checked and the read model looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The server ends the session of a holder that was silent for so long: with the time until the next one asks, less than five
/// seconds.
const SILENT_MAX: Duration = Duration::from_secs(4);
/// What could not be declared is tried again.
const DECLARE_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Clocks may differ so much before it is told.
const CLOCKS_DIFFER_MAX: TimeDelta = TimeDelta::seconds(30);

const ACTIVE: &str = "insight_scheduler_active";
const SCHEDULED: &str = "insight_scheduler_due_total";

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
    let options = checked_within(&parts.pool.connect_options(), SILENT_MAX);
    let mut pauses = Backoff::pauses(Duration::from_millis(100), Duration::from_secs(2));
    while !cancel.is_cancelled() {
        let taken = tokio::select! {
            taken = SessionLock::acquire(&options, SCHEDULER_LOCK) => taken,
            () = cancel.cancelled() => return Ok(()),
        };
        match taken {
            Ok(lock) => {
                info!("the scheduler acts");
                metrics::gauge!(ACTIVE).set(1.0);
                let acted = tokio::select! {
                    acted = act(&parts, lock) => acted,
                    () = cancel.cancelled() => Ok(()),
                };
                metrics::gauge!(ACTIVE).set(0.0);
                if let Err(error) = acted {
                    warn!(%error, "the scheduler has lost its lock");
                }
            }
            Err(error) => debug!(%error, "the lock of the scheduler cannot be asked for"),
        }
        tokio::select! {
            () = pauses.sleep() => {}
            () = cancel.cancelled() => {}
        }
    }
    Ok(())
}

/// Looks again and again, while the lock is held. Returns how that ended.
async fn act(parts: &Parts, mut lock: SessionLock) -> Result<(), sqlx::Error> {
    let mut scheduler = Scheduler { parts, agenda: Agenda::default(), seen: None, told: false };
    let mut declare_at = (!parts.declared.is_empty()).then(Instant::now);
    loop {
        lock.check().await?;
        let looked = Instant::now();
        if declare_at.is_some_and(|at| at <= looked) {
            declare_at = scheduler.declare().await.then(|| looked + DECLARE_AGAIN_AFTER);
        }
        match scheduler.look().await {
            Ok(now) => scheduler.schedule(now).await,
            Err(error) => warn!(%error, "the jobs cannot be read"),
        }
        sleep(scheduler.rest().saturating_sub(looked.elapsed())).await;
    }
}

struct Scheduler<'a> {
    parts: &'a Parts,
    agenda: Agenda,
    /// The state of the read model that the agenda is made from.
    seen: Option<i64>,
    /// That clocks differ has been told.
    told: bool,
}

impl Scheduler<'_> {
    /// Makes jobs what the file says. Returns whether that is to be tried again.
    async fn declare(&self) -> bool {
        let Parts { commands, pool, declared, .. } = self.parts;
        match jobs_file::declare(commands, pool, declared).await {
            Ok(_) => false,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "jobs of the file are not all declared yet");
                true
            }
        }
    }

    /// Reads the jobs if they have changed. Returns what time it is.
    async fn look(&mut self) -> Result<DateTime<Utc>, crate::queries::Error> {
        let Changes { state, now } = answered(find_changes(&self.parts.pool)).await?;
        if self.seen != Some(state) {
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

    async fn schedule(&mut self, now: DateTime<Utc>) {
        for (job_id, name, due) in self.agenda.due(now) {
            match schedule(&self.parts.commands, job_id, due).await {
                Ok(made) => {
                    let outcome = if made { "scheduled" } else { "taken" };
                    metrics::counter!(SCHEDULED, "outcome" => outcome).increment(1);
                    self.agenda.taken(job_id, due.due_at);
                    info!(job = name, due_at = %due.due_at, missed = due.missed, outcome, "due");
                }
                // Removed, and not seen yet.
                Err(Refusal::Rejected(rejection)) => {
                    debug!(job = name, %rejection, "a job is not due any more");
                    self.agenda.taken(job_id, due.due_at);
                }
                Err(refusal) => {
                    warn!(job = name, due_at = %due.due_at, %refusal, "due, and not scheduled yet")
                }
            }
        }
    }

    /// Until the next job is due, or the next look.
    fn rest(&self) -> Duration {
        let until =
            self.agenda.next().map(|next| (next - self.parts.clock.now()).to_std().unwrap_or_default());
        // A job that could not be scheduled is due at once: not without a pause.
        until.map_or(LOOK_EVERY, |until| until.clamp(Duration::from_millis(20), LOOK_EVERY))
    }
}

/// Asks for the run of a due time. Returns whether that changed anything.
async fn schedule(commands: &Commands, job_id: JobId, due: Due) -> Result<bool, Refusal> {
    let Due { due_at, missed } = due;
    let run_id = job_id.run_due(due_at);
    let command_id = Uuid::new_v5(&run_id.0, b"schedule");
    let command = JobCommand::ScheduleRun(ScheduleRun { due_at, missed });
    let answer = send(commands, Command::Job { job_id, command }, command_id, run_id.0).await?;
    Ok(!answer.events.is_empty())
}
