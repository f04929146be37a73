//! A relay, stopped and killed between any two of its steps: lock, walk, read, send, acknowledgement, progress.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::bus::{Hand, Sent};
use super::store::Store;
use super::world::World;
use crate::domain::ids::Shard;
use crate::event_store::Place;
use crate::events::Envelope;
use crate::relay::walk::{Begin, Confirmation, Known, Step, Walk, begin, confirm};
use crate::relay::window::{Limits, Tail, Window};

const LIMITS: Limits = Limits { events_max: 5, bytes_max: 1 << 20 };
/// Events of the store that a walk fetches at once.
const FETCH: usize = 3;

/// A process.
#[derive(Default)]
pub(super) struct Relay {
    term: Option<Term>,
    /// What it knows the log by.
    place: Option<Place>,
    /// It has found that the log is another history, and does nothing more.
    pub(super) halted: bool,
}

struct Term {
    window: Window,
    /// With the producer: sent, and not acknowledged.
    on_the_way: VecDeque<Sent>,
}

impl Relay {
    pub(super) fn is_idle(&self) -> bool {
        self.term.as_ref().is_none_or(|term| term.on_the_way.is_empty())
    }

    /// Whether nothing is left to be sent.
    pub(super) fn has_sent_all(&self, store: &Store) -> bool {
        let Some(term) = &self.term else { return false };
        term.window
            .places()
            .into_iter()
            .all(|(shard, after)| store.shard_after(shard, after).next().is_none())
    }

    /// `kill -9`: so many of the records on their way are written all the same.
    pub(super) fn die(&mut self, written: usize) -> Vec<Sent> {
        let term = std::mem::take(self).term;
        term.into_iter().flat_map(|term| term.on_the_way).take(written).collect()
    }
}

impl World {
    /// Takes the lock if it is free, and finds out where to go on.
    pub(super) fn lead(&mut self, relay: usize) {
        if self.relay_lock.is_some() || self.relays[relay].halted {
            return;
        }
        // What was with the old producer is gone, or written by whoever held it: the walk tells.
        self.relays[relay].term = None;
        let is_known = self.relays[relay].place.as_ref().is_none_or(|place| self.store.has(place));
        let end = |shard: &Shard| Ok((*shard, (self.tail(*shard)?, self.bus.extent(*shard).end)));
        let ends: Result<BTreeMap<_, _>, String> = self.shards.iter().map(end).collect();
        let (true, Ok(ends)) = (is_known, ends) else {
            self.fork("a relay");
            self.relays[relay] = Relay { halted: true, ..Relay::default() };
            return;
        };
        self.relay_lock = Some(relay);
        let window = Window::new(LIMITS, ends);
        self.relays[relay].term = Some(Term { window, on_the_way: VecDeque::new() });
    }

    /// Reads what comes next and hands it to the producer, while there is room. The lock is checked first.
    pub(super) fn copy(&mut self, relay: usize, events: usize) {
        for _ in 0..events {
            if self.relay_lock != Some(relay) {
                // A frozen relay that lost its lock: what the producer has is sent, and nothing more.
                return;
            }
            let Some(next) = self.next_event(relay) else { return };
            let Relay { term: Some(term), place, .. } = &mut self.relays[relay] else { return };
            if !term.window.has_room() {
                return;
            }
            let previous = term.window.tail(next.shard);
            term.window.sent(&next);
            if place.as_ref().is_none_or(|place| place.position < next.position) {
                *place = Some(Place::from(&*next));
            }
            term.on_the_way.push_back(Sent::new(next, previous));
        }
    }

    fn next_event(&self, relay: usize) -> Option<Arc<Envelope>> {
        let term = self.relays[relay].term.as_ref()?;
        let next = |(shard, after)| self.store.shard_after(shard, after).next();
        term.window.places().into_iter().filter_map(next).min_by_key(|event| event.position).cloned()
    }

    /// The broker takes records and says so.
    pub(super) fn deliver(&mut self, relay: usize, records: usize) {
        for _ in 0..records {
            let Some(term) = &mut self.relays[relay].term else { return };
            let Some(record) = term.on_the_way.pop_front() else { return };
            let (shard, position) = (record.event.shard, record.event.position);
            let hand = if self.relay_lock == Some(relay) { Hand::Leader } else { Hand::Another };
            let offset = self.bus.write(record, hand);
            if term.window.delivered(shard, position, offset).is_err() {
                // Another topic: what is noted of it is forgotten, and the next term walks from its first record.
                self.relays[relay].term = None;
                self.progress.clear();
                if self.relay_lock == Some(relay) {
                    self.relay_lock = None;
                }
            }
        }
    }

    /// Writes progress, as whoever holds the lock does once a second.
    pub(super) fn save(&mut self, relay: usize) {
        if self.relay_lock != Some(relay) {
            return;
        }
        let Some(term) = &mut self.relays[relay].term else { return };
        let unsaved = term.window.unsaved();
        term.window.saved(&unsaved);
        self.progress.extend(unsaved.into_iter().map(|progress| (progress.shard, progress)));
    }

    /// The end of what a partition holds of its shard, in an unbroken run.
    ///
    /// # Errors
    /// The reason for a fork.
    fn tail(&self, shard: Shard) -> Result<Option<Tail>, String> {
        let extent = self.bus.extent(shard);
        let progress = self.progress.get(&shard).copied();
        let of = |event: &Arc<Envelope>| Tail::from(&**event);
        let stored = progress.and_then(|row| {
            self.store.find(row.position).filter(|event| event.shard == shard && event.epoch == row.epoch)
        });
        let later_epoch = progress.and_then(|row| self.store.epoch_after(row.epoch));
        let known = Known { progress, stored: stored.map(of), later_epoch, extent };
        match begin(&known)? {
            Begin::Confirm(stored, offset) => {
                let record = self.bus.read(shard, offset).expect("it is within the extent");
                match confirm(stored, Tail::from(&*record.event), self.store.epoch()) {
                    Confirmation::Same => self.walk(shard, Some(stored), offset + 1),
                    Confirmation::AnotherTopic => self.walk_anew(shard),
                    Confirmation::Fork(reason) => Err(reason),
                }
            }
            Begin::Trust(tail, offset) => self.walk(shard, tail, offset),
            Begin::Anew => self.walk_anew(shard),
        }
    }

    /// From the first record. Where retention has passed the shard's first event, the run begins with what is left.
    fn walk_anew(&self, shard: Shard) -> Result<Option<Tail>, String> {
        let extent = self.bus.extent(shard);
        let first = self.bus.read(shard, extent.low).filter(|_| extent.low > 0);
        let first = first.map(|record| Tail::from(&*record.event));
        let adopted = first.filter(|first| {
            self.store.find(first.position).is_some_and(|event| Tail::from(&**event) == *first)
        });
        self.walk(shard, adopted, extent.low)
    }

    fn walk(&self, shard: Shard, from: Option<Tail>, offset: i64) -> Result<Option<Tail>, String> {
        let mut walk = Walk::new(from, self.store.epoch());
        for offset in offset..self.bus.extent(shard).end {
            let Some(record) = self.bus.read(shard, offset) else { continue };
            loop {
                match walk.see(Tail::from(&*record.event)) {
                    Step::Next => break,
                    Step::Fork(reason) => return Err(reason),
                    Step::Fetch(after) => {
                        let next = self.store.shard_after(shard, after).take(FETCH);
                        walk.expect(next.map(|event| Tail::from(&**event)));
                    }
                }
            }
        }
        Ok(walk.tail())
    }
}
