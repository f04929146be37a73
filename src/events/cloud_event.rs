//! An event as other systems get it: CloudEvents 1.0, structured mode, in one line of JSON.
//!
//! Attributes have the names of the headers on Kafka (there with `ce_` before them). What counts events is a string, since
//! a whole number of CloudEvents has 32 bits.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Envelope, Metadata};

/// Where events come from, as their attribute `source` says.
pub const SOURCE: &str = "/portfolio-insight/log";

/// The attributes of an event and its payload, to be written as JSON.
#[derive(Debug, Serialize)]
pub struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: &'static str,
    r#type: &'a str,
    subject: &'a str,
    time: DateTime<Utc>,
    datacontenttype: &'static str,
    epoch: i32,
    position: String,
    version: String,
    schemaversion: i16,
    recordedtime: DateTime<Utc>,
    correlationid: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    causationposition: Option<String>,
    actor: String,
    data: Box<RawValue>,
}

impl<'a> From<&'a Envelope> for CloudEvent<'a> {
    fn from(event: &'a Envelope) -> Self {
        let metadata: Metadata = serde_json::from_str(&event.metadata).unwrap_or_default();
        Self {
            specversion: "1.0",
            id: event.event_id.to_string(),
            source: SOURCE,
            r#type: &event.event_type,
            subject: event.stream_id.as_str(),
            time: event.occurred_at,
            datacontenttype: "application/json",
            epoch: event.epoch.0,
            position: event.position.to_string(),
            version: event.version.to_string(),
            schemaversion: event.schema_version,
            recordedtime: event.recorded_at,
            correlationid: event.correlation_id,
            causationposition: event.causation_position.map(|position| position.to_string()),
            actor: metadata.actor,
            data: in_one_line(&event.payload),
        }
    }
}

impl CloudEvent<'_> {
    /// One line of JSON, without a line feed.
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and times are always JSON")
    }
}

/// Stored JSON as part of a line. Line feeds stand between its tokens only: within a string they are escaped.
pub(super) fn in_one_line(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.replace(['\n', '\r'], " ")).expect("the columns take nothing but JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{Epoch, Position, StreamId, Version};
    use crate::events::EventId;

    #[test]
    fn an_event_is_one_line_with_the_payload_as_it_was_written() {
        let stream_id = StreamId::from("portfolio-1");
        let event = Envelope {
            epoch: Epoch(2),
            position: Position(9_000_000_000),
            event_id: EventId { command_id: Uuid::from_u128(7), ordinal: 1 },
            shard: stream_id.shard(),
            stream_id,
            version: Version(3),
            request_hash: [0_u8; 32].as_slice().into(),
            event_type: "CashDeposited".into(),
            schema_version: 1,
            correlation_id: Uuid::nil(),
            causation_position: None,
            occurred_at: DateTime::UNIX_EPOCH,
            recorded_at: DateTime::UNIX_EPOCH,
            payload: "{\"b\":1.50,\n\"a\":\"x\\ny\"}".into(),
            metadata: r#"{"actor":"local"}"#.into(),
        };
        assert_eq!(
            CloudEvent::from(&event).line(),
            r#"{"specversion":"1.0","id":"00000000-0000-0000-0000-000000000007.1","source":"/portfolio-insight/log","type":"CashDeposited","subject":"portfolio-1","time":"1970-01-01T00:00:00Z","datacontenttype":"application/json","epoch":2,"position":"9000000000","version":"3","schemaversion":1,"recordedtime":"1970-01-01T00:00:00Z","correlationid":"00000000-0000-0000-0000-000000000000","actor":"local","data":{"b":1.50, "a":"x\ny"}}"#
        );
    }
}
