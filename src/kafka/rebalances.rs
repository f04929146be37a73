//! What the client library tells while a consumer polls: rebalances, statistics, its log.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Statistics, TopicPartitionList};

use super::consumer::Arrival;
use super::{KafkaSettings, broker_log};
use crate::domain::ids::Shard;

/// Shards that the group has taken back and not given again, known at once. What is queued behind records says the same
/// later, in order.
#[derive(Debug, Default)]
pub(super) struct TakenBack(Mutex<BTreeSet<Shard>>);

impl TakenBack {
    /// Those of `shards` that were taken back.
    pub(super) fn among(&self, shards: &[Shard]) -> Vec<Shard> {
        let taken = self.taken();
        shards.iter().copied().filter(|shard| taken.contains(shard)).collect()
    }

    fn taken(&self) -> MutexGuard<'_, BTreeSet<Shard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes what the group decides, while the library carries it out.
pub(super) struct Rebalances {
    settings: KafkaSettings,
    changes: Mutex<Vec<Arrival>>,
    taken_back: Arc<TakenBack>,
    given_up: AtomicBool,
    lag: AtomicI64,
}

impl Rebalances {
    /// For one client.
    pub(super) fn new(settings: KafkaSettings, taken_back: Arc<TakenBack>) -> Self {
        Self {
            settings,
            changes: Mutex::default(),
            taken_back,
            given_up: AtomicBool::new(false),
            lag: AtomicI64::new(0),
        }
    }

    /// How many records are there that were not fetched, as of the last statistics.
    pub(super) fn lag(&self) -> i64 {
        self.lag.load(Ordering::Relaxed)
    }

    /// The client is about to be dropped, and closing takes everything back: shards that the next client is given again, and
    /// that are followed on meanwhile.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    fn note(&self, arrival: Arrival) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(arrival);
    }

    /// What was noted since the last time.
    pub(super) fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn shards(&self, partitions: &TopicPartitionList) -> Vec<Shard> {
        let elements = partitions.elements();
        elements.iter().filter_map(|e| self.settings.shard_of(e.topic(), e.partition())).collect()
    }
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        broker_log::log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        // Not the library's own figure, which counts from the committed offset: of a shard that is idle for longer than
        // records are kept, that one stays behind for ever.
        let fetching = partitions.filter(|partition| partition.next_offset >= 0);
        let lag: i64 = fetching.map(|partition| (partition.hi_offset - partition.next_offset).max(0)).sum();
        self.lag.store(lag, Ordering::Relaxed);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "consumer");
    }
}

impl ConsumerContext for Rebalances {
    fn pre_rebalance(&self, client: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            let shards = self.shards(partitions);
            let lost = client.assignment_lost();
            tracing::info!(?shards, lost, "shards revoked");
            if !lost && !self.given_up.load(Ordering::Relaxed) {
                self.taken_back.taken().extend(&shards);
            }
            self.note(if lost { Arrival::Lost(shards) } else { Arrival::Revoked(shards) });
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                let shards = self.shards(partitions);
                tracing::info!(?shards, "shards assigned");
                self.taken_back.taken().retain(|shard| !shards.contains(shard));
                self.note(Arrival::Assigned(shards));
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!(%error, "rebalance"),
        }
    }

    fn commit_callback(&self, result: Result<(), KafkaError>, _: &TopicPartitionList) {
        match result {
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) | Ok(()) => {}
            Err(error) => tracing::debug!(%error, "offsets not committed"),
        }
    }
}
