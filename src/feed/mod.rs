//! The log as readers see it: per shard, in order, no gap, no duplicate, one history.
//!
//! A [`Feed`] is opened on a [`Source`], which says how this process reads: straight from the store, or as a member
//! of a Kafka consumer group. What comes out is the same, and neither Kafka's delivery nor its ordering is relied
//! upon:
//!
//! | step | who |
//! | --- | --- |
//! | [`FeedItem::Assigned`]: these shards are mine now | feed |
//! | load the checkpoints, answer with [`Feed::resume`] | consumer |
//! | read what the store has after each place, the place's own event first: another one there is a fork | feed |
//! | follow the tail or the partitions; a break in the chain is repaired from the store | feed |
//! | what Kafka brought is looked up in the store, the last event of each shard, before it is handed on | feed |
//! | [`FeedItem::Batch`]: apply, write rows and checkpoint in one transaction | consumer |
//! | the checkpoint was somebody else's: drop the state, reload, [`Feed::resume`] again | consumer |
//! | [`FeedItem::Revoked`]: drop the state | consumer |
//!
//! A consumer goes on from the `position` of its last applied event, never from `scanned_to`, which is a statement
//! about what readers may believe and not a place in a chain.

pub mod chain;
#[cfg(test)]
mod fixtures;
mod kafka;
mod lock;
mod metric;
mod offsets;
mod repair;
mod store;
pub(crate) mod tracks;
mod window;

use std::sync::Arc;

use sqlx::PgPool;

use crate::domain::ids::{JOB_SHARD_FIRST, MARKET_SHARD, PORTFOLIO_SHARDS, Position, SHARDS, Shard};
use crate::event_store::{self, Place};
use crate::events::Envelope;
use crate::kafka::KafkaSettings;

use self::kafka::KafkaFeed;
use self::store::StoreFeed;
pub use self::store::StoreTail;
pub use self::window::WindowLimits;

/// What a feed says next.
#[derive(Debug)]
pub enum FeedItem {
    /// These shards are mine now: load their checkpoints and answer with [`Feed::resume`].
    Assigned(Vec<Shard>),
    /// These are no longer mine: drop their state. Nothing need be written; the checkpoint's revision fences.
    Revoked(Vec<Shard>),
    /// Events to apply, and how far the shards are known complete.
    Batch(Batch),
}

impl Batch {
    /// Batches of at most `events_max` events; what is known to be complete is said by the last.
    fn split(events: Vec<Arc<Envelope>>, scanned_to: Vec<(Shard, Position)>, events_max: usize) -> Vec<Self> {
        let pieces = events.chunks(events_max.max(1)).map(<[_]>::to_vec);
        let mut batches: Vec<_> = pieces.map(|events| Self { events, scanned_to: Vec::new() }).collect();
        match batches.last_mut() {
            Some(last) => last.scanned_to = scanned_to,
            None if scanned_to.is_empty() => {}
            None => batches.push(Self { events, scanned_to }),
        }
        batches
    }
}

impl FeedItem {
    /// Takes out what a batch says about these shards.
    fn forget(&mut self, shards: &[Shard]) {
        if let Self::Batch(batch) = self {
            batch.events.retain(|event| !shards.contains(&event.shard));
            batch.scanned_to.retain(|(shard, _)| !shards.contains(shard));
        }
    }
}

/// Events of resumed shards. In order per shard; events of different shards may overtake each other.
#[derive(Debug, Default)]
pub struct Batch {
    /// To apply, in this order.
    pub events: Vec<Arc<Envelope>>,
    /// No event of this shard at or below this position is still to come after this batch. Told at least once a
    /// second for every resumed shard for which it moved.
    pub scanned_to: Vec<(Shard, Position)>,
}

/// Which part of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topics {
    /// Shards 0 to 31: investors, portfolios, alarms.
    Portfolio,
    /// Shard 32: assets, symbols, prices.
    Market,
    /// Both.
    PortfolioAndMarket,
    /// Shards 33 to 40: jobs.
    Jobs,
}

impl Topics {
    /// The shards, in order.
    pub fn shards(self) -> Vec<Shard> {
        let portfolio = (0..PORTFOLIO_SHARDS).map(Shard);
        match self {
            Self::Portfolio => portfolio.collect(),
            Self::Market => vec![MARKET_SHARD],
            Self::PortfolioAndMarket => portfolio.chain([MARKET_SHARD]).collect(),
            Self::Jobs => (JOB_SHARD_FIRST..SHARDS).map(Shard).collect(),
        }
    }
}

/// Who shares the work with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The instances with the same name share the shards: a consumer group, or one holder of a lock.
    Group,
    /// No group and no lock: every instance reads everything.
    Manual,
}

/// What a consumer wants to read.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The consumer group and the name of the lock, for example `projector.holdings`.
    pub name: String,
    /// Which part of the log.
    pub topics: Topics,
    /// Shared with others of this name or not.
    pub mode: Mode,
    /// The most events in a batch.
    pub batch_events_max: usize,
}

/// How this process reads the log. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Source {
    /// From the store, all feeds of the process through one reader.
    Store(Arc<StoreTail>),
    /// Through Kafka, with the store for repairs.
    Kafka(KafkaSettings, PgPool),
}

/// Why a feed ended. What passes by itself never gets here: it is retried inside, for ever.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The store's history is not the one this consumer has read: halt.
    #[error("the log has forked: {0}; {advice}", advice = event_store::AFTER_A_RESTORE)]
    Fork(String),
    /// The store gave an answer that trying again does not change.
    #[error("the log cannot be read")]
    Store(#[source] Arc<event_store::Error>),
    /// A Kafka client could not even be made: a setting is wrong.
    #[error("{0}")]
    Kafka(String),
}

impl From<event_store::Error> for Error {
    fn from(error: event_store::Error) -> Self {
        match error {
            event_store::Error::Fork { reason } => Self::Fork(reason),
            error => Self::Store(Arc::new(error)),
        }
    }
}

/// A consumer's view of the log.
#[derive(Debug)]
pub struct Feed(Kind);

#[derive(Debug)]
enum Kind {
    Store(Box<StoreFeed>),
    Kafka(Box<KafkaFeed>),
}

impl Feed {
    /// Opens a feed. The first item is what is assigned, once something is.
    ///
    /// # Errors
    /// Settings that cannot work. A server that is away is not an error: [`Feed::next`] waits for it.
    pub async fn open(source: &Source, subscription: Subscription) -> Result<Self, Error> {
        Ok(Self(match source {
            Source::Store(tail) => Kind::Store(Box::new(StoreFeed::open(tail.clone(), subscription))),
            Source::Kafka(settings, pool) => {
                Kind::Kafka(Box::new(KafkaFeed::open(settings, pool.clone(), subscription)?))
            }
        }))
    }

    /// The next item. Cancel-safe: nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// A fork, or what cannot be retried. The feed is over then.
    pub async fn next(&mut self) -> Result<FeedItem, Error> {
        match &mut self.0 {
            Kind::Store(feed) => feed.next().await,
            Kind::Kafka(feed) => feed.next().await,
        }
    }

    /// Whether the store can be reached and is the one that was read: to be asked before checkpoints are loaded, and the
    /// missing ones written. A store that is being restored must not be written to.
    ///
    /// # Errors
    /// A fork, or what trying again does not change.
    pub async fn recognises_the_store(&mut self) -> Result<bool, Error> {
        match &mut self.0 {
            Kind::Store(feed) => feed.recognises().await,
            Kind::Kafka(feed) => feed.recognises().await,
        }
    }

    /// Goes on after these places. For a shard that was resumed before, the new place replaces the old one: this is
    /// also the way back after a lost race for a checkpoint. Places of shards that are not mine any more are ignored.
    ///
    /// # Errors
    /// None today; what is wrong with a place is found when the store is asked, by [`Feed::next`].
    pub async fn resume(&mut self, places: Vec<(Shard, Place)>) -> Result<(), Error> {
        match &mut self.0 {
            Kind::Store(feed) => feed.resume(places),
            Kind::Kafka(feed) => feed.resume(places),
        }
        Ok(())
    }

    /// Of these shards, those that are somebody else's by now although the [`FeedItem::Revoked`] that says so may still be to
    /// come. A consumer that is busy lets go of them before it writes: its price changes, or its checkpoints loaded again,
    /// would only take the shard from the new owner for a moment.
    pub fn taken_back(&self, shards: &[Shard]) -> Vec<Shard> {
        match &self.0 {
            Kind::Store(_) => Vec::new(),
            Kind::Kafka(feed) => feed.taken_back(shards),
        }
    }

    /// Tells Kafka how far the checkpoints are, so that ordinary tools show the lag. Nothing depends on it.
    pub async fn commit_hint(&mut self, places: &[(Shard, Position)]) {
        match &mut self.0 {
            Kind::Store(_) => {}
            Kind::Kafka(feed) => feed.commit_hint(places),
        }
    }

    /// Leaves the group, or gives up the lock, and waits until that is done. Dropping a feed does it in the
    /// background.
    pub async fn close(self) {
        match self.0 {
            Kind::Store(feed) => feed.close().await,
            Kind::Kafka(feed) => feed.close().await,
        }
    }
}
