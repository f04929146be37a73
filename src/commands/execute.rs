//! Executing a command: from a request to its answer, through the queue and, before any "no", through the log.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::aggregates::Aggregates;
use super::answer::{Answer, Refusal};
use super::assets::Assets;
use super::batch::{Found, Pending, Verdict};
use super::load::{HalfRead, READ_EVENTS, load};
use super::request::{AssetRef, Request, Resolved};
use super::writer::{Queues, Writer, notify};
use crate::clock::Clock;
use crate::domain::asset::Asset;
use crate::domain::ids::{AssetId, Position, StreamId, Version};
use crate::domain::rejection::Rejection;
use crate::event_store::{Appender, Error, Place, Witness, read};
use crate::events::{DecodeError, Envelope};
use crate::metrics;

/// Bounds of the write side.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Commands that may wait; one more is answered 503.
    pub queue_max: usize,
    /// Streams whose state is remembered, twice over.
    pub aggregates_max: usize,
    /// How long the log may be out of reach before callers are told instead of kept waiting.
    pub unavailable_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { queue_max: 4_096, aggregates_max: 50_000, unavailable_after: Duration::from_millis(600) }
    }
}

/// The write side of this process. Cheap to clone.
#[derive(Clone)]
pub struct Commands {
    inner: Arc<Inner>,
}

struct Inner {
    queue: mpsc::Sender<Pending>,
    windows: mpsc::Sender<Pending>,
    pool: PgPool,
    clock: Clock,
    assets: Assets,
    /// What this process knows the log by.
    witness: Arc<Witness>,
    /// Long streams that callers are reading.
    half_read: HalfRead,
    available: watch::Receiver<bool>,
    settings: Settings,
}

const QUEUE_FULL: &str = "too many commands are waiting";
const DEADLINE: &str = "the command was not decided in time";
const STOPPING: &str = "the server is stopping";

impl Commands {
    /// Starts the thread that appends. The future ends when it does: by `cancel`, or with the error that must
    /// stop the process.
    pub fn start(
        options: PgConnectOptions,
        pool: PgPool,
        clock: Clock,
        settings: Settings,
        cancel: CancellationToken,
    ) -> (Self, impl Future<Output = Result<(), Error>> + Send + 'static) {
        let (queue, commands) = mpsc::channel(settings.queue_max);
        // Few: each may hold two thousand prices.
        let (windows_in, windows) = mpsc::channel(8);
        let appender = Appender::stopping_with(options, cancel.clone());
        let available = appender.available();
        let (head, moved) = watch::channel(Position(0));
        let aggregates = Aggregates::new(settings.aggregates_max);
        let witness = appender.witness();
        let writer = Writer { appender, aggregates, clock: clock.clone(), head };
        let inner = Inner {
            queue,
            windows: windows_in,
            pool: pool.clone(),
            clock,
            assets: Assets::new(Arc::clone(&witness)),
            witness: Arc::clone(&witness),
            half_read: HalfRead::default(),
            available,
            settings,
        };
        let running = async move {
            let runtime = tokio::runtime::Handle::current();
            let stop = cancel.clone();
            let (done, ended) = oneshot::channel();
            let thread = std::thread::Builder::new().name("append".into()).spawn(move || {
                // Nobody listens any more when the process is going down.
                let _ = done.send(runtime.block_on(writer.run(Queues { commands, windows }, stop)));
            });
            thread.map_err(sqlx::Error::Io)?;
            let appending = async {
                // The thread answers unless it panicked, and then the process must stop loudly.
                ended.await.unwrap_or_else(|_| Err(sqlx::Error::WorkerCrashed.into()))
            };
            let watching = witness.watch(&pool, &cancel);
            let ((), (), ()) =
                tokio::try_join!(appending, watching, notify(moved, pool.clone(), cancel.clone()).map(Ok))?;
            Ok(())
        };
        (Self { inner: Arc::new(inner) }, running)
    }

    /// Executes a command; its answer is durable.
    ///
    /// # Errors
    /// [`Refusal`]. With [`Refusal::Busy`] the command may have happened: sending it again tells.
    pub async fn execute(&self, request: Request) -> Result<Answer, Refusal> {
        let deadline = request.deadline;
        let started = Instant::now();
        let executed = tokio::time::timeout_at(deadline, async {
            let asset_id = match request.asset() {
                // An asset that nobody has listed has a stream without events, which the decision finds.
                Some(asset) => Some(self.resolve(asset).await?.unwrap_or(AssetId(Uuid::nil()))),
                None => None,
            };
            let executed = self.run(Arc::new(request.resolve(asset_id)), Lane::Commands).await?;
            Ok(executed.answer)
        });
        let answer = executed.await.unwrap_or_else(|_| Err(busy(DEADLINE)));
        metrics::command_executed(outcome(&answer), started.elapsed());
        answer
    }

    /// The listed asset that a client names.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when the log cannot be read.
    pub async fn find_asset(&self, asset: &AssetRef) -> Result<Option<Arc<Asset>>, Refusal> {
        self.inner.assets.find(&self.inner.pool, asset).await.map_err(refuse)
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    async fn resolve(&self, asset: &AssetRef) -> Result<Option<AssetId>, Refusal> {
        self.inner.assets.resolve(&self.inner.pool, asset).await.map_err(refuse)
    }

    /// Sends a command that is resolved.
    pub(super) async fn run_command(&self, request: Arc<Resolved>) -> Result<Executed, Refusal> {
        self.run(request, Lane::Commands).await
    }

    /// Sends a window of prices through the queue of its own, waiting for a place in it.
    pub(super) async fn run_window(&self, request: Arc<Resolved>) -> Result<Executed, Refusal> {
        self.run(request, Lane::Windows).await
    }

    /// Through the queue as often as it takes. The request's deadline bounds it, from outside.
    async fn run(&self, request: Arc<Resolved>, lane: Lane) -> Result<Executed, Refusal> {
        let mut found = Found::default();
        loop {
            let verdict = self.once(&request, std::mem::take(&mut found), lane).await?;
            match verdict {
                Verdict::Accepted { answer, request_hash } if *request_hash == *request.request_hash => {
                    return Ok(Executed { answer: Arc::unwrap_or_clone(answer), before: None });
                }
                Verdict::Accepted { .. } => return Err(Refusal::KeyReused),
                Verdict::Known => {
                    let events = self.read_command(request.command_id).await?;
                    return original(&request, events);
                }
                Verdict::No { rejection, reads } => match self.confirm(&request, &reads).await? {
                    Confirmed::Known(events) => return original(&request, events),
                    Confirmed::Newer(newer) => found = newer,
                    Confirmed::Stands => return Err(Refusal::Rejected(rejection)),
                },
                Verdict::Unchanged { reads } => match self.confirm(&request, &reads).await? {
                    Confirmed::Known(events) => return original(&request, events),
                    Confirmed::Newer(newer) => found = newer,
                    Confirmed::Stands => return self.unchanged(&request, &reads).await,
                },
                Verdict::Missing(streams) => found = self.load(streams).await?,
                Verdict::EmailTaken => return Err(Refusal::Rejected(Rejection::EmailTaken)),
                Verdict::Expired => return Err(busy(DEADLINE)),
                Verdict::Unstorable => {
                    return Err(Refusal::Internal("the database cannot store this command".into()));
                }
            }
        }
    }

    /// Once through the queue.
    async fn once(&self, request: &Arc<Resolved>, found: Found, lane: Lane) -> Result<Verdict, Refusal> {
        let mut available = self.inner.available.clone();
        let (reply, verdict) = oneshot::channel();
        let pending = Pending::new(Arc::clone(request), found, reply);
        // Waiting for a place in the queue is waiting for the log as well.
        let decided = async {
            match lane {
                Lane::Commands => self.inner.queue.try_send(pending).map_err(|error| match error {
                    mpsc::error::TrySendError::Full(_) => busy(QUEUE_FULL),
                    mpsc::error::TrySendError::Closed(_) => busy(STOPPING),
                })?,
                Lane::Windows => self.inner.windows.send(pending).await.map_err(|_| busy(STOPPING))?,
            }
            verdict.await.map_err(|_| busy(STOPPING))
        };
        let unreachable = async {
            loop {
                // The sender lives as long as the thread; without it the verdict's channel ends too.
                if available.wait_for(|available| !available).await.is_err() {
                    std::future::pending::<()>().await;
                }
                let back = available.wait_for(|available| *available);
                if tokio::time::timeout(self.inner.settings.unavailable_after, back).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            verdict = decided => verdict,
            () = unreachable => Err(Refusal::unreachable()),
        }
    }

    /// Holds a "no" against the log, in one read.
    async fn confirm(&self, request: &Resolved, reads: &[(StreamId, Version)]) -> Result<Confirmed, Refusal> {
        let read = read::command_or_newer(&self.inner.pool, request.command_id, reads, READ_EVENTS).await;
        let (own, newer) = read.map_err(refuse)?;
        if !own.is_empty() {
            return Ok(Confirmed::Known(own));
        }
        let Some(newest) = newer.last() else { return Ok(Confirmed::Stands) };
        self.inner.witness.saw(Place::from(newest));
        let decoded = newer.iter().map(|e| Ok((e.stream_id.clone(), e.version, e.event()?)));
        let newer: Result<_, DecodeError> = decoded.collect();
        Ok(Confirmed::Newer(Found { newer: newer.map_err(unreadable)?, ..Found::default() }))
    }

    async fn load(&self, streams: Vec<StreamId>) -> Result<Found, Refusal> {
        let Inner { pool, witness, half_read, .. } = &*self.inner;
        let streams = load(pool, witness, half_read, streams).await.map_err(refuse)?;
        Ok(Found { streams, ..Found::default() })
    }

    /// The answer to a command that changes nothing: where the log stands now.
    async fn unchanged(
        &self,
        request: &Resolved,
        reads: &[(StreamId, Version)],
    ) -> Result<Executed, Refusal> {
        let version = reads.iter().find(|(id, _)| *id == request.target).map_or(Version(0), |(_, v)| *v);
        let position = read::head(&self.inner.pool).await.map_err(refuse)?;
        let epoch = read::epoch_at_head(&self.inner.pool).await.map_err(refuse)?;
        let stream_id = request.target.clone();
        let command_id = request.command_id;
        let answer = Answer { command_id, stream_id, version, epoch, position, events: Vec::new() };
        Ok(Executed { answer, before: None })
    }

    /// The events of a command that is in the log.
    pub(super) async fn read_command(&self, command_id: Uuid) -> Result<Vec<Envelope>, Refusal> {
        read::command(&self.inner.pool, command_id).await.map_err(refuse)
    }
}

/// Which queue: a full one is an answer to a command, while a window of prices waits for its place.
#[derive(Clone, Copy)]
enum Lane {
    Commands,
    Windows,
}

/// What the log says to a "no".
enum Confirmed {
    /// The command had been accepted: these are its events.
    Known(Vec<Envelope>),
    /// What was read has changed.
    Newer(Found),
    /// It stands.
    Stands,
}

/// An answer, and whether it was given before.
pub(super) struct Executed {
    pub answer: Answer,
    /// The command's events in the log, where it had been accepted before this request.
    pub before: Option<Vec<Envelope>>,
}

/// The answer of a command that was accepted before, if it was the same request.
pub(super) fn original(request: &Resolved, events: Vec<Envelope>) -> Result<Executed, Refusal> {
    let Some(answer) = Answer::from_log(&events) else {
        return Err(Refusal::Internal("a known command has no events".into()));
    };
    if events[0].request_hash != request.request_hash {
        return Err(Refusal::KeyReused);
    }
    Ok(Executed { answer, before: Some(events) })
}

pub(super) fn outcome<T>(answer: &Result<T, Refusal>) -> &'static str {
    match answer {
        Ok(_) => "accepted",
        Err(Refusal::Busy { .. }) => "busy",
        Err(_) => "refused",
    }
}

fn busy(reason: &'static str) -> Refusal {
    Refusal::Busy { retry_after_seconds: 1, reason }
}

fn unreadable(error: DecodeError) -> Refusal {
    Refusal::Internal(error.to_string())
}

fn refuse(error: Error) -> Refusal {
    if error.is_transient() {
        tracing::warn!(%error, "the log could not be read for a command");
        return Refusal::unreachable();
    }
    Refusal::Internal(error.to_string())
}
