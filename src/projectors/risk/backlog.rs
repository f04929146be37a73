//! What is to be computed, and how much of it at once. Pure.
//!
//! | portfolios | because | computed |
//! | --- | --- | --- |
//! | urgent | something happened in them | all by the next flush |
//! | owed | someone asked for it, and waits | a bounded number by each flush |
//! | waiting | a new model, a new owner, prices that have paused | as many as there is room for beside those |
//! | later | prices move | when prices have paused and nothing waits: then they wait |
//!
//! A transaction is thus bounded, however many portfolios a model or a request is about, and a fact never stands behind
//! them all. What waits is a pass over portfolios, and a pass is ended before the next one begins: so every pass comes to an
//! end, however fast prices move. In the order of shards, so that few checkpoints move with each piece.

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
    owed: BTreeSet<Key>,
    waiting: BTreeSet<Key>,
    later: BTreeSet<Key>,
    prices: Burst,
    /// How many that can wait are taken at once.
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
        Self {
            urgent: BTreeSet::new(),
            owed: BTreeSet::new(),
            waiting: BTreeSet::new(),
            later: BTreeSet::new(),
            prices: Burst::default(),
            piece: piece.max(1),
        }
    }

    /// Something happened in these.
    pub(super) fn now(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.urgent.extend(keys);
    }

    /// Someone asked for these.
    pub(super) fn owe(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.owed.extend(keys);
    }

    /// These are to be computed, however long it takes.
    pub(super) fn wait(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.waiting.extend(keys);
    }

    /// The same with all that there are: prices have moved none beside them.
    pub(super) fn wait_all(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.take_prices();
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

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.owed.is_empty() && self.waiting.is_empty()
    }

    /// Whether the next flush ends the pass that is on, if one is.
    pub(super) fn ends_pass(&self) -> bool {
        self.owed.len() + self.waiting.len() <= self.piece
    }

    /// Whether prices have moved what does not wait yet.
    pub(super) fn has_later(&self) -> bool {
        !self.later.is_empty()
    }

    /// What the next flush computes.
    pub(super) fn next(&self) -> BTreeSet<Key> {
        let waiting = self.waiting.iter().filter(|key| !self.owed.contains(key));
        let piece = self.owed.iter().chain(waiting).take(self.piece);
        self.urgent.iter().chain(piece).copied().collect()
    }

    /// These are computed with everything that is known: nothing more is to be done about them.
    pub(super) fn done(&mut self, keys: &BTreeSet<Key>) {
        for key in keys {
            self.urgent.remove(key);
            self.owed.remove(key);
            self.waiting.remove(key);
            self.later.remove(key);
        }
    }

    /// These shards are somebody else's.
    pub(super) fn forget(&mut self, shards: &[Shard]) {
        for keys in [&mut self.urgent, &mut self.owed, &mut self.waiting, &mut self.later] {
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
        assert!(!backlog.ends_pass());
        assert_eq!(Vec::from_iter(backlog.next()), [key(1, 8), key(1, 9)], "by shard");
        backlog.now([key(3, 1), key(7, 7)]);
        let next = backlog.next();
        assert_eq!(Vec::from_iter(next.clone()), [key(1, 8), key(1, 9), key(3, 1), key(7, 7)]);
        backlog.done(&next);
        assert_eq!(Vec::from_iter(backlog.next()), [key(2, 5)], "what was urgent is not computed again");
        assert!(backlog.ends_pass() && !backlog.is_idle());
        backlog.done(&backlog.next());
        assert!(backlog.is_idle());
    }

    #[test]
    fn what_someone_asked_for_goes_before_what_waits() {
        let mut backlog = Backlog::new(2);
        backlog.wait([key(0, 1), key(0, 2), key(5, 5)]);
        backlog.owe([key(4, 4), key(5, 5), key(6, 6)]);
        assert_eq!(Vec::from_iter(backlog.next()), [key(4, 4), key(5, 5)]);
        backlog.done(&backlog.next());
        assert!(!backlog.ends_pass());
        assert_eq!(Vec::from_iter(backlog.next()), [key(0, 1), key(6, 6)], "room is used");
        backlog.done(&backlog.next());
        assert_eq!(Vec::from_iter(backlog.next()), [key(0, 2)]);
        backlog.prices_moved([key(0, 2), key(9, 9)], Instant::now());
        backlog.wait_all([key(0, 2), key(9, 9), key(7, 7)]);
        assert!(!backlog.has_later() && !backlog.ends_pass());
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
        assert!(backlog.has_later() && backlog.next().is_empty());
        backlog.take_prices();
        assert!(!backlog.has_later() && backlog.prices_due().is_none());
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
