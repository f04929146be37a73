//! The role `work`: runs of jobs are carried out, a bounded number at once.
//!
//! Workers are a consumer group: each owns shards of `jobs.v1` (where there is no Kafka, one process has them all) and takes the
//! runs of these at once. Which are open it reads from the read model `jobs`, as far as that is, and from the events after it.
//!
//! | happens | then |
//! | --- | --- |
//! | shards assigned | load their open runs, go on from the place of what was loaded |
//! | shards revoked | forget their runs; what is carried out goes on under its lease |
//! | a run may begin and a slot is free | a task takes its lease and works (see `attempt`), while this loop goes on reading |
//! | somebody else has the lease | asked again when it ends |
//! | the log says more of a run than was known here | that is taken in like an event that was read |
//! | a slot is free and a run of any shard has waited for seconds | this process takes it: leases, not shards, say who works |
//! | a run is cancelled | the task here is stopped; elsewhere the lease says so, and is looked at every second |
//! | the process is asked to end | no new runs; leases are given back, and no attempt is counted |

mod attempt;
mod board;
mod kinds;
mod leases;
mod metric;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use self::attempt::{Attempt, Left};
use self::board::{Board, Logged, Start, Told};
pub use self::kinds::Backups;
use crate::clock::Clock;
use crate::commands::Commands;
use crate::domain::ids::{Position, RunId, Shard};
use crate::events::{DecodeError, Envelope, Event};
use crate::feed::{self, Batch, Feed, FeedItem, Mode, Source, Subscription, Topics};
use crate::market_data::Fetcher;
use crate::postgres::{answered, answered_within};
use crate::queries::job_plan::{WaitingRun, list_waiting_runs, load_open};
use crate::retry::Backoff;

/// The consumer group, and the lock where there is no Kafka.
pub const GROUP: &str = "reactor.jobs";
const BATCH_EVENTS_MAX: usize = 1_000;
/// How often others are told that this worker is there.
const SHOW_EVERY: Duration = Duration::from_secs(3);
/// How often a worker with a free slot looks what waits elsewhere.
const HELP_EVERY: Duration = Duration::from_secs(2);
/// Who owns the shard has so long to begin a run before others do.
const HELP_AFTER: Duration = Duration::from_secs(5);
/// Runs that are looked at; more than slots, since others look at the same ones.
const HELP_RUNS_MAX: i64 = 32;
/// How long that may take: this loop has other things to do.
const HELP_WITHIN: Duration = Duration::from_secs(2);
/// How long attempts may take to give their leases back at the end.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(5);

/// What a worker stands on.
pub struct Parts {
    /// For leases and questions: not the pool that requests wait for.
    pub pool: PgPool,
    /// The write side.
    pub commands: Commands,
    /// Tells when a retry may begin.
    pub clock: Clock,
    /// One life of this process: another one has another name.
    pub owner: String,
    /// Runs at once.
    pub slots: usize,
    /// Fetches prices.
    pub fetcher: Fetcher,
    /// Where backups go.
    pub backups: Backups,
}

/// Why a worker ended. What passes by itself never gets here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The feed of jobs is over.
    #[error("the feed of {GROUP}")]
    Feed(#[from] feed::Error),
    /// A newer program wrote an event that this one must not pass over.
    #[error("the event at position {position}: {source}")]
    Newer {
        /// Its position.
        position: Position,
        /// What is new about it.
        source: DecodeError,
    },
}

/// Works until it is asked to end.
///
/// # Errors
/// [`Error`]: what waiting cannot cure.
pub async fn run(parts: Parts, source: Source, cancel: CancellationToken) -> Result<(), Error> {
    let subscription = Subscription {
        name: GROUP.to_owned(),
        topics: Topics::Jobs,
        mode: Mode::Group,
        batch_events_max: BATCH_EVENTS_MAX,
    };
    let feed = Feed::open(&source, subscription).await?;
    // A fork ends the loop without anybody asking the process to end.
    let cancel = cancel.child_token();
    let (board, attempts) = (Board::new(parts.slots), JoinSet::new());
    let mut worker = Worker {
        parts: Arc::new(parts),
        feed,
        board,
        places: BTreeMap::new(),
        attempts,
        running: BTreeMap::new(),
        untold: Untold::default(),
        cancel,
    };
    tracing::info!(owner = worker.parts.owner, slots = worker.parts.slots, "working");
    let outcome = worker.follow().await;
    worker.end().await;
    outcome
}

struct Worker {
    parts: Arc<Parts>,
    feed: Feed,
    board: Board,
    /// Of each shard that is ours: everything up to here is on the board.
    places: BTreeMap<Shard, Position>,
    attempts: JoinSet<Left>,
    running: BTreeMap<RunId, CancellationToken>,
    untold: Untold,
    cancel: CancellationToken,
}

/// What the leases are still to be told.
#[derive(Default)]
struct Untold {
    cancelled: BTreeSet<RunId>,
    ended: BTreeMap<RunId, u32>,
}

impl Worker {
    async fn follow(&mut self) -> Result<(), Error> {
        let mut shows = interval(SHOW_EVERY);
        let mut looks = interval(HELP_EVERY);
        for ticks in [&mut shows, &mut looks] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            self.start();
            let wait = self.board.wait(Instant::now());
            tokio::select! {
                () = self.cancel.cancelled() => return Ok(()),
                item = self.feed.next() => match item? {
                    FeedItem::Assigned(shards) => self.assign(&shards).await?,
                    FeedItem::Revoked(shards) => self.revoke(&shards),
                    FeedItem::Batch(batch) => self.take(batch).await?,
                },
                Some(ended) = self.attempts.join_next() => match ended {
                    Ok(left) => self.free(left)?,
                    // A bug, and to be heard.
                    Err(panic) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
                    Err(_) => {}
                },
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                _ = shows.tick() => self.show().await,
                _ = looks.tick(), if self.board.has_room() => self.help().await,
            }
        }
    }

    /// Begins as many runs as there are slots for.
    fn start(&mut self) {
        while let Some(start) = self.board.start(Instant::now()) {
            self.begin(start);
        }
    }

    /// Begins runs that wait although a slot is free here: their shard's owner is busy, or nobody is.
    async fn help(&mut self) {
        let waiting = list_waiting_runs(&self.parts.pool, HELP_AFTER, HELP_RUNS_MAX);
        match answered_within(HELP_WITHIN, waiting).await {
            Ok(waiting) => {
                for WaitingRun { run, job } in waiting {
                    if self.board.help(&run, Instant::now()) {
                        self.begin(Start { run, job });
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "cannot look what waits for a worker"),
        }
    }

    fn begin(&mut self, start: Start) {
        let run_id = start.run.run_id;
        let cancelled = CancellationToken::new();
        self.running.insert(run_id, cancelled.clone());
        let (parts, shutdown) = (Arc::clone(&self.parts), self.cancel.clone());
        self.attempts.spawn(Attempt { start, parts, cancelled, shutdown }.carry_out());
    }

    /// What the clocks here show: of the day, and of this process.
    fn moment(&self) -> (DateTime<Utc>, Instant) {
        (self.parts.clock.now(), Instant::now())
    }

    fn free(&mut self, Left { run_id, rest, found }: Left) -> Result<(), Error> {
        self.running.remove(&run_id);
        let at = Instant::now();
        self.board.free(run_id, at + rest, at);
        // Of a stream that the read model has parked, nobody else tells it.
        found.map_or(Ok(()), |envelope| self.learn(&envelope))
    }

    async fn take(&mut self, batch: Batch) -> Result<(), Error> {
        for envelope in &batch.events {
            self.learn(envelope)?;
            self.places.insert(envelope.shard, envelope.position);
        }
        let places: Vec<(Shard, Position)> =
            self.places.iter().map(|(shard, place)| (*shard, *place)).collect();
        self.feed.commit_hint(&places).await;
        self.tell_leases().await;
        Ok(())
    }

    /// Takes in what the log says.
    fn learn(&mut self, envelope: &Envelope) -> Result<(), Error> {
        let told = match envelope.event() {
            Ok(Event::Job(event)) => self.board.take(Logged::from(envelope), &event, self.moment()),
            Ok(_) => None,
            Err(source) if source.needs_newer_program() => {
                return Err(Error::Newer { position: envelope.position, source });
            }
            Err(error) => {
                tracing::error!(position = %envelope.position, %error, "an event of a job cannot be read: passed over");
                None
            }
        };
        match told {
            Some(Told::Cancelled(run_id)) => {
                if let Some(here) = self.running.get(&run_id) {
                    here.cancel();
                }
                self.untold.cancelled.insert(run_id);
            }
            Some(Told::Ended(run_id, attempt)) => {
                self.untold.ended.insert(run_id, attempt);
            }
            None => {}
        }
        Ok(())
    }

    /// Owners elsewhere learn from their leases. What cannot be told now is told later.
    async fn tell_leases(&mut self) {
        let Untold { cancelled, ended } = &self.untold;
        if cancelled.is_empty() && ended.is_empty() {
            return;
        }
        let cancelled: Vec<RunId> = cancelled.iter().copied().collect();
        let ended: Vec<(RunId, u32)> = ended.iter().map(|(run_id, attempt)| (*run_id, *attempt)).collect();
        let told = async {
            leases::cancel(&self.parts.pool, &cancelled).await?;
            leases::forget(&self.parts.pool, &ended).await
        };
        match told.await {
            Ok(()) => self.untold = Untold::default(),
            Err(error) => tracing::warn!(%error, "leases cannot be told what has ended"),
        }
    }

    /// Loads what is open in these shards, until that succeeds.
    async fn assign(&mut self, shards: &[Shard]) -> Result<(), Error> {
        let mut pauses = Backoff::pauses(Duration::from_millis(20), Duration::from_secs(5));
        loop {
            let loading = async {
                if !self.feed.recognises_the_store().await? {
                    return Ok(Err(sqlx::Error::PoolTimedOut.into()));
                }
                Ok::<_, feed::Error>(answered(load_open(&self.parts.pool, shards)).await)
            };
            let loaded = tokio::select! {
                () = self.cancel.cancelled() => return Ok(()),
                loaded = loading => loaded?,
            };
            match loaded {
                Ok(loaded) => {
                    self.board.assigned(shards, loaded.jobs, loaded.runs, self.moment());
                    self.untold.cancelled.extend(loaded.idle);
                    self.places.extend(loaded.places.iter().map(|(shard, place)| (*shard, place.position)));
                    self.feed.resume(loaded.places).await?;
                    self.show().await;
                    return Ok(());
                }
                Err(error) => tracing::warn!(%error, attempt = pauses.count(), "cannot load open runs"),
            }
            tokio::select! {
                () = self.cancel.cancelled() => return Ok(()),
                () = pauses.sleep() => {}
            }
        }
    }

    fn revoke(&mut self, shards: &[Shard]) {
        self.board.revoked(shards);
        self.places.retain(|shard, _| !shards.contains(shard));
    }

    async fn show(&mut self) {
        metrics::gauge!(metric::OLDEST).set(self.board.oldest_seconds(self.parts.clock.now()));
        self.tell_leases().await;
        let Parts { pool, owner, slots, .. } = &*self.parts;
        if let Err(error) = leases::show(pool, owner, *slots, &self.board.shards()).await {
            tracing::warn!(%error, "cannot say that this worker is there");
        }
    }

    /// Gives everything back: other workers go on where this one ends.
    async fn end(mut self) {
        self.cancel.cancel();
        let given_back = async { while self.attempts.join_next().await.is_some() {} };
        if timeout(GIVEN_BACK_WITHIN, given_back).await.is_err() {
            tracing::warn!(runs = self.attempts.len(), "runs are left to the end of their leases");
        }
        self.feed.close().await;
        if let Err(error) = leases::hide(&self.parts.pool, &self.parts.owner).await {
            tracing::debug!(%error, "cannot say that this worker has gone");
        }
    }
}
