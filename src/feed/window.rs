//! The newest part of the log, kept in memory for all feeds of a process. Pure.
//!
//! Positions have no holes, so the window is one run of them and an event is found by subtraction. It forgets its oldest
//! events when it holds too many or too much; a feed that has fallen behind reads the store until it has caught up.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::domain::ids::Position;
use crate::events::Envelope;

/// What the window may hold.
#[derive(Debug, Clone, Copy)]
pub struct WindowLimits {
    /// Events.
    pub events_max: usize,
    /// Bytes, estimated.
    pub bytes_max: usize,
}

impl Default for WindowLimits {
    fn default() -> Self {
        Self { events_max: 65_536, bytes_max: 32 << 20 }
    }
}

/// Every event after `start`, up to `end`.
#[derive(Debug)]
pub(super) struct Window {
    limits: WindowLimits,
    events: VecDeque<Arc<Envelope>>,
    bytes: usize,
    start: Position,
}

impl Window {
    /// An empty window behind `start`.
    pub(super) fn new(start: Position, limits: WindowLimits) -> Self {
        Self { limits, events: VecDeque::new(), bytes: 0, start }
    }

    /// Events at or below this are not held.
    pub(super) fn start(&self) -> Position {
        self.start
    }

    /// The last event read.
    pub(super) fn end(&self) -> Position {
        Position(self.start.0 + self.events.len() as i64)
    }

    /// Adds what follows the end.
    pub(super) fn extend(&mut self, events: Vec<Envelope>) {
        for event in events {
            assert_eq!(event.position.0, self.end().0 + 1, "positions have no holes");
            self.bytes += weight(&event);
            self.events.push_back(Arc::new(event));
        }
        while self.events.len() > self.limits.events_max || self.bytes > self.limits.bytes_max {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= weight(&oldest);
            self.start = oldest.position;
        }
    }

    /// The events after `position`, oldest first; none if some of them were forgotten.
    pub(super) fn after(&self, position: Position) -> Option<impl Iterator<Item = &Arc<Envelope>>> {
        let skip = usize::try_from(position.0 - self.start.0).ok()?;
        Some(self.events.range(skip.min(self.events.len())..))
    }
}

/// What an event takes in memory, roughly.
fn weight(event: &Envelope) -> usize {
    event.payload.len() + event.metadata.len() + 400
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::fixtures::event;

    fn window(start: i64, end: i64, events_max: usize) -> Window {
        let mut window = Window::new(Position(start), WindowLimits { events_max, ..WindowLimits::default() });
        window.extend((start + 1..=end).map(|p| (*event(1, p, p as u128)).clone()).collect());
        window
    }

    fn positions(window: &Window, after: i64) -> Option<Vec<i64>> {
        window.after(Position(after)).map(|events| events.map(|event| event.position.0).collect())
    }

    #[test]
    fn it_gives_what_follows_a_position() {
        let window = window(10, 14, 100);
        assert_eq!(positions(&window, 10), Some(vec![11, 12, 13, 14]));
        assert_eq!(positions(&window, 13), Some(vec![14]));
        assert_eq!(positions(&window, 14), Some(vec![]));
        assert_eq!(positions(&window, 20), Some(vec![]), "a reader may be ahead of the window");
    }

    #[test]
    fn it_forgets_the_oldest_and_says_so() {
        let window = window(0, 10, 4);
        assert_eq!((window.start(), window.end()), (Position(6), Position(10)));
        assert_eq!(positions(&window, 5), None);
        assert_eq!(positions(&window, 6), Some(vec![7, 8, 9, 10]));
    }

    #[test]
    fn it_is_bounded_by_bytes_too() {
        let limits = WindowLimits { events_max: 100, bytes_max: 1_000 };
        let mut window = Window::new(Position(0), limits);
        window.extend((1..=9).map(|p| (*event(1, p, p as u128)).clone()).collect());
        assert_eq!((window.start(), window.end()), (Position(7), Position(9)));
    }

    #[test]
    #[should_panic(expected = "positions have no holes")]
    fn a_hole_is_a_bug() {
        window(0, 3, 10).extend(vec![(*event(1, 5, 5)).clone()]);
    }
}
