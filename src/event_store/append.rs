//! One append: what a command wants to add, on what it was decided, and what became of it.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::domain::ids::{Position, StreamId, Version};
use crate::events::NewEvent;

/// One command on its way into the log: accepted with all of its parts, or not at all.
#[derive(Debug, Clone)]
pub struct Append {
    /// The command; it is in the log at most once, for ever.
    pub command_id: Uuid,
    /// SHA-256 of the body without personal data: another body under the same id is told apart.
    pub request_hash: Arc<[u8]>,
    /// Joins everything that one request caused.
    pub correlation_id: Uuid,
    /// The event that caused it, if one did.
    pub causation_position: Option<Position>,
    /// Opaque id of who sent it.
    pub actor: Arc<str>,
    /// What to append where, at least one event in all.
    pub parts: Vec<Part>,
    /// Streams that were read and must not have moved.
    pub guards: Vec<Guard>,
    /// Personal data that goes beside the log in the same transaction.
    pub details: Option<Details>,
    /// On the last event: what a bulk window left out.
    pub refused: Option<serde_json::Value>,
}

/// Events for one stream.
#[derive(Debug, Clone)]
pub struct Part {
    /// The stream.
    pub stream_id: StreamId,
    /// The version it must have, or none for a blind append.
    pub expected: Option<Version>,
    /// One or more events.
    pub events: Vec<NewEvent>,
}

/// A stream that the decision read and that must still be at this version.
#[derive(Debug, Clone)]
pub struct Guard {
    /// The stream.
    pub stream_id: StreamId,
    /// The version it must have.
    pub expected: Version,
}

/// An investor's personal data.
#[derive(Clone)]
pub struct Details {
    /// Whose.
    pub investor_id: Uuid,
    /// The name.
    pub name: String,
    /// The e-mail, unique without regard to case.
    pub email: String,
}

impl std::fmt::Debug for Details {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Personal data stays out of logs, also by accident.
        write!(f, "Details({})", self.investor_id)
    }
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// In the log, durable, from this position on.
    Accepted {
        /// Position of its first event.
        position: Position,
    },
    /// The command is in the log already.
    Known {
        /// Position of its first event.
        position: Position,
    },
    /// A stream has moved on.
    Conflict {
        /// Which.
        stream_id: StreamId,
        /// The version it has now.
        current: Version,
    },
    /// Another investor has this e-mail.
    EmailTaken,
    /// Something it was decided upon did not come to be.
    DecideAgain,
    /// The database cannot store it, however often it is tried.
    Unstorable {
        /// What the database says.
        reason: String,
    },
}

/// The batch as the parallel arrays that `append_batch` takes.
#[derive(Default)]
pub(super) struct Columns {
    pub command_ids: Vec<Uuid>,
    pub request_hashes: Vec<Vec<u8>>,
    pub correlation_ids: Vec<Uuid>,
    pub causation_positions: Vec<Option<i64>>,
    pub base_streams: Vec<String>,
    pub base_versions: Vec<i64>,
    pub check_commands: Vec<i32>,
    pub check_streams: Vec<i32>,
    pub check_writes: Vec<bool>,
    pub event_commands: Vec<i32>,
    pub event_ordinals: Vec<i32>,
    pub event_streams: Vec<String>,
    pub event_versions: Vec<Option<i64>>,
    pub event_shards: Vec<i16>,
    pub event_types: Vec<&'static str>,
    pub event_schemas: Vec<i16>,
    pub event_occurred_ats: Vec<DateTime<Utc>>,
    pub event_payloads: Vec<String>,
    pub event_metadata: Vec<String>,
    pub detail_commands: Vec<i32>,
    pub detail_investors: Vec<Uuid>,
    pub detail_names: Vec<String>,
    pub detail_emails: Vec<String>,
}

impl Columns {
    /// Lays out a batch. A stream's base is the version at which the first command of the batch read it; the
    /// later ones were decided upon the earlier ones.
    pub(super) fn of(batch: &[Append]) -> Self {
        let mut columns = Self::default();
        let mut bases = HashMap::new();
        for (command, append) in (1..).zip(batch) {
            columns.command_ids.push(append.command_id);
            columns.request_hashes.push(append.request_hash.to_vec());
            columns.correlation_ids.push(append.correlation_id);
            columns.causation_positions.push(append.causation_position.map(|p| p.0));
            for guard in &append.guards {
                columns.check(&mut bases, command, &guard.stream_id, guard.expected, false);
            }
            let mut ordinal = 0;
            let last = append.parts.iter().map(|part| part.events.len()).sum::<usize>() as i32 - 1;
            for part in &append.parts {
                if let Some(expected) = part.expected {
                    columns.check(&mut bases, command, &part.stream_id, expected, true);
                }
                let shard = part.stream_id.shard().0;
                for (k, event) in (1..).zip(&part.events) {
                    columns.event_commands.push(command);
                    columns.event_ordinals.push(ordinal);
                    columns.event_streams.push(part.stream_id.to_string());
                    columns.event_versions.push(part.expected.map(|v| v.0 + k));
                    columns.event_shards.push(shard);
                    columns.event_types.push(event.event_type);
                    columns.event_schemas.push(event.schema_version);
                    columns.event_occurred_ats.push(event.occurred_at);
                    columns.event_payloads.push(event.payload.clone());
                    columns.event_metadata.push(metadata(append, ordinal == last));
                    ordinal += 1;
                }
            }
            if let Some(details) = &append.details {
                columns.detail_commands.push(command);
                columns.detail_investors.push(details.investor_id);
                columns.detail_names.push(details.name.clone());
                columns.detail_emails.push(details.email.clone());
            }
        }
        columns
    }

    fn check(
        &mut self,
        bases: &mut HashMap<StreamId, i32>,
        command: i32,
        stream: &StreamId,
        expected: Version,
        writes: bool,
    ) {
        let base = *bases.entry(stream.clone()).or_insert_with(|| {
            self.base_streams.push(stream.to_string());
            self.base_versions.push(expected.0);
            self.base_streams.len() as i32
        });
        self.check_commands.push(command);
        self.check_streams.push(base);
        self.check_writes.push(writes);
    }
}

/// The metadata of one event; the refused lines of a window stand on its last.
fn metadata(append: &Append, is_last: bool) -> String {
    match &append.refused {
        Some(refused) if is_last => json!({ "actor": &*append.actor, "refused": refused }).to_string(),
        _ => json!({ "actor": &*append.actor }).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buy(stream: &str, expected: i64) -> Append {
        let event = NewEvent {
            event_type: "AssetBought",
            schema_version: 1,
            payload: "{}".into(),
            occurred_at: DateTime::UNIX_EPOCH,
        };
        Append {
            command_id: Uuid::nil(),
            request_hash: Arc::from([0_u8; 32].as_slice()),
            correlation_id: Uuid::nil(),
            causation_position: None,
            actor: "someone".into(),
            parts: vec![Part {
                stream_id: stream.into(),
                expected: Some(Version(expected)),
                events: vec![event],
            }],
            guards: vec![Guard { stream_id: "asset-1".into(), expected: Version(3) }],
            details: None,
            refused: None,
        }
    }

    #[test]
    fn the_base_of_a_stream_is_what_the_first_command_read() {
        let columns = Columns::of(&[buy("portfolio-1", 4), buy("portfolio-1", 5), buy("portfolio-2", 0)]);
        assert_eq!(columns.base_streams, ["asset-1", "portfolio-1", "portfolio-2"]);
        assert_eq!(columns.base_versions, [3, 4, 0]);
        assert_eq!(columns.event_versions, [Some(5), Some(6), Some(1)]);
        assert_eq!(columns.check_commands, [1, 1, 2, 2, 3, 3]);
        assert_eq!(columns.check_streams, [1, 2, 1, 2, 1, 3]);
        assert_eq!(columns.check_writes, [false, true, false, true, false, true]);
    }
}
