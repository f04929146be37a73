//! The envelope: an event with everything that is known about it.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::codec::{DecodeError, Event};
use crate::domain::ids::{Epoch, Position, Shard, StreamId, Version};

/// `{command_id}.{ordinal}`: an event's name, the same in every copy of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The command that caused it.
    pub command_id: Uuid,
    /// Its place among that command's events, from 0.
    pub ordinal: i32,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.command_id, self.ordinal)
    }
}

impl std::str::FromStr for EventId {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const REASON: &str = "is not an event id: {command_id}.{ordinal}";
        let (command_id, ordinal) = text.split_once('.').ok_or(REASON)?;
        let command_id = Uuid::parse_str(command_id).map_err(|_| REASON)?;
        Ok(Self { command_id, ordinal: ordinal.parse().map_err(|_| REASON)? })
    }
}

/// A fact on its way into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The type, as stored.
    pub event_type: &'static str,
    /// The version of the payload.
    pub schema_version: i16,
    /// The payload's bytes.
    pub payload: String,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
}

impl NewEvent {
    /// Encodes a fact that happened at `occurred_at`.
    pub fn new(event: impl Into<Event>, occurred_at: DateTime<Utc>) -> Self {
        let event = event.into();
        let kind = event.kind();
        Self {
            event_type: kind.event_type,
            schema_version: kind.schema_version,
            payload: event.encode(),
            occurred_at,
        }
    }
}

/// What is stored beside the payload: who, and what a bulk window left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Opaque id of who sent the command.
    pub actor: String,
    /// On the last event of a bulk window: the lines that were refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<serde_json::Value>,
}

/// An event as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The history it belongs to.
    pub epoch: Epoch,
    /// Its place in the whole log.
    pub position: Position,
    /// Its name: the command and its place among the command's events.
    pub event_id: EventId,
    /// The stream.
    pub stream_id: StreamId,
    /// Its place in the stream.
    pub version: Version,
    /// SHA-256 of the command's body without personal data.
    pub request_hash: Arc<[u8]>,
    /// The type, as stored.
    pub event_type: Arc<str>,
    /// The version of the payload.
    pub schema_version: i16,
    /// The shard: a function of the stream.
    pub shard: Shard,
    /// Joins everything that one request caused.
    pub correlation_id: Uuid,
    /// The event that caused it, if one did.
    pub causation_position: Option<Position>,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// When the log took it.
    pub recorded_at: DateTime<Utc>,
    /// The payload's bytes.
    pub payload: Arc<str>,
    /// Who, and more; JSON.
    pub metadata: Arc<str>,
}

impl Envelope {
    /// The fact inside.
    ///
    /// # Errors
    /// [`DecodeError`]: written by a newer program, or not a payload of its type.
    pub fn event(&self) -> Result<Event, DecodeError> {
        Event::decode(&self.event_type, self.schema_version, &self.payload)
    }
}
