//! Loading: whole shards, folded in memory and written by COPY.
//!
//! Workers take shards from a list. A worker gathers shards until it holds enough, or has held something for long enough,
//! and writes them in one transaction with their checkpoints: killed at any moment, a shard is whole in the tables or
//! absent, and what is lost is a shard that was being read and a few seconds of others. While one worker reads, another
//! folds and a third writes, so that the processors of the program and of the server have something to do all the time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::task::JoinSet;

use super::beside::Beside;
use super::log::{Epochs, Reader};
use super::pace::Pace;
use super::{Hear, News, Options, Progress, steps};
use crate::domain::ids::{Epoch, Position, Shard};
use crate::event_store::{Place, read};
use crate::events::Envelope;
use crate::projectors::Error;
use crate::projectors::checkpoint::Checkpoint;
use crate::projectors::projection::{FromLog, Projection};

/// Events that are decoded and folded at once.
const CHUNK_EVENTS: usize = 512;
const TOLD_EVERY: Duration = Duration::from_millis(250);

/// What workers share.
struct Loading {
    pool: PgPool,
    beside: Arc<Beside>,
    epochs: Arc<Epochs>,
    shards: Mutex<VecDeque<Shard>>,
    /// The last event that is loaded; what comes after it is caught up with.
    cut: Position,
    piece_bytes: usize,
    parked_streams_max: usize,
    pace: Pace,
    /// Positions that the shards have passed, added up.
    passed: AtomicI64,
}

/// Loads every shard that has no checkpoint yet.
pub(super) async fn load<M: FromLog>(
    beside: &Arc<Beside>,
    pool: &PgPool,
    options: &Options,
    hear: Hear<'_>,
) -> Result<(), Error> {
    let all = M::TOPICS.shards();
    let loaded = beside.checkpoints(&mut *beside.rows.acquire().await?).await?;
    let shards = steps::to_load(&all, &loaded);
    if shards.is_empty() {
        return Ok(());
    }
    // Shards that an earlier run has loaded stand at their own places.
    let cut = read::head(pool).await?;
    let count = shards.len() as i64;
    let loading = Arc::new(Loading {
        pool: pool.clone(),
        beside: Arc::clone(beside),
        epochs: Arc::new(Epochs::load(pool).await?),
        shards: Mutex::new(shards),
        cut,
        piece_bytes: options.piece_bytes,
        parked_streams_max: options.parked_streams_max,
        pace: Pace::of(options.throttle),
        passed: AtomicI64::new(0),
    });
    let mut workers = JoinSet::new();
    for _ in 0..options.workers.max(1) {
        workers.spawn(work::<M>(Arc::clone(&loading)));
    }
    let started = Instant::now();
    let mut ticks = tokio::time::interval(TOLD_EVERY);
    loop {
        tokio::select! {
            ended = workers.join_next() => match ended {
                None => return Ok(()),
                Some(Ok(outcome)) => outcome?,
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            },
            _ = ticks.tick() => {
                let position = Position(loading.passed.load(Ordering::Relaxed) / count);
                let events_per_second = position.0 as f64 / started.elapsed().as_secs_f64().max(1e-9);
                hear(News::Progress(Progress { position, head: cut, events_per_second }));
            }
        }
    }
}

/// Takes shards until none is left.
async fn work<M: FromLog>(loading: Arc<Loading>) -> Result<(), Error> {
    let mut reader = Reader::open(&loading.pool, Arc::clone(&loading.epochs)).await?;
    let mut piece = Piece::<M>::new(&loading);
    let outcome = async {
        while let Some(shard) = loading.next_shard() {
            piece.gather(&loading, &mut reader, shard).await?;
            if piece.is_due(&loading) {
                piece = piece.write(&loading).await?;
            }
        }
        piece.write(&loading).await
    };
    let outcome = outcome.await;
    reader.close().await;
    outcome.map(drop)
}

impl Loading {
    fn next_shard(&self) -> Option<Shard> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Some shards in memory.
struct Piece<M> {
    projection: Projection<M>,
    begun: Vec<Checkpoint>,
    since: Instant,
}

impl<M: FromLog> Piece<M> {
    fn new(loading: &Loading) -> Self {
        let rows = loading.beside.rows.clone();
        let projection = Projection::new(M::from_nothing(), rows, loading.parked_streams_max);
        Self { projection, begun: Vec::new(), since: Instant::now() }
    }

    /// Whether it is written before another shard is read.
    fn is_due(&self, loading: &Loading) -> bool {
        steps::is_due(self.projection.model.held_bytes(), loading.piece_bytes, self.since.elapsed())
    }

    /// Folds a shard up to the cut, or as much of it as memory is meant to hold.
    async fn gather(&mut self, loading: &Loading, reader: &mut Reader, shard: Shard) -> Result<(), Error> {
        let mut events = reader.shard(shard, loading.cut).await?;
        let mut place = Place::origin(Epoch(1));
        let chunk_events = loading.pace.at_once(CHUNK_EVENTS);
        let mut chunk: Vec<Arc<Envelope>> = Vec::with_capacity(chunk_events);
        let mut passed = 0;
        let scanned_to = loop {
            let event = events.next().await?.map(Arc::new);
            let is_last = event.is_none();
            chunk.extend(event);
            if chunk.len() < chunk_events && !is_last {
                continue;
            }
            if let Some(last) = chunk.last() {
                place = Place::from(&**last);
            }
            let chunk = std::mem::replace(&mut chunk, Vec::with_capacity(chunk_events));
            let count = chunk.len();
            self.projection.gather(chunk)?;
            loading.pace.passed(count).await;
            loading.passed.fetch_add(place.position.0 - passed, Ordering::Relaxed);
            passed = place.position.0;
            if is_last {
                break loading.cut;
            }
            if self.projection.model.held_bytes() >= loading.piece_bytes {
                break place.position;
            }
        };
        drop(events);
        if scanned_to < loading.cut {
            // What is still being sent is of no use.
            let fresh = Reader::open(&loading.pool, Arc::clone(&loading.epochs)).await?;
            std::mem::replace(reader, fresh).close().await;
        }
        loading.passed.fetch_add(loading.cut.0 - passed, Ordering::Relaxed);
        self.begun.push(Checkpoint { shard, place, scanned_to, price_position: Position(0), revision: 0 });
        Ok(())
    }

    /// Writes what was gathered, and begins with nothing.
    async fn write(mut self, loading: &Loading) -> Result<Self, Error> {
        const SUMS: &str =
            "insert into rebuild_sums (table_name, columns, rows, checksum) values ($1, $2, $3, $4)";
        if !self.begun.is_empty() {
            self.projection.copy(&self.begun, SUMS).await?;
        }
        Ok(Self::new(loading))
    }
}
