//! The events of a few streams, in the order of the log, piece by piece: a stream may be as long as it likes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sqlx::PgPool;

use crate::domain::ids::{Position, StreamId, Version};
use crate::event_store::{self, read};
use crate::events::Envelope;

/// Events that are read of a stream at once, and handed on together.
const READ_EVENTS: i64 = 500;

/// What comes next of each stream.
#[derive(Debug)]
pub(super) struct StreamEvents {
    streams: BTreeMap<StreamId, Stream>,
    left_out: BTreeSet<Position>,
}

#[derive(Debug)]
struct Stream {
    read: VecDeque<Envelope>,
    version: Version,
    /// The last position that is wanted.
    to: Position,
    is_over: bool,
}

impl StreamEvents {
    /// Of these streams, each after a version, all events up to a position.
    pub(super) fn new(streams: impl IntoIterator<Item = (StreamId, i64)>, to: Position) -> Self {
        let stream = |(id, version): (StreamId, i64)| {
            (id, Stream { read: VecDeque::new(), version: Version(version), to, is_over: false })
        };
        Self { streams: streams.into_iter().map(stream).collect(), left_out: BTreeSet::new() }
    }

    /// Leaves out one event.
    pub(super) fn leave_out(&mut self, position: Position) {
        self.left_out.insert(position);
    }

    /// Leaves out what a stream has from this position on.
    pub(super) fn end_before(&mut self, stream: &StreamId, position: Position) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.to = stream.to.min(Position(position.0 - 1));
        }
    }

    /// The next events; none at the end.
    pub(super) async fn next(&mut self, pool: &PgPool) -> Result<Vec<Envelope>, event_store::Error> {
        let mut events = Vec::new();
        while (events.len() as i64) < READ_EVENTS {
            for (id, stream) in &mut self.streams {
                stream.fill(pool, id).await?;
            }
            let first = self.streams.values_mut().filter(|stream| !stream.read.is_empty());
            let first = first.min_by_key(|stream| stream.read.front().map(|event| event.position));
            let Some(event) = first.and_then(|stream| stream.read.pop_front()) else { break };
            if !self.left_out.contains(&event.position) {
                events.push(event);
            }
        }
        Ok(events)
    }
}

impl Stream {
    async fn fill(&mut self, pool: &PgPool, id: &StreamId) -> Result<(), event_store::Error> {
        if !self.read.is_empty() || self.is_over {
            return Ok(());
        }
        let found = read::stream_after(pool, id, self.version, READ_EVENTS).await?.events;
        if let Some(last) = found.last() {
            self.version = last.version;
        }
        let asked = found.len() as i64;
        self.read.extend(found.into_iter().take_while(|event| event.position <= self.to));
        self.is_over = (self.read.len() as i64) < asked || asked < READ_EVENTS;
        Ok(())
    }
}
