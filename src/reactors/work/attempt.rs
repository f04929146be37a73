//! One attempt at a run, from the lease to the word that it has ended.
//!
//! The work is a future that is dropped when it is not to go on, whatever it is doing. Beside it the lease is kept, and the
//! work is not touched once that may be somebody else's: a process that was frozen and wakes finds so by its own clock,
//! without having to ask anybody.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use uuid::Uuid;

use super::board::Start;
use super::kinds::{self, Progress};
use super::leases::{self, Claimed, LEASE, Renewed};
use super::{Parts, metric};
use crate::commands::{Command, Refusal};
use crate::domain::ids::{Position, RunId};
use crate::domain::job::{FailRun, FinishRun, JobCommand};
use crate::event_store::{self, read};
use crate::events::Envelope;
use crate::postgres::answered;
use crate::queries::job_plan::OpenRun;
use crate::reactors::send_until;
use crate::retry::Backoff;

/// How often the owner says that it lives, how far it is, and asks whether the run is still wanted.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// Owners of one attempt that may be lost in a row: what kills every worker must not go round for ever.
const LOST_MAX: i32 = 3;
/// How long it is tried to say how an attempt ended, before the run is left to be tried again.
const TOLD_WITHIN: Duration = Duration::from_secs(300);
/// The same from when the process is to end, whatever is being waited for then. Giving the lease back comes after it, and both must
/// fit into what attempts are given at the end.
const TOLD_WITHIN_AT_THE_END: Duration = Duration::from_secs(2);
/// After a try of any kind, the events it made may take so long to come.
const REST: Duration = Duration::from_millis(500);
/// When the database could not be asked.
const REST_AFTER_TROUBLE: Duration = Duration::from_secs(2);
/// Who held it has had the time to be told.
const REST_AFTER_LEASE: Duration = Duration::from_millis(100);

/// An attempt to be.
pub(super) struct Attempt {
    pub start: Start,
    pub parts: Arc<Parts>,
    /// The run is not wanted any more.
    pub cancelled: CancellationToken,
    /// The process is to end.
    pub shutdown: CancellationToken,
}

/// What an attempt leaves behind.
pub(super) struct Left {
    pub run_id: RunId,
    /// How long to leave the run alone, if it is open.
    pub rest: Duration,
    /// The end of an attempt at it that was in the log already, and not known here.
    pub found: Option<Envelope>,
}

/// How an attempt came to its end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With a result.
    Finished(String),
    /// With a reason.
    Failed(String),
    /// The log says that the run has ended already.
    Cancelled,
    /// The process ends: somebody else shall have it.
    GivenUp,
    /// The lease is somebody else's.
    Lost,
}

impl End {
    fn name(&self) -> &'static str {
        match self {
            Self::Finished(_) => "finished",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
            Self::GivenUp => "given_up",
            Self::Lost => "lost",
        }
    }
}

impl Attempt {
    /// Takes the lease, works, says how it ended.
    pub(super) async fn carry_out(self) -> Left {
        let run_id = self.start.run.run_id;
        let (rest, found) = self.begin().await;
        Left { run_id, rest, found }
    }

    async fn begin(&self) -> (Duration, Option<Envelope>) {
        let (run, owner) = (&self.start.run, self.parts.owner.as_str());
        let asked = Instant::now();
        let lost = match leases::claim(&self.parts.pool, run, owner).await {
            Ok(Claimed::Mine { lost }) => lost,
            Ok(Claimed::Held(until)) => return (until + REST_AFTER_LEASE, None),
            Err(error) => {
                warn!(run_id = %run.run_id, %error, "a run cannot be asked for");
                return (REST_AFTER_TROUBLE, None);
            }
        };
        let lease = Lease::taken(asked);
        match answered(find_end(&self.parts.pool, run)).await {
            Ok(None) => (self.attempt(&lease, lost).await, None),
            Ok(found) => {
                self.release().await;
                (REST, found)
            }
            Err(error) => {
                warn!(run_id = %run.run_id, %error, "the log cannot be asked about a run");
                self.release().await;
                (REST_AFTER_TROUBLE, None)
            }
        }
    }

    async fn attempt(&self, lease: &Lease, lost: i32) -> Duration {
        let Start { run, job } = &self.start;
        let (began, started_at) = (Instant::now(), self.parts.clock.now());
        metrics::gauge!(metric::LEASES).increment(1.0);
        info!(job = job.name, run_id = %run.run_id, attempt = run.attempt, lost, "run begins");
        let left = TaskTracker::new();
        let mut end = if lost > LOST_MAX {
            End::Failed(format!("{lost} workers in a row were lost while they carried it out"))
        } else {
            self.work(lease, &left).await
        };
        if matches!(end, End::Finished(_) | End::Failed(_)) && !self.tell(&end, started_at, lease).await {
            end = End::Lost;
        }
        if end != End::Lost {
            self.release().await;
        }
        metrics::gauge!(metric::LEASES).decrement(1.0);
        let kind = kinds::name(job.settings.kind);
        metrics::histogram!(metric::RUN_SECONDS, "kind" => kind, "outcome" => end.name())
            .record(began.elapsed().as_secs_f64());
        if let End::Failed(reason) = &end {
            metrics::counter!(metric::FAILURES, "kind" => kind).increment(1);
            warn!(job = job.name, run_id = %run.run_id, attempt = run.attempt, reason, "run failed");
        } else {
            info!(job = job.name, run_id = %run.run_id, attempt = run.attempt, end = ?end, "run ended");
        }
        // A thread cannot be dropped: the slot is free when it has ended, too.
        left.close();
        before_the_end(&self.shutdown, Duration::ZERO, left.wait()).await;
        REST
    }

    /// Works until it is done, or must not go on.
    async fn work(&self, lease: &Lease, left: &TaskTracker) -> End {
        let settings = &self.start.job.settings;
        let (progress, asked_to_end) = (Progress::default(), CancellationToken::new());
        let work = kinds::carry_out(&self.parts, &self.start, &progress, &asked_to_end, left);
        tokio::pin!(work);
        let work = std::future::poll_fn(|context| match lease.is_over() {
            true => Poll::Ready(End::Lost),
            false => work.as_mut().poll(context).map(|outcome| match outcome {
                Ok(result) => End::Finished(result),
                Err(reason) => End::Failed(reason),
            }),
        });
        let began = Instant::now();
        let limit = |seconds: u32| sleep_until(began + Duration::from_secs(seconds.into()));
        let (soft, hard) = (limit(settings.soft_limit_seconds), limit(settings.time_limit_seconds));
        let kept = self.keep(lease, &progress);
        tokio::pin!(work, soft, hard, kept);
        loop {
            tokio::select! {
                biased;
                () = self.cancelled.cancelled() => return End::Cancelled,
                end = &mut kept => return end,
                end = &mut work => return end,
                () = self.shutdown.cancelled() => return End::GivenUp,
                () = &mut hard => {
                    return End::Failed(format!(
                        "it took longer than its time limit of {} s",
                        settings.time_limit_seconds
                    ));
                }
                () = &mut soft, if !asked_to_end.is_cancelled() => {
                    let limit = settings.soft_limit_seconds;
                    warn!(job = self.start.job.name, run_id = %self.start.run.run_id, limit, "asked to end: soft limit");
                    asked_to_end.cancel();
                }
            }
        }
    }

    /// Moves the lease on until there is a reason to stop.
    async fn keep(&self, lease: &Lease, progress: &Progress) -> End {
        loop {
            sleep(RENEW_EVERY.min(lease.left())).await;
            match self.renew(lease, progress).await {
                Renewed::Kept => {}
                Renewed::Cancelled => return End::Cancelled,
                Renewed::Gone => return End::Lost,
            }
        }
    }

    /// An answer that does not come is none; the lease tells when that is too much.
    async fn renew(&self, lease: &Lease, progress: &Progress) -> Renewed {
        let asked = Instant::now();
        let (run, owner) = (&self.start.run, self.parts.owner.as_str());
        match leases::renew(&self.parts.pool, run, owner, progress.get()).await {
            // What was past when it was asked for may have been somebody else's in between, and given back.
            _ if lease.is_over() => Renewed::Gone,
            Ok(Renewed::Kept) => {
                lease.renewed(asked);
                Renewed::Kept
            }
            Ok(other) => other,
            Err(error) => {
                warn!(run_id = %run.run_id, %error, "a lease cannot be moved on");
                Renewed::Kept
            }
        }
    }

    /// Says how it ended, until the log has it. False if that is not ours to say any more.
    async fn tell(&self, end: &End, started_at: chrono::DateTime<chrono::Utc>, lease: &Lease) -> bool {
        let (run_id, attempt) = (self.start.run.run_id, self.start.run.attempt);
        let command = match end {
            End::Finished(result) => {
                JobCommand::FinishRun(FinishRun { run_id, attempt, started_at, result: result.clone() })
            }
            End::Failed(reason) => {
                JobCommand::FailRun(FailRun { run_id, attempt, started_at, reason: reason.clone() })
            }
            _ => return true,
        };
        let telling = self.tell_the_log(command, lease);
        let told = before_the_end(&self.shutdown, TOLD_WITHIN_AT_THE_END, telling).await;
        if told.is_none() {
            warn!(%run_id, attempt, "the process ends before the end of an attempt is told: it will be tried again");
        }
        told.unwrap_or(true)
    }

    async fn tell_the_log(&self, command: JobCommand, lease: &Lease) -> bool {
        let (run_id, attempt) = (self.start.run.run_id, self.start.run.attempt);
        let job_id = self.start.run.job_id;
        let command_id = Uuid::new_v5(&run_id.0, format!("end of attempt {attempt}").as_bytes());
        let mut pauses = Backoff::pauses(Duration::from_millis(100), Duration::from_secs(2));
        let began = Instant::now();
        loop {
            // Asked each time, and no batch takes the word when the lease is over.
            if self.renew(lease, &Progress::default()).await == Renewed::Gone {
                return false;
            }
            let command = Command::Job { job_id, command: command.clone() };
            let why =
                match send_until(lease.until(), &self.parts.commands, command, command_id, run_id.0).await {
                    Ok(_) => return true,
                    // Whatever it is, the log is asked before the run is begun again.
                    Err(Refusal::Rejected(rejection)) => {
                        info!(%run_id, attempt, %rejection, "the end of an attempt was told before");
                        return true;
                    }
                    Err(refusal) => refusal,
                };
            if began.elapsed() > TOLD_WITHIN {
                warn!(%run_id, attempt, %why, "the end of an attempt cannot be told: it will be tried again");
                return true;
            }
            pauses.sleep().await;
        }
    }

    async fn release(&self) {
        let run = &self.start.run;
        if let Err(error) = leases::release(&self.parts.pool, run, &self.parts.owner).await {
            warn!(run_id = %run.run_id, %error, "a lease is not given back, and ends by itself");
        }
    }
}

/// What comes of it, unless the process is to end and it has taken `patience` since.
async fn before_the_end<T>(
    shutdown: &CancellationToken,
    patience: Duration,
    outcome: impl Future<Output = T>,
) -> Option<T> {
    let end = async {
        shutdown.cancelled().await;
        sleep(patience).await;
    };
    tokio::select! {
        biased;
        outcome = outcome => Some(outcome),
        () = end => None,
    }
}

/// Until when the lease is ours for certain, by our own clock: the database's began to count later.
struct Lease(Mutex<Instant>);

impl Lease {
    fn taken(asked: Instant) -> Self {
        Self(Mutex::new(asked + LEASE))
    }

    fn renewed(&self, asked: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = asked + LEASE;
    }

    fn until(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> Duration {
        self.until().saturating_duration_since(Instant::now())
    }

    fn is_over(&self) -> bool {
        self.left().is_zero()
    }
}

/// The last end of an attempt at this run that the log has after what is known of it. Whoever ended it gave the lease back
/// afterwards: so who has the lease now sees it.
async fn find_end(pool: &PgPool, run: &OpenRun) -> Result<Option<Envelope>, event_store::Error> {
    const SQL: &str = "select max(position) from events where shard = $1 and position > $2 and stream_id = $3 \
        and event_type in ('RunFinished', 'RunFailed', 'RunCancelled') and payload ->> 'run_id' = $4";
    let asked = sqlx::query_scalar(SQL)
        .bind(run.shard.0)
        .bind(run.position.0)
        .bind(run.job_id.stream().as_str().to_owned())
        .bind(run.run_id.to_string())
        .fetch_one(pool);
    match asked.await? {
        Some(position) => read::find(pool, Position(position)).await,
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_takes_longer_than_its_patience_once_the_process_is_to_end() {
        let shutdown = CancellationToken::new();
        let patience = Duration::from_millis(10);
        let slow = async || before_the_end(&shutdown, patience, sleep(Duration::from_millis(100))).await;
        assert_eq!(slow().await, Some(()), "nobody wants it to end");
        let token = shutdown.clone();
        let told = async {
            sleep(Duration::from_millis(20)).await;
            token.cancel();
        };
        let silent = before_the_end(&shutdown, patience, std::future::pending::<()>());
        let (silent, ()) = tokio::join!(silent, told);
        assert_eq!(silent, None, "also a word that was on its way when the process was told to end");
        assert_eq!(slow().await, None);
        assert_eq!(before_the_end(&shutdown, patience, async { 7 }).await, Some(7));
    }

    #[test]
    fn a_lease_is_counted_from_when_it_was_asked_for() {
        let ago = |seconds| Instant::now() - Duration::from_secs(seconds);
        let lease = Lease::taken(ago(4));
        assert!(!lease.is_over());
        assert!(lease.left() <= LEASE - Duration::from_secs(4));
        lease.renewed(ago(11));
        assert!(lease.is_over(), "an answer that was eleven seconds on its way is worth nothing");
    }
}
