//! Asking the store: what comes after some places, and whether it has what the bus has brought.
//!
//! The first is the one statement behind resumes, gaps, doubts and idle shards. Before it, every time, the newest place that
//! this reader has ever seen is looked up: its checkpoints may have been restored together with the log, and then nothing else is left
//! that knows of the other history.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{Error, metric};
use crate::domain::ids::{Epoch, Position, Shard};
use crate::event_store::read::{self, Slice};
use crate::event_store::{self, ChunkSize, Place, PlaceCheck, Witness, check_places};
use crate::events::Envelope;
use crate::postgres::answered;
use crate::retry::Backoff;

/// How much one answer may bring: events, and bytes, roughly.
const EVENTS_MAX: usize = 8_000;
const BYTES: usize = 8 << 20;

/// Asks the store, and knows when it may be asked again after it did not answer.
#[derive(Debug)]
pub(super) struct Repair {
    pool: PgPool,
    chunk: ChunkSize,
    witness: Arc<Witness>,
    asking: Option<Asking>,
    pauses: Backoff,
    not_before: Option<Instant>,
}

/// A question under way, in a task of its own: reading is work, which goes on while the reader folds what came before.
#[derive(Debug)]
struct Asking {
    places: Vec<(Shard, Position)>,
    answer: AbortOnDropHandle<Result<Answer, event_store::Error>>,
}

/// What the store said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) slice: Slice,
    pub(super) limit_per_shard: usize,
    pub(super) epoch: Epoch,
}

/// What the store says to what the bus has brought.
#[derive(Debug)]
pub(super) enum Confirmed {
    /// It has all of it.
    All,
    /// It does not have these, and knows a later epoch than theirs: a relay of a dead history wrote them.
    Dead(Vec<Place>),
    /// It is away.
    Unknown,
}

impl Repair {
    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            chunk: ChunkSize::new(EVENTS_MAX, BYTES),
            witness: Arc::default(),
            asking: None,
            pauses: Backoff::pauses(Duration::from_millis(100), Duration::from_secs(2)),
            not_before: None,
        }
    }

    /// The time until which the store is left alone; none when it may be asked.
    pub(super) fn resting_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|at| *at > now)
    }

    /// Reads what comes after these places. None if the store is away: everything known of it is in doubt then.
    /// Cancel-safe: to ask the same again is to wait on.
    ///
    /// # Errors
    /// What trying again does not change.
    pub(super) async fn ask(&mut self, asked: &[(Shard, Position)]) -> Result<Option<Answer>, Error> {
        let under_way = self.asking.take().filter(|asking| asking.places == asked);
        let asking = under_way.unwrap_or_else(|| self.begin(asked));
        let asking = self.asking.insert(asking);
        let answer = (&mut asking.answer).await.unwrap_or_else(|ended| resume_unwind(ended.into_panic()));
        self.asking = None;
        let Some(answer) = self.settle(answer)? else { return Ok(None) };
        self.chunk.observe(&answer.slice.events);
        if let Some(newest) = answer.slice.events.last() {
            self.saw(newest);
        }
        metrics::counter!(metric::REPAIRS).increment(1);
        Ok(Some(answer))
    }

    /// The reader has seen this event of the store.
    pub(super) fn saw(&self, event: &Envelope) {
        self.witness.saw(Place::from(event));
    }

    /// Whether the store is there and has the newest place that this reader has seen. Cancel-safe. What was asked before
    /// is asked anew: it may have been another store.
    ///
    /// # Errors
    /// A fork, and what trying again does not change.
    pub(super) async fn recognises(&mut self) -> Result<bool, Error> {
        self.asking = None;
        let checked = answered(self.witness.check(&self.pool)).await;
        match self.settle(checked)? {
            Some(PlaceCheck::Fork { reason }) => Err(Error::Fork(reason)),
            Some(PlaceCheck::Same) => Ok(true),
            None => Ok(false),
        }
    }

    /// Looks up events that the bus has brought, together with the newest that was seen before, so that all that was ever
    /// confirmed is of one history: one lookup of a key each. Cancel-safe.
    ///
    /// # Errors
    /// A fork, and what trying again does not change.
    pub(super) async fn confirm(&mut self, places: &[Place]) -> Result<Confirmed, Error> {
        if self.resting_until(Instant::now()).is_some() {
            return Ok(Confirmed::Unknown);
        }
        let seen = self.witness.newest();
        let asked: Vec<Place> = places.iter().chain(&seen).cloned().collect();
        let missing = answered(self.missing(&asked)).await;
        let Some((missing, newest)) = self.settle(missing)? else { return Ok(Confirmed::Unknown) };
        if let Some((_, reason)) = missing.iter().find(|(place, _)| Some(place) == seen.as_ref()) {
            return Err(Error::Fork(reason.clone()));
        }
        if let Some((_, reason)) = missing.iter().find(|(place, _)| place.epoch >= newest) {
            return Err(Error::Fork(format!("Kafka has another history: {reason}")));
        }
        if !missing.is_empty() {
            return Ok(Confirmed::Dead(missing.into_iter().map(|(place, _)| place).collect()));
        }
        if let Some(last) = places.iter().max_by_key(|place| place.position) {
            self.witness.saw(last.clone());
        }
        Ok(Confirmed::All)
    }

    /// Notes whether the store is there. None if it is away.
    fn settle<T>(&mut self, answer: Result<T, event_store::Error>) -> Result<Option<T>, Error> {
        match answer {
            Ok(answer) => {
                if self.not_before.take().is_some() {
                    self.pauses.reset();
                    tracing::info!("the store answers again");
                }
                Ok(Some(answer))
            }
            Err(error) if error.is_transient() => {
                if self.not_before.is_none() {
                    tracing::warn!(%error, "the store does not answer; trying again until it does");
                }
                self.not_before = Some(Instant::now() + self.pauses.next_pause());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn begin(&self, asked: &[(Shard, Position)]) -> Asking {
        // Two at least: the first one is the reader's own.
        let limit_per_shard = (self.chunk.events() / asked.len().max(1)).max(2);
        let (pool, witness, places) = (self.pool.clone(), self.witness.clone(), asked.to_vec());
        let reading = async move { answered(read_after(&pool, &witness, &places, limit_per_shard)).await };
        Asking { places: asked.to_vec(), answer: AbortOnDropHandle::new(tokio::spawn(reading)) }
    }

    /// What the store does not have, and its newest epoch where that matters.
    async fn missing(&self, places: &[Place]) -> Result<(Vec<(Place, String)>, Epoch), event_store::Error> {
        let missing = check_places(&self.pool, places).await?;
        let newest = if missing.is_empty() { Epoch(0) } else { read::epoch_at_head(&self.pool).await? };
        Ok((missing, newest))
    }
}

async fn read_after(
    pool: &PgPool,
    witness: &Witness,
    places: &[(Shard, Position)],
    limit_per_shard: usize,
) -> Result<Answer, event_store::Error> {
    if let PlaceCheck::Fork { reason } = witness.check(pool).await? {
        return Err(event_store::Error::Fork { reason });
    }
    // The epoch first: should another begin between the statements, its events are asked about again.
    let epoch = read::epoch_at_head(pool).await?;
    let limit = i64::try_from(limit_per_shard).unwrap_or(i64::MAX);
    let slice = read::shards_after(pool, places, limit).await?;
    Ok(Answer { slice, limit_per_shard, epoch })
}
