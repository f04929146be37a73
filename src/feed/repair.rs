//! Asking the store what comes after some places: the one statement behind resumes, gaps, doubts and idle shards.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;

use super::{Error, metric};
use crate::domain::ids::{Epoch, Position, Shard};
use crate::event_store::read::{self, Slice};
use crate::event_store::{self, ChunkSize};
use crate::retry::Backoff;

/// How much one answer may bring: events, and bytes, roughly.
const EVENTS_MAX: usize = 5_000;
const BYTES: usize = 8 << 20;

/// Asks the store, and knows when it may be asked again after it did not answer.
#[derive(Debug)]
pub(super) struct Repair {
    pool: PgPool,
    chunk: ChunkSize,
    pauses: Backoff,
    not_before: Option<Instant>,
}

/// What the store said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) slice: Slice,
    pub(super) limit_per_shard: usize,
    pub(super) epoch: Epoch,
}

impl Repair {
    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            chunk: ChunkSize::new(EVENTS_MAX, BYTES),
            pauses: Backoff::pauses(Duration::from_millis(100), Duration::from_secs(2)),
            not_before: None,
        }
    }

    /// The time until which the store is left alone; none when it may be asked.
    pub(super) fn resting_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|at| *at > now)
    }

    /// Reads what comes after these places. None if the store is away: everything known of it is in doubt then.
    /// Cancel-safe.
    ///
    /// # Errors
    /// What trying again does not change.
    pub(super) async fn ask(&mut self, asked: &[(Shard, Position)]) -> Result<Option<Answer>, Error> {
        match self.try_ask(asked).await {
            Ok(answer) => {
                if self.not_before.take().is_some() {
                    self.pauses.reset();
                    tracing::info!("the store answers again");
                }
                self.chunk.observe(&answer.slice.events);
                metrics::counter!(metric::REPAIRS).increment(1);
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

    async fn try_ask(&self, asked: &[(Shard, Position)]) -> Result<Answer, event_store::Error> {
        // The epoch first: should another begin between the statements, its events are asked about again.
        let epoch = read::epoch_at_head(&self.pool).await?;
        // Two at least: the first one is the reader's own.
        let limit_per_shard = (self.chunk.events() / asked.len().max(1)).max(2);
        let limit = i64::try_from(limit_per_shard).unwrap_or(i64::MAX);
        let slice = read::shards_after(&self.pool, asked, limit).await?;
        Ok(Answer { slice, limit_per_shard, epoch })
    }
}
