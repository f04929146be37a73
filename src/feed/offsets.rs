//! Which Kafka offset a position stands for: for the committed offsets, which are there for people's tools. Pure.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::ids::{Position, Shard};

/// How many pairs are kept for a shard.
const KEPT: usize = 1_024;

/// What was read of each shard and is not yet known to be in a checkpoint.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    shards: BTreeMap<Shard, VecDeque<(Position, i64)>>,
}

impl Offsets {
    /// The reader has come to `position` when `next` was the next offset.
    pub(super) fn read(&mut self, shard: Shard, position: Position, next: i64) {
        let pairs = self.shards.entry(shard).or_default();
        match pairs.back_mut() {
            Some(last) if last.0 >= position => last.1 = next,
            _ => pairs.push_back((position, next)),
        }
        if pairs.len() > KEPT {
            pairs.pop_front();
        }
    }

    /// The checkpoint has come to `position`. Returns the next offset that it has not covered, if that is news.
    pub(super) fn covered(&mut self, shard: Shard, position: Position) -> Option<i64> {
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
        offsets.forget(&[shard]);
        assert_eq!(offsets.covered(shard, Position(99)), None);
    }
}
