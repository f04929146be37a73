//! Which Kafka offset a position stands for: for the committed offsets, which are there for people's tools. Pure.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::ids::{Position, Shard};

/// How many pairs are kept for a shard.
const KEPT: usize = 1_024;

/// What was read of each shard and is not yet known to be in a checkpoint.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    shards: BTreeMap<Shard, VecDeque<(Position, i64)>>,
    /// How far the checkpoints have come.
    covered: BTreeMap<Shard, Position>,
}

impl Offsets {
    /// The reader has come to `position` when `next` was the next offset. Returns that offset if the checkpoint has come so far
    /// already: what was repaired from the store comes from the topic later, and no checkpoint follows it.
    pub(super) fn read(&mut self, shard: Shard, position: Position, next: i64) -> Option<i64> {
        if self.covered.get(&shard).is_some_and(|covered| *covered >= position) {
            return Some(next);
        }
        let pairs = self.shards.entry(shard).or_default();
        match pairs.back_mut() {
            Some(last) if last.0 >= position => last.1 = next,
            _ => pairs.push_back((position, next)),
        }
        if pairs.len() > KEPT {
            pairs.pop_front();
        }
        None
    }

    /// The checkpoint has come to `position`. Returns the next offset that it has not covered, if that is news.
    pub(super) fn covered(&mut self, shard: Shard, position: Position) -> Option<i64> {
        self.covered.insert(shard, position);
        let pairs = self.shards.get_mut(&shard)?;
        let mut next = None;
        while pairs.front().is_some_and(|(read, _)| *read <= position) {
            next = pairs.pop_front().map(|(_, offset)| offset);
        }
        next
    }

    /// These shards are somebody else's.
    pub(super) fn forget(&mut self, shards: &[Shard]) {
        for shard in shards {
            self.shards.remove(shard);
            self.covered.remove(shard);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_covers_the_offsets_up_to_it() {
        let mut offsets = Offsets::default();
        let shard = Shard(1);
        offsets.read(shard, Position(10), 3);
        offsets.read(shard, Position(10), 5);
        offsets.read(shard, Position(20), 9);
        assert_eq!(offsets.covered(shard, Position(9)), None);
        assert_eq!(offsets.covered(shard, Position(15)), Some(5), "duplicates behind the event count too");
        assert_eq!(offsets.covered(shard, Position(15)), None, "told once");
        assert_eq!(offsets.read(shard, Position(15), 7), Some(7), "repaired before it came from the topic");
        assert_eq!(offsets.read(shard, Position(16), 8), None);
        offsets.forget(&[shard]);
        assert_eq!(offsets.covered(shard, Position(99)), None);
    }
}
