//! What a rebuild does next, decided from what stands in the tables: what it goes on with, what is to be loaded, when it is
//! written, and when the new rows may take the place of the live ones. Without I/O, so that simulations drive it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::domain::ids::{Position, Shard};
use crate::projectors::checkpoint::Checkpoint;

/// What a worker that goes on to another shard may hold of the ones before.
const PART_OF_PIECE: usize = 4;
/// … and for how long it may hold them, so that one that is killed has not read them for nothing.
const HELD_FOR: Duration = Duration::from_secs(3);

/// What is there of a schema beside the live one.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// What its tables were made from; none if they are not there.
    pub(crate) shape: Option<String>,
    /// Why one of its checkpoints is of another history than the log.
    pub(crate) foreign: Option<String>,
}

/// Why it cannot be gone on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is not there.
    Missing,
    /// It is of no use.
    Useless(String),
}

/// Why what was found cannot be gone on with by a program whose tables have this shape; none if it can.
pub(crate) fn unfit(found: &Found, shape: &str) -> Option<Unfit> {
    match (&found.shape, &found.foreign) {
        (None, _) => Some(Unfit::Missing),
        (Some(found), _) if found != shape => {
            Some(Unfit::Useless("its tables have another shape than this program's".to_owned()))
        }
        (_, Some(reason)) => Some(Unfit::Useless(format!("it is of another history than the log: {reason}"))),
        _ => None,
    }
}

/// The shards that are still to be loaded: those that have no checkpoint.
pub(crate) fn to_load(all: &[Shard], loaded: &[Checkpoint]) -> VecDeque<Shard> {
    let is_loaded = |shard: &Shard| loaded.iter().any(|mine| mine.shard == *shard);
    all.iter().copied().filter(|shard| !is_loaded(shard)).collect()
}

/// Whether whole shards that are in memory are written before another one is read.
pub(crate) fn is_due(held_bytes: usize, piece_bytes: usize, held_for: Duration) -> bool {
    held_bytes >= piece_bytes / PART_OF_PIECE || held_for >= HELD_FOR
}

/// The shards in which the new rows are behind the live ones: none may be, or a reader would see them step back. A live place
/// beyond the head is of a history that is no more.
pub(crate) fn behind(live: &[Checkpoint], next: &[Checkpoint], head: Position) -> Vec<Shard> {
    let next: BTreeMap<Shard, &Checkpoint> = next.iter().map(|mine| (mine.shard, mine)).collect();
    let is_behind = |live: &&Checkpoint| {
        next.get(&live.shard).is_none_or(|next| {
            next.scanned_to < live.scanned_to.min(head) || next.price_position < live.price_position.min(head)
        })
    };
    live.iter().filter(is_behind).map(|live| live.shard).collect()
}

/// Whether the new rows are as this process wrote them last.
pub(crate) fn are_ours(mine: &[(Shard, i64)], stored: &[Checkpoint]) -> bool {
    let stored: BTreeMap<Shard, i64> = stored.iter().map(|it| (it.shard, it.revision)).collect();
    mine.iter().all(|(shard, revision)| stored.get(shard) == Some(revision))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Epoch;
    use crate::event_store::Place;

    fn checkpoint(shard: i16, scanned_to: i64, price_position: i64, revision: i64) -> Checkpoint {
        let place = Place::origin(Epoch(1));
        let (scanned_to, price_position) = (Position(scanned_to), Position(price_position));
        Checkpoint { shard: Shard(shard), place, scanned_to, price_position, revision }
    }

    #[test]
    fn what_fits_is_gone_on_with() {
        let found = |shape: Option<&str>, foreign: Option<&str>| Found {
            shape: shape.map(str::to_owned),
            foreign: foreign.map(str::to_owned),
        };
        assert_eq!(unfit(&found(Some("a"), None), "a"), None);
        assert_eq!(unfit(&found(None, None), "a"), Some(Unfit::Missing));
        for (found, told) in [
            (found(Some("b"), None), "another shape"),
            (found(Some("a"), Some("7 is of epoch 2")), "epoch 2"),
        ] {
            let reason = unfit(&found, "a");
            assert!(matches!(&reason, Some(Unfit::Useless(reason)) if reason.contains(told)), "{reason:?}");
        }
    }

    #[test]
    fn shards_without_a_checkpoint_are_loaded_and_written_when_they_are_much_or_old() {
        let all = [Shard(1), Shard(2), Shard(3)];
        assert_eq!(to_load(&all, &[checkpoint(2, 5, 0, 1)]), [Shard(1), Shard(3)]);
        assert!(!is_due(24, 100, Duration::from_millis(2_999)));
        assert!(is_due(25, 100, Duration::ZERO) && is_due(0, 100, HELD_FOR));
    }

    #[test]
    fn new_rows_are_nowhere_behind() {
        let live = [checkpoint(1, 10, 4, 1), checkpoint(2, 90, 80, 2)];
        let next = |one: i64, prices: i64| [checkpoint(1, one, prices, 3), checkpoint(2, 20, 20, 4)];
        assert_eq!(behind(&live, &next(10, 4), Position(20)), []);
        assert_eq!(behind(&live, &next(9, 4), Position(20)), [Shard(1)]);
        assert_eq!(behind(&live, &next(10, 3), Position(20)), [Shard(1)]);
        assert_eq!(behind(&live, &next(10, 4)[..1], Position(20)), [Shard(2)]);
        assert_eq!(behind(&[], &[], Position(20)), []);
        assert!(are_ours(&[(Shard(1), 3)], &next(10, 4)));
        assert!(!are_ours(&[(Shard(1), 3), (Shard(2), 5)], &next(10, 4)));
    }
}
