//! Where to go on: what a partition holds, compared with what the store holds. Pure.
//!
//! The progress row of a shard says that everything up to a position was once acknowledged, the last of it at an offset.
//! [`begin`] decides what that is still worth; then the records from there on are shown to a [`Walk`], which follows the
//! store's chain through them: the tail moves on with each record that is the next event of the shard in the store, and
//! anything else (duplicates, a dead history, what follows a missing record) is passed over. So the tail is the last
//! event of an unbroken run, and sending whatever follows it can only add duplicates, never leave a hole.

use std::collections::VecDeque;

use super::window::{Progress, Tail};
use crate::domain::ids::Position;
use crate::kafka::scan::Extent;

/// What is known about a shard before its partition is read.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The progress row.
    pub progress: Option<Progress>,
    /// The store's event at the row's position, if it is one of this shard.
    pub stored: Option<Tail>,
    /// Where the first epoch after the row's begins, with the shard's last event before it.
    pub later_epoch: Option<(Position, Option<Tail>)>,
    /// What the partition holds.
    pub extent: Extent,
}

/// How to walk a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// From this offset; the record there must be this very event, or the topic is another one.
    Confirm(Tail, i64),
    /// From this offset; everything up to this event was in the topic, and that cannot be seen any more.
    Trust(Option<Tail>, i64),
    /// From the first record: the topic is new, truncated or unknown.
    Anew,
}

/// Decides what the progress row is worth.
///
/// # Errors
/// The reason for a fork: the row is of another history than the store, and no new epoch explains it.
pub fn begin(known: &Known) -> Result<Begin, String> {
    let Some(row) = known.progress else { return Ok(Begin::Anew) };
    if let Some((first, before)) = known.later_epoch
        && row.position >= first
    {
        // The row's event is of a dead history. What came before the new epoch is common, and was sent.
        return Ok(if row.offset < known.extent.end {
            Begin::Trust(before, known.extent.low.max(row.offset))
        } else {
            Begin::Anew
        });
    }
    let Some(stored) = known.stored else {
        return Err(format!(
            "shard {}: the relay has sent an event at position {} of epoch {}, which the log does not have",
            row.shard, row.position, row.epoch
        ));
    };
    Ok(match row.offset {
        offset if offset >= known.extent.end => Begin::Anew,
        offset if offset < known.extent.low => Begin::Trust(Some(stored), known.extent.low),
        offset => Begin::Confirm(stored, offset),
    })
}

/// What to make of the record at the row's offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    /// It is what the row says.
    Same,
    /// The topic was made anew.
    AnotherTopic,
    /// The topic is the one, the store is not.
    Fork(String),
}

/// Compares the record at the row's offset with the store's event at the row's position.
pub fn confirm(stored: Tail, found: Tail) -> Confirmation {
    if found == stored {
        return Confirmation::Same;
    }
    if found.position == stored.position && found.epoch == stored.epoch {
        return Confirmation::Fork(format!(
            "position {} was event {} when it was relayed and is event {} now",
            found.position, found.event_id, stored.event_id
        ));
    }
    Confirmation::AnotherTopic
}

/// Follows the store's chain of one shard through the records of its partition.
#[derive(Debug)]
pub struct Walk {
    tail: Option<Tail>,
    /// The store's next events, as far as they were fetched.
    expected: VecDeque<Tail>,
    exhausted: bool,
}

/// What a record leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The next record, please.
    Next,
    /// Fetch what the store has after this position, [`Walk::expect`] it, and show the record again.
    Fetch(Position),
}

impl Walk {
    /// Begins behind `tail`.
    pub fn new(tail: Option<Tail>) -> Self {
        Self { tail, expected: VecDeque::new(), exhausted: false }
    }

    /// The last event of the unbroken run.
    pub fn tail(&self) -> Option<Tail> {
        self.tail
    }

    /// Takes the store's events after the position that was asked for; none when there are no more.
    pub fn expect(&mut self, events: impl IntoIterator<Item = Tail>) {
        self.expected.extend(events);
        self.exhausted = self.expected.is_empty();
    }

    /// Looks at the next record of the partition.
    pub fn see(&mut self, record: Tail) -> Step {
        let at = self.tail.map_or(Position(0), |tail| tail.position);
        if record.position <= at {
            return Step::Next;
        }
        match self.expected.front() {
            None if self.exhausted => Step::Next,
            None => Step::Fetch(at),
            Some(next) => {
                if *next == record {
                    self.tail = self.expected.pop_front();
                }
                Step::Next
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::ids::{Epoch, Shard};
    use crate::relay::fixtures::{event, id};

    fn tail(position: i64) -> Tail {
        Tail::from(&event(0, position))
    }

    fn dead(position: i64) -> Tail {
        Tail { event_id: id(position + 1_000), ..tail(position) }
    }

    fn known(position: i64, offset: i64, low: i64, end: i64) -> Known {
        let progress = Progress { shard: Shard(0), epoch: Epoch(1), position: Position(position), offset };
        Known {
            progress: Some(progress),
            stored: Some(tail(position)),
            later_epoch: None,
            extent: Extent { low, end },
        }
    }

    #[test]
    fn the_row_is_confirmed_where_it_can_be() {
        assert_eq!(begin(&known(5, 7, 0, 9)), Ok(Begin::Confirm(tail(5), 7)));
    }

    #[test]
    fn an_offset_that_retention_has_passed_is_trusted() {
        assert_eq!(begin(&known(5, 7, 8, 9)), Ok(Begin::Trust(Some(tail(5)), 8)));
    }

    #[test]
    fn an_offset_beyond_the_end_means_a_new_topic() {
        assert_eq!(begin(&known(5, 7, 0, 7)), Ok(Begin::Anew));
        assert_eq!(begin(&Known { progress: None, ..known(5, 7, 0, 9) }), Ok(Begin::Anew));
    }

    #[test]
    fn a_row_that_the_store_does_not_know_is_a_fork() {
        assert!(begin(&Known { stored: None, ..known(5, 7, 0, 9) }).is_err());
    }

    #[test]
    fn a_new_epoch_takes_the_relay_back_to_what_is_common() {
        let later =
            Known { stored: None, later_epoch: Some((Position(4), Some(tail(3)))), ..known(5, 7, 0, 9) };
        assert_eq!(begin(&later), Ok(Begin::Trust(Some(tail(3)), 7)));
        let before = Known { later_epoch: Some((Position(6), Some(tail(5)))), ..known(5, 7, 0, 9) };
        assert_eq!(begin(&before), Ok(Begin::Confirm(tail(5), 7)), "the row is older than the new epoch");
    }

    #[test]
    fn the_record_at_the_offset_tells_a_new_topic_from_a_fork() {
        assert_eq!(confirm(tail(5), tail(5)), Confirmation::Same);
        assert_eq!(confirm(tail(5), tail(4)), Confirmation::AnotherTopic);
        assert!(matches!(confirm(tail(5), dead(5)), Confirmation::Fork(_)));
    }

    /// Walks `records` against a store that holds `stored`.
    fn walk(from: Option<Tail>, records: &[Tail], stored: &[Tail], chunk: usize) -> Option<Tail> {
        let mut walk = Walk::new(from);
        for record in records {
            while let Step::Fetch(after) = walk.see(*record) {
                walk.expect(stored.iter().filter(|e| e.position > after).take(chunk).copied());
            }
        }
        walk.tail()
    }

    #[test]
    fn the_tail_is_the_end_of_the_unbroken_run() {
        let stored: Vec<_> = [1, 3, 4, 8].map(tail).into();
        let walk = |records: &[Tail]| walk(None, records, &stored, 2).map(|tail| tail.position.0);
        assert_eq!(walk(&[]), None);
        assert_eq!(walk(&[tail(1), tail(3), tail(4), tail(8)]), Some(8));
        assert_eq!(walk(&[tail(1), tail(1), tail(3), tail(1), tail(3), tail(4)]), Some(4), "duplicates");
        assert_eq!(walk(&[tail(1), tail(4), tail(8)]), Some(1), "3 is missing");
        assert_eq!(walk(&[tail(1), tail(4), tail(3), tail(4)]), Some(4), "3 came late, and 4 again");
        assert_eq!(walk(&[tail(1), dead(3), tail(3), dead(9)]), Some(3), "a dead history in between");
    }

    proptest! {
        #[test]
        fn sending_what_follows_the_tail_leaves_no_hole(
            records in prop::collection::vec((1..30i64, prop::bool::weighted(0.1)), 0..80),
            chunk in 1..7usize,
        ) {
            let stored: Vec<_> = (1..30).map(tail).collect();
            let mut topic: Vec<_> =
                records.into_iter().map(|(p, is_dead)| if is_dead { dead(p) } else { tail(p) }).collect();
            let end = walk(None, &topic, &stored, chunk).map_or(0, |tail| tail.position.0);
            topic.extend((end + 1..30).map(tail));
            prop_assert_eq!(walk(None, &topic, &stored, chunk), Some(tail(29)));
        }
    }
}
