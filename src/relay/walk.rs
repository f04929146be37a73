//! Where to go on: what a partition holds, compared with what the store holds. Pure.
//!
//! The progress row of a shard says that everything up to a position was once acknowledged, the last of it at an offset.
//! [`begin`] decides what that is still worth; then the records from there on are shown to a [`Walk`], which follows the
//! store's chain through them: the tail moves on with each record that is the next event of the shard in the store, and
//! anything else (duplicates, a dead history, what follows a missing record) is passed over. So the tail is the last
//! event of an unbroken run, and sending whatever follows it can only add duplicates, never leave a hole.
//!
//! What the topic holds was committed before it was sent. So a record of the newest epoch that the store does not have, or has
//! otherwise, proves that the store was restored: a **fork**, also where the progress rows were restored with it. Of
//! an older epoch it is what a dead history left, and is passed over: the new epoch's number is the word of whoever restored.

use std::collections::VecDeque;

use super::window::{Progress, Tail};
use crate::domain::ids::{Epoch, Position};
use crate::kafka::scan::Extent;

/// What is known about a shard before its partition is read.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The progress row.
    pub progress: Option<Progress>,
    /// The store's event at the row's position, if it is one of this shard.
    pub stored: Option<Tail>,
    /// Where the first epoch after the row's begins.
    pub later_epoch: Option<Position>,
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
    let stored = known.stored.filter(|_| known.later_epoch.is_none_or(|first| row.position < first));
    let Some(stored) = stored else {
        // A new epoch says that this is known, not how much of what came before it was sent: the topic tells.
        if known.later_epoch.is_some() {
            return Ok(Begin::Anew);
        }
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
pub fn confirm(stored: Tail, found: Tail, newest: Epoch) -> Confirmation {
    if found == stored {
        return Confirmation::Same;
    }
    if found.position == stored.position && found.epoch == stored.epoch && found.epoch >= newest {
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
    /// The newest epoch of the store.
    newest: Epoch,
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
    /// The store is another history than the topic. The reason, for people.
    Fork(String),
}

impl Walk {
    /// Begins behind `tail`.
    pub fn new(tail: Option<Tail>, newest: Epoch) -> Self {
        Self { newest, tail, expected: VecDeque::new(), exhausted: false }
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
            None if !self.exhausted => Step::Fetch(at),
            Some(next) if *next == record => {
                self.tail = self.expected.pop_front();
                Step::Next
            }
            // What stands between is missing in the topic.
            Some(next) if next.position < record.position => Step::Next,
            _ if record.epoch < self.newest => Step::Next,
            _ => Step::Fork(format!(
                "the topic holds event {} of epoch {} at position {}, which the log does not have",
                record.event_id, record.epoch, record.position
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::ids::Shard;
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
    fn a_row_of_a_dead_history_is_worth_nothing_once_there_is_a_later_epoch() {
        let later = Known { stored: None, later_epoch: Some(Position(4)), ..known(5, 7, 0, 9) };
        assert_eq!(begin(&later), Ok(Begin::Anew));
        let late = Known { stored: None, later_epoch: Some(Position(6)), ..known(5, 7, 0, 9) };
        assert_eq!(begin(&late), Ok(Begin::Anew), "events came between the restore and the new epoch");
        let before = Known { later_epoch: Some(Position(6)), ..known(5, 7, 0, 9) };
        assert_eq!(begin(&before), Ok(Begin::Confirm(tail(5), 7)), "the row is older than the new epoch");
    }

    #[test]
    fn the_record_at_the_offset_tells_a_new_topic_from_a_fork() {
        assert_eq!(confirm(tail(5), tail(5), Epoch(1)), Confirmation::Same);
        assert_eq!(confirm(tail(5), tail(4), Epoch(1)), Confirmation::AnotherTopic);
        assert!(matches!(confirm(tail(5), dead(5), Epoch(1)), Confirmation::Fork(_)));
        assert_eq!(confirm(tail(5), dead(5), Epoch(2)), Confirmation::AnotherTopic, "known to be dead");
    }

    /// Walks `records` against a store that holds `stored` and whose newest epoch is `newest`.
    fn walk(records: &[Tail], stored: &[Tail], chunk: usize, newest: i32) -> Result<Option<Tail>, String> {
        let mut walk = Walk::new(None, Epoch(newest));
        for record in records {
            loop {
                match walk.see(*record) {
                    Step::Next => break,
                    Step::Fork(reason) => return Err(reason),
                    Step::Fetch(after) => {
                        walk.expect(stored.iter().filter(|e| e.position > after).take(chunk).copied());
                    }
                }
            }
        }
        Ok(walk.tail())
    }

    #[test]
    fn the_tail_is_the_end_of_the_unbroken_run() {
        let stored: Vec<_> = [1, 3, 4, 8].map(tail).into();
        let walk =
            |records: &[Tail]| walk(records, &stored, 2, 2).map(|tail| tail.map(|tail| tail.position.0));
        assert_eq!(walk(&[]), Ok(None));
        assert_eq!(walk(&[tail(1), tail(3), tail(4), tail(8)]), Ok(Some(8)));
        assert_eq!(walk(&[tail(1), tail(1), tail(3), tail(1), tail(3), tail(4)]), Ok(Some(4)), "duplicates");
        assert_eq!(walk(&[tail(1), tail(4), tail(8)]), Ok(Some(1)), "3 is missing");
        assert_eq!(walk(&[tail(1), tail(4), tail(3), tail(4)]), Ok(Some(4)), "3 came late, and 4 again");
        assert_eq!(walk(&[tail(1), dead(3), tail(3), dead(9)]), Ok(Some(3)), "a dead history in between");
    }

    #[test]
    fn a_record_of_the_newest_epoch_that_the_store_does_not_have_is_a_fork() {
        let stored: Vec<_> = [1, 3, 4].map(tail).into();
        let walk = |records: &[Tail]| walk(records, &stored, 2, 1);
        assert!(walk(&[tail(1), tail(3), tail(4), tail(8)]).is_err(), "beyond the head of a restored store");
        assert!(walk(&[tail(1), dead(3)]).is_err(), "the restored store has gone on");
        assert!(walk(&[tail(1), dead(2)]).is_err(), "with an event of another shard there");
        assert!(walk(&[tail(1), tail(4), tail(4)]).is_ok(), "a hole in the topic is none");
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
            let end = walk(&topic, &stored, chunk, 2).unwrap().map_or(0, |tail| tail.position.0);
            topic.extend((end + 1..30).map(tail));
            prop_assert_eq!(walk(&topic, &stored, chunk, 2), Ok(Some(tail(29))));
        }
    }
}
