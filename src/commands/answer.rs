//! What a command is answered: the facts it became, or why not.

use uuid::Uuid;

use crate::domain::ids::{Epoch, Position, StreamId, Version};
use crate::domain::rejection::Rejection;
use crate::events::{Envelope, EventId};

/// The facts that a command became. The same for every resend, whatever has happened since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The command.
    pub command_id: Uuid,
    /// The stream it changed.
    pub stream_id: StreamId,
    /// The version that gave this stream.
    pub version: Version,
    /// The history that `position` belongs to.
    pub epoch: Epoch,
    /// Position of its last event: with the epoch, its place for "read your own writes".
    pub position: Position,
    /// Its events; empty when nothing changed.
    pub events: Vec<AnsweredEvent>,
}

/// One fact of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredEvent {
    /// Its id.
    pub event_id: EventId,
    /// Its type.
    pub event_type: &'static str,
    /// Its place in the log.
    pub position: Position,
}

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The caller's business.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The idempotency key was used for another body.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// It could not be decided in time. The command id may be sent again; it has one effect at most.
    #[error("{reason}")]
    Busy {
        /// When to come back.
        retry_after_seconds: u64,
        /// Why.
        reason: &'static str,
    },
    /// The log holds something that this program cannot read.
    #[error("the command could not be decided: {0}")]
    Internal(String),
}

impl Refusal {
    /// Nobody gets an answer from the log, so nobody knows what became of the command.
    pub fn unreachable() -> Self {
        let reason = "the event store cannot be reached; the command may or may not have been stored";
        Self::Busy { retry_after_seconds: 1, reason }
    }
}

impl Answer {
    /// The answer of a command that is in the log; `None` when `events` is empty.
    pub(crate) fn from_log(events: &[Envelope]) -> Option<Self> {
        let last = events.last()?;
        let events = events
            .iter()
            .map(|event| AnsweredEvent {
                event_id: event.event_id,
                event_type: crate::events::Event::KINDS
                    .iter()
                    .find(|kind| kind.event_type == &*event.event_type)
                    .map_or("unknown", |kind| kind.event_type),
                position: event.position,
            })
            .collect();
        Some(Self {
            command_id: last.event_id.command_id,
            stream_id: last.stream_id.clone(),
            version: last.version,
            epoch: last.epoch,
            position: last.position,
            events,
        })
    }
}
