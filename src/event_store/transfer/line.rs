//! The lines of the file.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::events::Envelope;

/// What the file says of itself.
pub(super) const FORMAT: &str = "portfolio-insight-log";
/// The version of the format that this program writes, and the only one there is.
pub(super) const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<'a> {
    Header(Header),
    #[serde(borrow)]
    Event(Event<'a>),
    Person(Person),
    Footer(Footer),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub format: String,
    pub version: u32,
    /// The last position.
    pub head: i64,
    pub epochs: Vec<Epoch>,
    /// Whether names and e-mails of investors follow the events.
    pub personal_data: bool,
}

/// A history of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Epoch {
    pub epoch: i32,
    pub first_position: i64,
    pub started_at: DateTime<Utc>,
    pub reason: String,
}

/// A row of the log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Event<'a> {
    pub position: i64,
    pub command_id: Uuid,
    pub ordinal: i32,
    #[serde(borrow)]
    pub stream_id: Cow<'a, str>,
    pub version: i64,
    pub shard: i16,
    #[serde(borrow)]
    pub r#type: Cow<'a, str>,
    pub schema_version: i16,
    /// In hexadecimal digits.
    #[serde(borrow)]
    pub request_hash: Cow<'a, str>,
    pub correlation_id: Uuid,
    pub causation_position: Option<i64>,
    pub occurred_at: DateTime<Utc>,
    pub recorded_at: DateTime<Utc>,
    #[serde(borrow)]
    pub payload: Cow<'a, str>,
    #[serde(borrow)]
    pub metadata: Cow<'a, str>,
}

/// What is known of an investor as a person.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Person {
    pub investor_id: Uuid,
    pub name: String,
    pub email: String,
    pub created_at: DateTime<Utc>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Footer {
    pub events: i64,
    pub persons: i64,
    /// Of every byte before this line, in hexadecimal digits.
    pub sha256: String,
}

impl Line<'_> {
    /// The line with its line feed.
    pub(super) fn text(&self) -> String {
        let mut text = serde_json::to_string(self).expect("strings, numbers and times are always JSON");
        text.push('\n');
        text
    }
}

impl<'a> From<&'a Envelope> for Event<'a> {
    fn from(event: &'a Envelope) -> Self {
        Self {
            position: event.position.0,
            command_id: event.event_id.command_id,
            ordinal: event.event_id.ordinal,
            stream_id: Cow::Borrowed(event.stream_id.as_str()),
            version: event.version.0,
            shard: event.shard.0,
            r#type: Cow::Borrowed(&event.event_type),
            schema_version: event.schema_version,
            request_hash: Cow::Owned(hexadecimal(&event.request_hash)),
            correlation_id: event.correlation_id,
            causation_position: event.causation_position.map(|position| position.0),
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            payload: Cow::Borrowed(&event.payload),
            metadata: Cow::Borrowed(&event.metadata),
        }
    }
}

/// Two digits a byte.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
