//! An event with everything that is known about it, in one line of JSON: for programs of ours and for people.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Envelope;
use super::cloud_event::in_one_line;

/// An envelope and its payload, to be written as JSON.
#[derive(Debug, Serialize)]
pub struct EnvelopeLine<'a> {
    epoch: i32,
    position: i64,
    event_id: String,
    stream_id: &'a str,
    version: i64,
    shard: i16,
    r#type: &'a str,
    schema_version: i16,
    occurred_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
    correlation_id: Uuid,
    causation_position: Option<i64>,
    request_hash: String,
    metadata: Box<RawValue>,
    data: Box<RawValue>,
}

impl<'a> From<&'a Envelope> for EnvelopeLine<'a> {
    fn from(event: &'a Envelope) -> Self {
        Self {
            epoch: event.epoch.0,
            position: event.position.0,
            event_id: event.event_id.to_string(),
            stream_id: event.stream_id.as_str(),
            version: event.version.0,
            shard: event.shard.0,
            r#type: &event.event_type,
            schema_version: event.schema_version,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            correlation_id: event.correlation_id,
            causation_position: event.causation_position.map(|position| position.0),
            request_hash: event.request_hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            metadata: in_one_line(&event.metadata),
            data: in_one_line(&event.payload),
        }
    }
}

impl EnvelopeLine<'_> {
    /// One line of JSON, without a line feed.
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and times are always JSON")
    }
}
