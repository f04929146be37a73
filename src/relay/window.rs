//! What has been handed to the producer and what has been acknowledged, shard by shard. Pure.
//!
//! Progress is a lower bound: the last event of an unbroken run of acknowledged ones, with its offset. Acknowledgements
//! of a shard come in the order of sending, at rising offsets. Anything else means that the topic is not the one that was
//! sent to, and that the relay has to look at it again.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::ids::{Epoch, Position, Shard};
use crate::events::{Envelope, EventId};

/// An event, as the end of a shard's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// The history it belongs to.
    pub epoch: Epoch,
    /// Its place in the log.
    pub position: Position,
    /// Its name.
    pub event_id: EventId,
}

impl From<&Envelope> for Tail {
    fn from(event: &Envelope) -> Self {
        Self { epoch: event.epoch, position: event.position, event_id: event.event_id }
    }
}

/// How far a shard is known to be in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The shard.
    pub shard: Shard,
    /// The history of the event.
    pub epoch: Epoch,
    /// The last event of the unbroken run.
    pub position: Position,
    /// Where it stands in the topic.
    pub offset: i64,
}

/// Why the topic has to be looked at again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// An acknowledgement that does not belong to the oldest record on its way.
    #[error("shard {shard}: position {acknowledged} was acknowledged, {expected:?} was expected")]
    OutOfOrder {
        /// The shard.
        shard: Shard,
        /// What came.
        acknowledged: Position,
        /// What should have come.
        expected: Option<Position>,
    },
    /// Offsets fall only when a topic was made anew.
    #[error("shard {shard}: offset {offset} follows offset {before}: the topic is another one")]
    AnotherTopic {
        /// The shard.
        shard: Shard,
        /// The offset before.
        before: i64,
        /// The offset now.
        offset: i64,
    },
}

/// What may be on its way at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Events.
    pub events_max: usize,
    /// Bytes of payload and headers, roughly.
    pub bytes_max: usize,
}

/// All shards.
#[derive(Debug)]
pub struct Window {
    limits: Limits,
    flows: BTreeMap<Shard, Flow>,
    events: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Flow {
    tail: Option<Tail>,
    /// No record of ours can come to stand before this offset.
    end: i64,
    in_flight: VecDeque<(Tail, usize)>,
    acknowledged: Option<Progress>,
    saved: bool,
}

impl Window {
    /// Every shard with the end of what its topic holds already: the last event of its unbroken run, and the offset
    /// behind its last record.
    pub fn new(limits: Limits, ends: BTreeMap<Shard, (Option<Tail>, i64)>) -> Self {
        let flows =
            ends.into_iter().map(|(shard, (tail, end))| (shard, Flow { tail, end, ..Flow::default() }));
        Self { limits, flows: flows.collect(), events: 0, bytes: 0 }
    }

    /// The last event handed over for a shard: what the next one's `previous` is.
    pub fn tail(&self, shard: Shard) -> Option<Tail> {
        self.flows.get(&shard)?.tail
    }

    /// For every shard, the position after which it goes on.
    pub fn places(&self) -> Vec<(Shard, Position)> {
        let position = |flow: &Flow| flow.tail.map_or(Position(0), |tail| tail.position);
        self.flows.iter().map(|(shard, flow)| (*shard, position(flow))).collect()
    }

    /// For every shard, the offset behind the last record that is known to be there.
    pub fn ends(&self) -> BTreeMap<Shard, i64> {
        self.flows.iter().map(|(shard, flow)| (*shard, flow.end)).collect()
    }

    /// Whether more may be handed over.
    pub fn has_room(&self) -> bool {
        self.events < self.limits.events_max && self.bytes < self.limits.bytes_max
    }

    /// How many records are on their way.
    pub fn in_flight(&self) -> usize {
        self.events
    }

    /// An event was handed over.
    pub fn sent(&mut self, event: &Envelope) {
        let bytes = weight(event);
        let flow = self.flows.entry(event.shard).or_default();
        let tail = Tail::from(event);
        flow.tail = Some(tail);
        flow.in_flight.push_back((tail, bytes));
        self.events += 1;
        self.bytes += bytes;
    }

    /// A record was acknowledged.
    ///
    /// # Errors
    /// [`Broken`]: look at the topic again.
    pub fn delivered(&mut self, shard: Shard, position: Position, offset: i64) -> Result<(), Broken> {
        let flow = self.flows.entry(shard).or_default();
        let expected = flow.in_flight.front().map(|(tail, _)| tail.position);
        if expected != Some(position) {
            return Err(Broken::OutOfOrder { shard, acknowledged: position, expected });
        }
        if offset < flow.end {
            return Err(Broken::AnotherTopic { shard, before: flow.end - 1, offset });
        }
        if let Some((tail, bytes)) = flow.in_flight.pop_front() {
            flow.end = offset + 1;
            flow.acknowledged = Some(Progress { shard, epoch: tail.epoch, position, offset });
            flow.saved = false;
            self.events -= 1;
            self.bytes -= bytes;
        }
        Ok(())
    }

    /// Progress that was not written yet.
    pub fn unsaved(&self) -> Vec<Progress> {
        self.flows.values().filter(|flow| !flow.saved).filter_map(|flow| flow.acknowledged).collect()
    }

    /// This progress was written.
    pub fn saved(&mut self, written: &[Progress]) {
        for progress in written {
            if let Some(flow) = self.flows.get_mut(&progress.shard) {
                flow.saved = flow.acknowledged == Some(*progress);
            }
        }
    }
}

fn weight(event: &Envelope) -> usize {
    event.payload.len() + event.metadata.len() + 600
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::fixtures::{event, id};

    const LIMITS: Limits = Limits { events_max: 3, bytes_max: 1 << 20 };

    fn window() -> Window {
        Window::new(LIMITS, [(Shard(0), (None, 0)), (Shard(1), (None, 0))].into())
    }

    fn progress(shard: i16, position: i64, offset: i64) -> Progress {
        Progress { shard: Shard(shard), epoch: Epoch(1), position: Position(position), offset }
    }

    #[test]
    fn each_event_follows_the_one_before_in_its_shard() {
        let mut window = window();
        assert_eq!(window.tail(Shard(0)), None);
        window.sent(&event(0, 3));
        window.sent(&event(1, 4));
        assert_eq!(
            window.tail(Shard(0)).map(|tail| (tail.position, tail.event_id)),
            Some((Position(3), id(3)))
        );
        assert_eq!(window.places(), [(Shard(0), Position(3)), (Shard(1), Position(4))]);
    }

    #[test]
    fn it_is_full_until_something_is_acknowledged() {
        let mut window = window();
        for position in 1..=3 {
            assert!(window.has_room());
            window.sent(&event(0, position));
        }
        assert!(!window.has_room());
        window.delivered(Shard(0), Position(1), 10).unwrap();
        assert!(window.has_room());
        assert_eq!(window.in_flight(), 2);
    }

    #[test]
    fn it_is_full_by_bytes_too() {
        let mut window = Window::new(Limits { events_max: 100, bytes_max: 1_000 }, BTreeMap::new());
        window.sent(&event(0, 1));
        assert!(window.has_room());
        window.sent(&event(0, 2));
        assert!(!window.has_room());
    }

    #[test]
    fn progress_is_what_was_acknowledged_and_is_written_once() {
        let mut window = window();
        (1..=3).for_each(|position| window.sent(&event(0, position)));
        window.delivered(Shard(0), Position(1), 10).unwrap();
        window.delivered(Shard(0), Position(2), 11).unwrap();
        let unsaved = window.unsaved();
        assert_eq!(unsaved, [progress(0, 2, 11)]);
        window.delivered(Shard(0), Position(3), 14).unwrap();
        window.saved(&unsaved);
        assert_eq!(window.unsaved(), [progress(0, 3, 14)], "acknowledged while the other was being written");
        window.saved(&window.unsaved());
        assert_eq!(window.unsaved(), []);
    }

    #[test]
    fn what_cannot_be_makes_the_relay_look_again() {
        let mut window = window();
        (1..=3).for_each(|position| window.sent(&event(0, position)));
        assert!(matches!(window.delivered(Shard(0), Position(2), 9), Err(Broken::OutOfOrder { .. })));
        window.delivered(Shard(0), Position(1), 10).unwrap();
        assert_eq!(window.ends(), [(Shard(0), 11), (Shard(1), 0)].into());
        assert!(matches!(window.delivered(Shard(0), Position(2), 0), Err(Broken::AnotherTopic { .. })));
        assert!(matches!(window.delivered(Shard(1), Position(7), 0), Err(Broken::OutOfOrder { .. })));
    }

    #[test]
    fn a_topic_made_anew_between_the_walk_and_the_first_acknowledgement_is_noticed() {
        let mut window = Window::new(LIMITS, [(Shard(0), (None, 5))].into());
        window.sent(&event(0, 1));
        assert!(matches!(window.delivered(Shard(0), Position(1), 0), Err(Broken::AnotherTopic { .. })));
    }
}
