//! What to send next: the log after the tails.
//!
//! Right after a start the shards stand at different places, some far back because nothing happened there for years. So the log is
//! first read by shard, until one statement over all of them brings everything up to its own head; from there on it is read
//! as a whole, in position order.

use sqlx::PgPool;

use super::window::Window;
use crate::domain::ids::{Position, Shard};
use crate::event_store::{self, ChunkSize, read};
use crate::events::Envelope;
use crate::postgres::answered;

const EVENTS_MAX: usize = 5_000;
const BYTES: usize = 4 << 20;

/// A reader of the log for the relay.
#[derive(Debug)]
pub(super) struct Source {
    pool: PgPool,
    chunk: ChunkSize,
    stage: Stage,
    head: Position,
}

#[derive(Debug)]
enum Stage {
    /// These shards may have more than was read; empty to ask about all of them.
    ByShard(Vec<Shard>),
    /// Everything up to here was read.
    Whole(Position),
}

/// What was read, and whether there is more at once.
pub(super) struct Read {
    pub(super) events: Vec<Envelope>,
    pub(super) more: bool,
}

impl Source {
    pub(super) fn new(pool: PgPool) -> Self {
        let chunk = ChunkSize::new(EVENTS_MAX, BYTES);
        Self { pool, chunk, stage: Stage::ByShard(Vec::new()), head: Position(0) }
    }

    /// The head as of the last read.
    pub(super) fn head(&self) -> Position {
        self.head
    }

    /// The next events, all of which must be sent before the next call.
    pub(super) async fn read(&mut self, window: &Window) -> Result<Read, event_store::Error> {
        let read = match &self.stage {
            Stage::Whole(position) => self.read_whole(*position).await?,
            Stage::ByShard(shards) => {
                let all = shards.is_empty();
                let places = window.places();
                let asked: Vec<_> =
                    places.into_iter().filter(|(shard, _)| all || shards.contains(shard)).collect();
                self.read_by_shard(&asked, all).await?
            }
        };
        self.chunk.observe(&read.events);
        Ok(read)
    }

    async fn read_whole(&mut self, position: Position) -> Result<Read, event_store::Error> {
        let limit = self.chunk.events();
        let slice = answered(read::after(&self.pool, position, limit as i64)).await?;
        if slice.head < position {
            let reason = format!("the head was {position} and is now {}", slice.head);
            return Err(event_store::Error::Fork { reason });
        }
        let end = slice.events.last().map_or(position, |event| event.position);
        self.head = slice.head;
        self.stage = Stage::Whole(end);
        Ok(Read { more: slice.events.len() == limit, events: slice.events })
    }

    async fn read_by_shard(
        &mut self,
        asked: &[(Shard, Position)],
        all: bool,
    ) -> Result<Read, event_store::Error> {
        let limit = (self.chunk.events() / asked.len().max(1)).max(1);
        let slice = answered(read::shards_after(&self.pool, asked, limit as i64)).await?;
        self.head = slice.head;
        let count = |shard: Shard| slice.events.iter().filter(|event| event.shard == shard).count();
        let unfinished: Vec<_> =
            asked.iter().map(|(shard, _)| *shard).filter(|shard| count(*shard) == limit).collect();
        let everything = all && unfinished.is_empty();
        self.stage = if everything { Stage::Whole(slice.head) } else { Stage::ByShard(unfinished) };
        Ok(Read { more: true, events: slice.events })
    }
}
