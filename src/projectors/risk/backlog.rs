//! What is to be computed, and how much of it at once. Pure.
//!
//! | portfolios | because | computed |
//! | --- | --- | --- |
//! | urgent | something happened in them | all by the next flush |
//! | waiting | a new model, a new owner, a request, prices that have paused | a bounded number by each flush |
//! | later | prices move | when prices pause: then they wait |
//!
//! A transaction is thus bounded, however many portfolios a model or a request is about, and a fact never stands behind
//! them all. In the order of shards, so that few checkpoints move with each piece.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ids::{PortfolioId, Shard};

/// A burst of prices is computed when it pauses …
const PRICES_PAUSE: Duration = Duration::from_millis(500);
/// … or when it has gone on for so long.
const PRICES_WAIT_MAX: Duration = Duration::from_secs(2);

pub(super) type Key = (Shard, PortfolioId);

/// The portfolios that are to be computed.
#[derive(Debug)]
pub(super) struct Backlog {
    urgent: BTreeSet<Key>,
    waiting: BTreeSet<Key>,
    later: BTreeSet<Key>,
    prices: Burst,
    /// How many that wait are taken at once.
    piece: usize,
}

/// When prices began to move, and when they last did.
#[derive(Debug, Default, Clone, Copy)]
struct Burst {
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Backlog {
    pub(super) fn new(piece: usize) -> Self {
        let (urgent, waiting, later) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { urgent, waiting, later, prices: Burst::default(), piece: piece.max(1) }
    }

    /// Something happened in these.
    pub(super) fn now(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.urgent.extend(keys);
    }

    /// These are to be computed, however long it takes.
    pub(super) fn wait(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.waiting.extend(keys);
    }

    /// The prices of these have moved.
    pub(super) fn prices_moved(&mut self, keys: impl IntoIterator<Item = Key>, now: Instant) {
        let mut is_any = false;
        self.later.extend(keys.into_iter().inspect(|_| is_any = true));
        if is_any {
            self.prices.first.get_or_insert(now);
            self.prices.last = Some(now);
        }
    }

    /// When the burst of prices is to be computed; never while there is none.
    pub(super) fn prices_due(&self) -> Option<Instant> {
        Some((self.prices.last? + PRICES_PAUSE).min(self.prices.first? + PRICES_WAIT_MAX))
    }

    /// Prices have paused: what they moved waits from now on.
    pub(super) fn take_prices(&mut self) {
        self.waiting.append(&mut self.later);
        self.prices = Burst::default();
    }

    /// Whether portfolios wait.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the next flush leaves none waiting.
    pub(super) fn fits(&self) -> bool {
        self.waiting.len() <= self.piece
    }

    /// Whether the next flush leaves nothing at all to be computed.
    pub(super) fn ends(&self) -> bool {
        self.fits() && self.later.is_empty()
    }

    /// What the next flush computes.
    pub(super) fn next(&self) -> BTreeSet<Key> {
        let waiting = self.waiting.iter().take(self.piece);
        self.urgent.iter().chain(waiting).copied().collect()
    }

    /// These are computed with everything that is known: nothing more is to be done about them.
    pub(super) fn done(&mut self, keys: &BTreeSet<Key>) {
        for key in keys {
            self.urgent.remove(key);
            self.waiting.remove(key);
            self.later.remove(key);
        }
    }

    /// These shards are somebody else's.
    pub(super) fn forget(&mut self, shards: &[Shard]) {
        for keys in [&mut self.urgent, &mut self.waiting, &mut self.later] {
            keys.retain(|(shard, _)| !shards.contains(shard));
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn key(shard: i16, number: u128) -> Key {
        (Shard(shard), PortfolioId(Uuid::from_u128(number)))
    }

    #[test]
    fn what_waits_is_computed_in_pieces_and_facts_overtake_it() {
        let mut backlog = Backlog::new(2);
        backlog.wait([key(3, 1), key(1, 9), key(2, 5), key(1, 8)]);
        assert!(!backlog.fits());
        assert_eq!(Vec::from_iter(backlog.next()), [key(1, 8), key(1, 9)], "by shard");
        backlog.now([key(3, 1), key(7, 7)]);
        let next = backlog.next();
        assert_eq!(Vec::from_iter(next.clone()), [key(1, 8), key(1, 9), key(3, 1), key(7, 7)]);
        backlog.done(&next);
        assert_eq!(Vec::from_iter(backlog.next()), [key(2, 5)], "what was urgent is not computed again");
        assert!(backlog.fits() && backlog.ends() && backlog.has_waiting());
        backlog.done(&backlog.next());
        assert!(!backlog.has_waiting());
    }

    #[test]
    fn prices_wait_for_a_pause_and_no_longer_than_so_long() {
        let mut backlog = Backlog::new(10);
        let start = Instant::now();
        assert_eq!(backlog.prices_due(), None);
        backlog.prices_moved([], start);
        assert_eq!(backlog.prices_due(), None, "nobody holds what moved");
        backlog.prices_moved([key(1, 1)], start);
        assert_eq!(backlog.prices_due(), Some(start + PRICES_PAUSE));
        backlog.prices_moved([key(1, 1)], start + PRICES_WAIT_MAX);
        assert_eq!(backlog.prices_due(), Some(start + PRICES_WAIT_MAX));
        assert!(!backlog.ends() && backlog.next().is_empty());
        backlog.take_prices();
        assert!(backlog.ends() && backlog.prices_due().is_none());
        assert_eq!(Vec::from_iter(backlog.next()), [key(1, 1)]);
    }

    #[test]
    fn shards_that_are_gone_are_not_computed() {
        let mut backlog = Backlog::new(10);
        backlog.now([key(1, 1)]);
        backlog.wait([key(1, 2), key(2, 3)]);
        backlog.prices_moved([key(1, 4)], Instant::now());
        backlog.forget(&[Shard(1)]);
        backlog.take_prices();
        assert_eq!(Vec::from_iter(backlog.next()), [key(2, 3)]);
    }
}
