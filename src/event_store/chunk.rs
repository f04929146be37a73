//! How many events to ask for at once.

use crate::events::Envelope;

/// A limit that follows the size of what was read last: many small events or few big ones, never a heap of big ones.
#[derive(Debug, Clone)]
pub struct ChunkSize {
    events: usize,
    events_max: usize,
    bytes: usize,
}

impl ChunkSize {
    /// At most `events_max` events, of about `bytes` together. Begins small.
    #[must_use]
    pub fn new(events_max: usize, bytes: usize) -> Self {
        Self { events: events_max.min(256), events_max, bytes }
    }

    /// The limit for the next read.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events
    }

    /// Learns from what was read.
    pub fn observe(&mut self, events: &[Envelope]) {
        if events.is_empty() {
            return;
        }
        let bytes: usize = events.iter().map(|event| event.payload.len() + event.metadata.len() + 100).sum();
        let fitting = self.bytes / (bytes / events.len());
        self.events = fitting.clamp(16, self.events_max).min(self.events * 4);
    }
}
