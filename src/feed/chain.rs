//! The chain of one shard, as one reader has followed it. Pure.
//!
//! Every event names the one before it in its shard. A reader that holds its last event can therefore tell, of anything
//! that reaches it by any way, whether it comes next, came before, belongs to a history that is dead, or proves that
//! something is missing. The rules, in this order:
//!
//! | the link | verdict |
//! | --- | --- |
//! | is of an older epoch than the newest one known | drop: a relay of a dead history wrote it |
//! | is of a newer epoch, at or below my place | fork: my place itself is of a dead history |
//! | is at my place | drop; fork if it is another event |
//! | is below my place | drop: a duplicate |
//! | is of my epoch, where the store has said that there is nothing | drop: no part of this history |
//! | follows my place | apply |
//! | follows another event at my place's position | fork |
//! | anything else | gap |
//!
//! A gap is closed from the store, and so is every doubt: [`ChainCursor::repaired`] takes the answer of one statement
//! that reads from just **before** my place. Its first event must be my own, so the same snapshot that brings what is
//! missing also proves that it continues what I have.

use std::sync::Arc;

use crate::domain::ids::{Epoch, Position};
use crate::event_store::Place;
use crate::events::{Envelope, EventId};

/// What an event says about its place in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The history it was written in.
    pub epoch: Epoch,
    /// Its place in the log.
    pub position: Position,
    /// Its name.
    pub event_id: EventId,
    /// The event before it in the shard; none for the first.
    pub previous: Option<(Position, EventId)>,
}

/// What to do with a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It comes next.
    Apply,
    /// It is of no use.
    Drop(Dropped),
    /// My place and this link cannot both be true. The reason, for people.
    Fork(String),
    /// Something between my place and it has not come.
    Gap,
}

/// Why a link is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// It was applied before.
    Duplicate,
    /// A relay of a history that ended wrote it.
    DeadHistory,
}

/// How far one reader has followed one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainCursor {
    place: Place,
    epoch: Epoch,
    scanned_to: Position,
}

impl ChainCursor {
    /// A reader that has applied everything up to `place`.
    pub fn new(place: Place) -> Self {
        Self { epoch: place.epoch, scanned_to: place.position, place }
    }

    /// The last event that was applied, with what it is recognised by.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The last event that was applied.
    pub fn position(&self) -> Position {
        self.place.position
    }

    /// No event at or below this is still to come.
    pub fn scanned_to(&self) -> Position {
        self.scanned_to
    }

    /// Judges a link by the table above.
    pub fn judge(&self, link: &Link) -> Verdict {
        let mine = self.place.position;
        if link.epoch < self.epoch {
            return Verdict::Drop(Dropped::DeadHistory);
        }
        if link.epoch > self.epoch && link.position <= mine {
            return Verdict::Fork(format!(
                "epoch {} has an event at position {}, this reader has followed epoch {} to position {mine}",
                link.epoch, link.position, self.epoch
            ));
        }
        if link.position == mine && Some(link.event_id) != self.place.event_id {
            return Verdict::Fork(self.other_event(link.event_id));
        }
        if link.position <= mine {
            return Verdict::Drop(Dropped::Duplicate);
        }
        if link.epoch == self.epoch && link.position <= self.scanned_to {
            return Verdict::Drop(Dropped::DeadHistory);
        }
        match link.previous {
            None if mine == Position(0) => Verdict::Apply,
            Some((position, id)) if position == mine && Some(id) == self.place.event_id => Verdict::Apply,
            Some((position, id)) if position == mine => Verdict::Fork(self.other_event(id)),
            _ => Verdict::Gap,
        }
    }

    /// Moves on to an event that comes next.
    pub fn apply(&mut self, event: &Envelope) {
        self.place = Place::from(event);
        self.epoch = self.epoch.max(event.epoch);
        self.scanned_to = self.scanned_to.max(event.position);
    }

    /// The reader of the whole log, in its order, has come to `position` without an event of this shard.
    pub fn passed(&mut self, position: Position) {
        self.scanned_to = self.scanned_to.max(position);
    }

    /// From where to read for a repair: what comes after this begins with my own event.
    pub fn read_from(&self) -> Position {
        Position((self.place.position.0 - 1).max(0))
    }

    /// Takes what the store has after [`Self::read_from`] and returns what is to be applied.
    ///
    /// # Errors
    /// The reason for a fork: the store's history is not the one that was followed.
    pub fn repaired(
        &mut self,
        events: Vec<Arc<Envelope>>,
        whole: Completeness,
    ) -> Result<Vec<Arc<Envelope>>, String> {
        let mut events = events.into_iter();
        if self.place.position > Position(0) {
            self.confirm(events.next().as_deref(), whole)?;
        }
        self.epoch = self.epoch.max(whole.epoch);
        let next: Vec<_> = events.collect();
        for event in &next {
            self.apply(event);
        }
        if !whole.more {
            if whole.head < self.scanned_to {
                return Err(format!("the head was {} and is now {}", self.scanned_to, whole.head));
            }
            self.scanned_to = whole.head;
        }
        Ok(next)
    }

    /// Whether the store has my own event where I have it.
    fn confirm(&self, found: Option<&Envelope>, whole: Completeness) -> Result<(), String> {
        let mine = self.place.position;
        match found {
            _ if mine > whole.head => {
                Err(format!("this reader is at position {mine}, the head is {}", whole.head))
            }
            Some(event) if event.position == mine => {
                if Some(event.event_id) != self.place.event_id {
                    return Err(self.other_event(event.event_id));
                }
                match self.place.recorded_at {
                    Some(at) if at != event.recorded_at => Err(format!(
                        "the event at position {mine} was recorded at {at} and is now recorded at {}",
                        event.recorded_at
                    )),
                    _ => Ok(()),
                }
            }
            _ => Err(format!("the event at position {mine} is no longer in this shard")),
        }
    }

    fn other_event(&self, found: EventId) -> String {
        let mine = self.place.event_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        format!("this reader knows event {mine} at position {}, there is also {found}", self.place.position)
    }
}

/// How complete the answer of the repair statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completeness {
    /// The newest epoch, read before the statement.
    pub epoch: Epoch,
    /// The head, in the statement's own snapshot.
    pub head: Position,
    /// Whether the limit was reached, so that there may be more.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::feed::fixtures::{event, id};

    fn at(epoch: i32, position: i64, name: u128) -> Place {
        Place::from(&*event(epoch, position, name))
    }

    fn start() -> Place {
        Place::origin(Epoch(1))
    }

    fn link(epoch: i32, position: i64, name: u128, previous: Option<(i64, u128)>) -> Link {
        Link {
            epoch: Epoch(epoch),
            position: Position(position),
            event_id: id(name),
            previous: previous.map(|(position, name)| (Position(position), id(name))),
        }
    }

    fn whole(epoch: i32, head: i64) -> Completeness {
        Completeness { epoch: Epoch(epoch), head: Position(head), more: false }
    }

    #[test]
    fn what_follows_my_place_is_applied() {
        assert_eq!(ChainCursor::new(start()).judge(&link(1, 3, 3, None)), Verdict::Apply);
        let cursor = ChainCursor::new(at(1, 5, 50));
        assert_eq!(cursor.judge(&link(1, 9, 90, Some((5, 50)))), Verdict::Apply);
        assert_eq!(
            cursor.judge(&link(2, 9, 90, Some((5, 50)))),
            Verdict::Apply,
            "a new epoch after my place"
        );
    }

    #[test]
    fn what_came_before_is_dropped() {
        let cursor = ChainCursor::new(at(1, 5, 50));
        assert_eq!(cursor.judge(&link(1, 5, 50, Some((3, 30)))), Verdict::Drop(Dropped::Duplicate));
        assert_eq!(cursor.judge(&link(1, 3, 30, None)), Verdict::Drop(Dropped::Duplicate));
    }

    #[test]
    fn a_missing_link_is_a_gap() {
        assert_eq!(ChainCursor::new(start()).judge(&link(1, 3, 3, Some((2, 2)))), Verdict::Gap);
        let cursor = ChainCursor::new(at(1, 5, 50));
        assert_eq!(cursor.judge(&link(1, 9, 90, Some((7, 70)))), Verdict::Gap);
        assert_eq!(cursor.judge(&link(1, 9, 90, Some((3, 30)))), Verdict::Gap, "the store decides");
        assert_eq!(cursor.judge(&link(1, 9, 90, None)), Verdict::Gap);
    }

    #[test]
    fn a_dead_epoch_is_dropped_wherever_it_stands() {
        let mut cursor = ChainCursor::new(at(1, 5, 50));
        cursor.repaired(vec![event(1, 5, 50)], whole(2, 6)).unwrap();
        for dead in [link(1, 5, 51, None), link(1, 7, 70, Some((5, 50))), link(1, 9, 90, Some((7, 70)))] {
            assert_eq!(cursor.judge(&dead), Verdict::Drop(Dropped::DeadHistory));
        }
        assert_eq!(cursor.judge(&link(2, 7, 71, Some((5, 50)))), Verdict::Apply);
    }

    #[test]
    fn a_newer_epoch_at_or_below_my_place_is_a_fork() {
        let cursor = ChainCursor::new(at(1, 5, 50));
        for newer in [link(2, 5, 50, Some((3, 30))), link(2, 4, 40, Some((3, 30)))] {
            assert!(matches!(cursor.judge(&newer), Verdict::Fork(_)));
        }
    }

    #[test]
    fn another_event_at_my_place_is_a_fork() {
        let cursor = ChainCursor::new(at(1, 5, 50));
        assert!(matches!(cursor.judge(&link(1, 5, 51, Some((3, 30)))), Verdict::Fork(_)));
        assert!(matches!(cursor.judge(&link(1, 9, 90, Some((5, 51)))), Verdict::Fork(_)));
    }

    #[test]
    fn what_the_store_does_not_have_is_not_applied() {
        let mut cursor = ChainCursor::new(at(1, 5, 50));
        cursor.repaired(vec![event(1, 5, 50)], whole(1, 8)).unwrap();
        assert_eq!(cursor.judge(&link(1, 7, 70, Some((5, 50)))), Verdict::Drop(Dropped::DeadHistory));
        assert_eq!(cursor.judge(&link(1, 9, 90, Some((5, 50)))), Verdict::Apply);
        assert_eq!(cursor.judge(&link(2, 7, 70, Some((6, 60)))), Verdict::Gap, "a new epoch is asked about");
    }

    #[test]
    fn a_repair_brings_what_is_missing_and_the_head() {
        let mut cursor = ChainCursor::new(at(1, 5, 50));
        assert_eq!(cursor.read_from(), Position(4));
        let events = vec![event(1, 5, 50), event(1, 7, 70), event(1, 9, 90)];
        let brought = cursor.repaired(events.clone(), whole(1, 12)).unwrap();
        assert_eq!(brought, events[1..]);
        assert_eq!(cursor.scanned_to(), Position(12));
        assert_eq!(cursor.judge(&link(1, 13, 13, Some((9, 90)))), Verdict::Apply);
    }

    #[test]
    fn a_repair_in_pieces_has_scanned_to_its_last_event() {
        let mut cursor = ChainCursor::new(start());
        let some = Completeness { more: true, ..whole(1, 12) };
        cursor.repaired(vec![event(1, 5, 50), event(1, 7, 70)], some).unwrap();
        assert_eq!(cursor.scanned_to(), Position(7));
        assert_eq!(cursor.read_from(), Position(6));
    }

    #[test]
    fn a_repair_finds_every_fork() {
        let mut later = event(1, 5, 50);
        Arc::make_mut(&mut later).recorded_at += chrono::TimeDelta::seconds(1);
        let cases = [
            ("another event", vec![event(1, 5, 51)], whole(1, 8)),
            ("the same command, sent again to the restored log", vec![later], whole(1, 8)),
            ("nothing of this shard", vec![event(1, 6, 60)], whole(1, 8)),
            ("nothing at all", vec![], whole(1, 8)),
            ("a head below my place", vec![], whole(1, 4)),
        ];
        for (name, events, whole) in cases {
            assert!(ChainCursor::new(at(1, 5, 50)).repaired(events, whole).is_err(), "{name}");
        }
        let mut cursor = ChainCursor::new(at(1, 5, 50));
        cursor.repaired(vec![event(1, 5, 50)], whole(1, 20)).unwrap();
        let back = cursor.repaired(vec![event(1, 5, 50)], whole(1, 19));
        assert!(back.is_err(), "a head that went back below what was scanned");
    }

    /// A reference chain, as positions; event names are the positions.
    fn chain() -> impl Strategy<Value = Vec<i64>> {
        prop::collection::vec(1..4i64, 1..40).prop_map(|steps| {
            steps
                .iter()
                .scan(0, |sum, step| {
                    *sum += step;
                    Some(*sum)
                })
                .collect()
        })
    }

    /// What one delivery is: an index into the chain, and whether a dead relay wrote it.
    fn deliveries() -> impl Strategy<Value = Vec<(prop::sample::Index, bool)>> {
        prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.1)), 0..120)
    }

    proptest! {
        #[test]
        fn any_delivery_with_repair_gives_exactly_the_reference(
            positions in chain(),
            deliveries in deliveries(),
            limit in 2..9usize,
        ) {
            let head = *positions.last().unwrap();
            let store: Vec<_> = positions.iter().map(|p| event(2, *p, *p as u128)).collect();
            let mut cursor = ChainCursor::new(Place::origin(Epoch(2)));
            let mut applied = Vec::new();
            let repair = |cursor: &mut ChainCursor, applied: &mut Vec<Arc<Envelope>>| {
                let from = cursor.read_from();
                let found: Vec<_> = store.iter().filter(|e| e.position > from).take(limit).cloned().collect();
                let more = found.len() == limit;
                applied.extend(cursor.repaired(found, Completeness { more, ..whole(2, head) }).unwrap());
                more
            };
            for (index, dead) in deliveries {
                let i = index.index(store.len());
                let previous = i.checked_sub(1).map(|i| (positions[i], positions[i] as u128));
                let epoch = if dead { 1 } else { 2 };
                match cursor.judge(&link(epoch, positions[i], positions[i] as u128, previous)) {
                    Verdict::Apply => {
                        cursor.apply(&store[i]);
                        applied.push(store[i].clone());
                    }
                    Verdict::Drop(_) => {}
                    Verdict::Gap => {
                        repair(&mut cursor, &mut applied);
                    }
                    Verdict::Fork(reason) => panic!("{reason}"),
                }
                prop_assert_eq!(&applied[..], &store[..applied.len()]);
            }
            while repair(&mut cursor, &mut applied) {}
            prop_assert_eq!(applied, store);
            prop_assert_eq!(cursor.scanned_to(), Position(head));
        }
    }
}
