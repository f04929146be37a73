//! The loop around a read model: feed, batch, flush, and what to do when any of them fails.
//!
//! | happens | then |
//! | --- | --- |
//! | shards assigned | load their checkpoints and go on from there, whatever the feed believes |
//! | shards revoked | drop their state; the new owner loads what was committed |
//! | a batch | one transaction, see `projection.rs`; no timer, so batches grow as the load does |
//! | another process wrote our shard, or a rebuild was promoted | drop everything, load, resume |
//! | the database fails | the same, after a pause that grows; for ever, since restart would do no better |
//! | nothing for a second | write how far idle shards were scanned |
//!
//! Only an [`Error`] that waiting cannot cure ends it.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::checkpoint::Idle;
use super::projection::{Flushed, Projection, ReadModel};
use super::read_ahead::ReadAhead;
use super::schema::Schema;
use super::{Error, schema};
use crate::clock::Clock;
use crate::domain::ids::{Position, Shard};
use crate::event_store::read;
use crate::feed::{Batch, Feed, FeedItem, Mode, Source, Subscription};
use crate::postgres::doubt_connections;
use crate::retry::Backoff;

/// How often idle shards are written and lag is measured.
const EVERY: Duration = Duration::from_secs(1);
/// How long a batch that waits for another read model leaves the floor to other changes.
const BATCH_WAITS: Duration = Duration::from_millis(20);
/// How long a flush may take: longer than its slowest statement. A server that vanished without a word answers never.
const FLUSHED_WITHIN: Duration = Duration::from_secs(120);
/// How long loading the state of shards may take.
const LOADED_WITHIN: Duration = Duration::from_secs(120);
/// Connections of one projector's rows: two for the halves of a flush, and one in reserve while a broken one is replaced.
const CONNECTIONS_MAX: u32 = 3;

/// Bounds of a projector.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many events one transaction takes at most.
    pub batch_events_max: usize,
    /// How many streams may be parked before the projection halts.
    pub parked_streams_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { batch_events_max: 4_000, parked_streams_max: 100 }
    }
}

/// Projects until cancelled, with the usual bounds.
///
/// # Errors
/// What waiting cannot cure; see [`Error`].
pub async fn run<M: ReadModel>(
    model: M,
    source: Source,
    pool: PgPool,
    cancel: CancellationToken,
) -> Result<(), Error> {
    run_with(model, source, pool, cancel, Settings::default()).await
}

/// Projects until cancelled. The schemas must have been made ([`schema::apply_all`]).
///
/// # Errors
/// What waiting cannot cure; see [`Error`].
pub async fn run_with<M: ReadModel>(
    model: M,
    source: Source,
    pool: PgPool,
    cancel: CancellationToken,
    settings: Settings,
) -> Result<(), Error> {
    let subscription = Subscription {
        // Another shape is another group: an older program goes on with its own.
        name: format!("projector.{}", Schema::named(M::NAME)?.live()),
        topics: M::TOPICS,
        mode: Mode::Group,
        batch_events_max: settings.batch_events_max,
    };
    let feed = Feed::open(&source, subscription).await.map_err(feed_error::<M>)?;
    let rows = schema::live_pool(&pool, M::NAME, CONNECTIONS_MAX)?;
    let projection = Projection::new(model, rows.clone(), settings.parked_streams_max);
    let runner = Runner {
        projection,
        feed,
        pool,
        cancel,
        ahead: ReadAhead::default(),
        batch_events_max: settings.batch_events_max,
    };
    tracing::info!(read_model = M::NAME, "projecting");
    let outcome = runner.run().instrument(tracing::info_span!("projector", read_model = M::NAME)).await;
    rows.close().await;
    outcome
}

struct Runner<M> {
    projection: Projection<M>,
    feed: Feed,
    /// Of the log: the one whose statements mean the schema `public`.
    pool: PgPool,
    cancel: CancellationToken,
    ahead: ReadAhead,
    batch_events_max: usize,
}

/// What woke the loop.
enum Wake {
    Feed(FeedItem),
    Changed(Result<(), Error>),
    Tick,
}

/// Whether the loop goes on.
enum Next {
    GoOn,
    End,
}

impl<M: ReadModel> Runner<M> {
    async fn run(mut self) -> Result<(), Error> {
        let outcome = self.follow().await;
        self.feed.close().await;
        outcome
    }

    async fn follow(&mut self) -> Result<(), Error> {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wake = tokio::select! {
                () = self.cancel.cancelled() => return Ok(()),
                item = self.ahead.next(&mut self.feed) => Wake::Feed(item.map_err(feed_error::<M>)?),
                woken = self.projection.model.woken() => Wake::Changed(woken),
                _ = ticks.tick() => Wake::Tick,
            };
            let next = match wake {
                Wake::Feed(FeedItem::Assigned(shards)) => self.assign(shards).await?,
                Wake::Feed(FeedItem::Revoked(shards)) => {
                    self.projection.revoke(&shards);
                    Next::GoOn
                }
                Wake::Feed(FeedItem::Batch(batch)) => self.batch(batch).await?,
                Wake::Changed(Ok(())) => self.flush(Idle::Leave).await?,
                Wake::Changed(Err(Error::Database(error))) => self.recover(Some(error)).await?,
                Wake::Changed(Err(error)) => return Err(error),
                Wake::Tick => self.tick().await?,
            };
            if let Next::End = next {
                return Ok(());
            }
        }
    }

    /// Folds and commits a batch, however long it has to wait for the read model it is made from.
    async fn batch(&mut self, batch: Batch) -> Result<Next, Error> {
        let span = tracing::debug_span!("batch", read_model = M::NAME, events = batch.events.len());
        loop {
            self.let_go();
            match self.project(&batch).instrument(span.clone()).await {
                Ok(Flushed::Written) => break,
                Ok(Flushed::Lost) => return self.recover(None).await,
                Ok(Flushed::NotYet) if self.cancel.is_cancelled() => return Ok(Next::End),
                Ok(Flushed::NotYet) => match self.go_on_without_it().await {
                    Ok(Flushed::Lost) => return self.recover(None).await,
                    Ok(_) => {}
                    Err(Error::Database(error)) => return self.recover(Some(error)).await,
                    Err(error) => return Err(error),
                },
                Err(Error::Database(error)) => return self.recover(Some(error)).await,
                Err(error) => return Err(error),
            }
        }
        for event in &batch.events {
            tracing::debug!(
                position = %event.position, stream = %event.stream_id, event_type = %event.event_type,
                correlation_id = %event.correlation_id, "projected"
            );
        }
        let places: Vec<(Shard, Position)> =
            self.projection.checkpoints().map(|mine| (mine.shard, mine.place.position)).collect();
        self.feed.commit_hint(&places).await;
        Ok(Next::GoOn)
    }

    /// Folds and commits, and meanwhile lets the feed bring what comes after.
    async fn project(&mut self, batch: &Batch) -> Result<Flushed, Error> {
        let Self { projection, feed, ahead, batch_events_max, .. } = self;
        let projected = in_time(projection.project(batch));
        tokio::pin!(projected);
        loop {
            tokio::select! {
                // The feed first, so that it reads while the batch is folded.
                biased;
                item = feed.next(), if ahead.has_room(*batch_events_max) => ahead.put(item),
                projected = &mut projected => return projected,
            }
        }
    }

    /// While a batch waits, what else wakes the read model (prices) is flushed as ever.
    async fn go_on_without_it(&mut self) -> Result<Flushed, Error> {
        let woken = self.projection.model.woken();
        if let Ok(woken) = tokio::time::timeout(BATCH_WAITS, woken).await {
            woken?;
        }
        self.let_go();
        in_time(self.projection.flush(Idle::Leave)).await
    }

    /// While this loop was busy the group may have taken shards back: their new owner must not be disturbed.
    fn let_go(&mut self) {
        let mut gone = self.feed.taken_back(&self.projection.shards());
        gone.extend(self.ahead.revoked());
        if !gone.is_empty() {
            self.projection.revoke(&gone);
        }
    }

    async fn flush(&mut self, idle: Idle) -> Result<Next, Error> {
        self.let_go();
        match in_time(self.projection.flush(idle)).await {
            Ok(Flushed::Lost) => self.recover(None).await,
            Ok(_) => Ok(Next::GoOn),
            Err(Error::Database(error)) => self.recover(Some(error)).await,
            Err(error) => Err(error),
        }
    }

    async fn tick(&mut self) -> Result<Next, Error> {
        let next = self.flush(Idle::Write).await?;
        self.measure().await;
        Ok(next)
    }

    /// Drops everything and loads it again, until that succeeds.
    async fn recover(&mut self, error: Option<sqlx::Error>) -> Result<Next, Error> {
        self.let_go();
        let shards = self.projection.shards();
        match error {
            Some(error) => tracing::warn!(read_model = M::NAME, %error, "the database failed: loading again"),
            None => {
                tracing::info!(
                    read_model = M::NAME,
                    "a shard was written by another process, or the rows were made anew: loading again"
                )
            }
        }
        self.assign(shards).await
    }

    async fn assign(&mut self, shards: Vec<Shard>) -> Result<Next, Error> {
        // What was read behind the old places comes again behind the new ones.
        self.ahead.forget_batches();
        let mut pauses = Backoff::pauses(Duration::from_millis(20), Duration::from_secs(5));
        loop {
            let loading = async {
                if !self.feed.recognises_the_store().await.map_err(feed_error::<M>)? {
                    return Err(sqlx::Error::PoolTimedOut.into());
                }
                let assigned = tokio::time::timeout(LOADED_WITHIN, self.projection.assign(&shards));
                assigned.await.unwrap_or_else(|_| {
                    doubt_connections();
                    Err(Error::Database(sqlx::Error::PoolTimedOut))
                })
            };
            let assigned = tokio::select! {
                () = self.cancel.cancelled() => return Ok(Next::End),
                assigned = loading => assigned,
            };
            match assigned {
                Ok(places) => {
                    self.feed.resume(places).await.map_err(feed_error::<M>)?;
                    return Ok(Next::GoOn);
                }
                Err(Error::Database(error)) => {
                    tracing::warn!(read_model = M::NAME, %error, attempt = pauses.count(), "cannot load checkpoints");
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = self.cancel.cancelled() => return Ok(Next::End),
                () = pauses.sleep() => {}
            }
        }
    }

    /// Publishes how far behind the head of the log the rows are. A failure is the next flush's to report.
    async fn measure(&mut self) {
        let Ok(head) = read::head(&self.pool).await else { return };
        let slowest = self.projection.checkpoints().min_by_key(|mine| mine.scanned_to);
        let Some(slowest) = slowest else { return };
        let behind = (head.0 - slowest.scanned_to.0).max(0);
        let waiting = if behind > 0 { Position(slowest.scanned_to.0 + 1) } else { Position(0) };
        let Ok(waiting) = read::find(&self.pool, waiting).await else { return };
        let since = waiting.map(|event| event.recorded_at);
        let seconds = since.map_or(0.0, |at| (Clock::System.now() - at).as_seconds_f64().max(0.0));
        ::metrics::gauge!("insight_projector_lag_events", "read_model" => M::NAME).set(behind as f64);
        ::metrics::gauge!("insight_projector_lag_seconds", "read_model" => M::NAME).set(seconds);
        ::metrics::gauge!("insight_projector_parked_streams", "read_model" => M::NAME)
            .set(self.projection.parked() as f64);
    }
}

/// What a flush came to, or the error of a lost connection.
async fn in_time(flush: impl Future<Output = Result<Flushed, Error>>) -> Result<Flushed, Error> {
    tokio::time::timeout(FLUSHED_WITHIN, flush).await.unwrap_or_else(|_| {
        doubt_connections();
        Err(Error::Database(sqlx::Error::PoolTimedOut))
    })
}

fn feed_error<M: ReadModel>(source: crate::feed::Error) -> Error {
    Error::Feed { read_model: M::NAME, source }
}
