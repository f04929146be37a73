//! An event as a record and back: CloudEvents 1.0, binary mode.
//!
//! The value is the payload, byte for byte as it stands in the log; everything else that is known about the event is in
//! headers, so that a reader gets the same envelope from Kafka as from the store. Times have microseconds, as the log has.
//!
//! | header | envelope |
//! | --- | --- |
//! | `ce_id`, `ce_source`, `ce_type`, `ce_subject`, `ce_time` | event id, this program, type, stream, when it happened |
//! | `ce_epoch`, `ce_position`, `ce_previous` | the link in the chain of its shard; `previous` is `position/event_id` |
//! | `ce_version`, `ce_schemaversion` | of the stream, of the payload |
//! | `ce_recordedtime`, `ce_correlationid`, `ce_causationposition` | as named |
//! | `ce_requesthash`, `ce_metadata` | hexadecimal, JSON |

use std::collections::HashMap;
use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use rdkafka::Message;
use rdkafka::message::{Header, Headers, OwnedHeaders};

use crate::domain::ids::{Epoch, Position, Shard, StreamId, Version};
use crate::events::{Envelope, EventId, SOURCE};

/// The event before another one in its shard.
pub type Previous = Option<(Position, EventId)>;

/// An event and its link in the chain, as read from a partition.
#[derive(Debug, Clone)]
pub struct Record {
    /// The event.
    pub event: Arc<Envelope>,
    /// The event before it in its shard.
    pub previous: Previous,
    /// Where it stood.
    pub offset: i64,
}

/// Why a record is not an event of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A header that must be there is not.
    #[error("has no header {0}")]
    Missing(&'static str),
    /// A header that makes no sense.
    #[error("header {header} is {value:?}")]
    Header {
        /// Its name.
        header: &'static str,
        /// What it says.
        value: String,
    },
    /// No payload, or one that is not text.
    #[error("has no payload, or one that is not UTF-8")]
    Payload,
}

/// The headers of an event.
pub(super) fn encode(event: &Envelope, previous: Previous) -> OwnedHeaders {
    let previous = previous.map(|(position, event_id)| format!("{position}/{event_id}"));
    let always = [
        ("ce_specversion", "1.0"),
        ("content-type", "application/json"),
        ("ce_source", SOURCE),
        ("ce_id", &event.event_id.to_string()),
        ("ce_type", &event.event_type),
        ("ce_subject", event.stream_id.as_str()),
        ("ce_time", &time(event.occurred_at)),
        ("ce_epoch", &event.epoch.to_string()),
        ("ce_position", &event.position.to_string()),
        ("ce_version", &event.version.to_string()),
        ("ce_schemaversion", &event.schema_version.to_string()),
        ("ce_recordedtime", &time(event.recorded_at)),
        ("ce_correlationid", &event.correlation_id.to_string()),
        ("ce_requesthash", &hexadecimal(&event.request_hash)),
        ("ce_metadata", &event.metadata),
    ];
    let causation = event.causation_position.map(|position| position.to_string());
    let sometimes = [("ce_previous", previous.as_deref()), ("ce_causationposition", causation.as_deref())];
    let present = sometimes.into_iter().filter_map(|(key, value)| value.map(|value| (key, value)));

    let headers = OwnedHeaders::new_with_capacity(always.len() + sometimes.len());
    always
        .into_iter()
        .chain(present)
        .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// Reads a record back.
///
/// # Errors
/// [`Malformed`]: somebody else wrote it.
pub(super) fn decode(shard: Shard, message: &impl Message) -> Result<Record, Malformed> {
    let headers = Found::of(message);
    let payload = message.payload_view::<str>().and_then(Result::ok).ok_or(Malformed::Payload)?;
    let event = Envelope {
        epoch: Epoch(headers.parse("ce_epoch")?),
        position: Position(headers.parse("ce_position")?),
        event_id: headers.parse("ce_id")?,
        stream_id: StreamId::from(headers.text("ce_subject")?),
        version: Version(headers.parse("ce_version")?),
        request_hash: headers.with("ce_requesthash", bytes)?.into(),
        event_type: headers.text("ce_type")?.into(),
        schema_version: headers.parse("ce_schemaversion")?,
        shard,
        correlation_id: headers.parse("ce_correlationid")?,
        causation_position: headers.optional("ce_causationposition", |text| text.parse().ok())?.map(Position),
        occurred_at: headers.parse::<DateTime<Utc>>("ce_time")?,
        recorded_at: headers.parse::<DateTime<Utc>>("ce_recordedtime")?,
        payload: payload.into(),
        metadata: headers.text("ce_metadata")?.into(),
    };
    let previous = headers.optional("ce_previous", previous)?;
    Ok(Record { event: Arc::new(event), previous, offset: message.offset() })
}

fn previous(text: &str) -> Option<(Position, EventId)> {
    let (position, event_id) = text.split_once('/')?;
    Some((Position(position.parse().ok()?), event_id.parse().ok()?))
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    text
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The headers of a record, by name.
struct Found<'a>(HashMap<&'a str, &'a str>);

impl<'a> Found<'a> {
    fn of(message: &'a impl Message) -> Self {
        let headers = message.headers().map(|headers| headers.iter());
        let texts = headers.into_iter().flatten().filter_map(|header| {
            let value = header.value.and_then(|value| std::str::from_utf8(value).ok())?;
            Some((header.key, value))
        });
        Self(texts.collect())
    }

    fn text(&self, header: &'static str) -> Result<&'a str, Malformed> {
        self.0.get(header).copied().ok_or(Malformed::Missing(header))
    }

    fn with<T>(&self, header: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<T, Malformed> {
        self.optional(header, read)?.ok_or(Malformed::Missing(header))
    }

    fn parse<T: FromStr>(&self, header: &'static str) -> Result<T, Malformed> {
        self.with(header, |text| text.parse().ok())
    }

    fn optional<T>(
        &self,
        header: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Malformed> {
        let Some(text) = self.0.get(header) else { return Ok(None) };
        match read(text) {
            Some(value) => Ok(Some(value)),
            None => Err(Malformed::Header { header, value: (*text).to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;
    use uuid::Uuid;

    use super::*;

    fn event() -> Envelope {
        let at = |micros| DateTime::from_timestamp_micros(micros).unwrap();
        Envelope {
            epoch: Epoch(3),
            position: Position(4_711),
            event_id: EventId { command_id: Uuid::from_u128(99), ordinal: 2 },
            stream_id: StreamId::from("price-0192f0c1-2345-7abc-8def-001122334455"),
            version: Version(17),
            request_hash: (0..32).map(|i| i * 7).collect::<Vec<u8>>().into(),
            event_type: "PricesObserved".into(),
            schema_version: 1,
            shard: Shard(32),
            correlation_id: Uuid::from_u128(5),
            causation_position: Some(Position(4_000)),
            occurred_at: at(1_700_000_000_123_456),
            recorded_at: at(1_700_000_001_000_001),
            payload: "{\"price\": \"1.50\",  \"spaces\":  \"kept\"}".into(),
            metadata: "{\"actor\":\"grün\"}".into(),
        }
    }

    fn message(event: &Envelope, headers: OwnedHeaders) -> OwnedMessage {
        let payload = Some(event.payload.as_bytes().to_vec());
        OwnedMessage::new(payload, None, "t".to_owned(), Timestamp::NotAvailable, 0, 12, Some(headers))
    }

    #[test]
    fn an_event_survives_the_journey_whole() {
        let previous = Some((Position(4_700), EventId { command_id: Uuid::from_u128(98), ordinal: 0 }));
        let first = Envelope { causation_position: None, ..event() };
        for (event, previous) in [(event(), previous), (first, None)] {
            let record = decode(Shard(32), &message(&event, encode(&event, previous))).unwrap();
            assert_eq!(*record.event, event);
            assert_eq!(record.previous, previous);
            assert_eq!(record.offset, 12);
        }
    }

    #[test]
    fn a_header_that_is_missing_or_nonsense_is_named() {
        let nothing = message(&event(), OwnedHeaders::new());
        assert_eq!(decode(Shard(32), &nothing).unwrap_err(), Malformed::Missing("ce_epoch"));
        let nonsense = encode(&event(), None).insert(Header { key: "ce_previous", value: Some("7") });
        let error = decode(Shard(32), &message(&event(), nonsense)).unwrap_err();
        assert_eq!(error, Malformed::Header { header: "ce_previous", value: "7".into() });
    }

    #[test]
    fn the_headers_are_a_cloud_event() {
        let headers = encode(&event(), None);
        let of = |key: &str| {
            let header = headers.iter().find(|header| header.key == key).unwrap();
            String::from_utf8(header.value.unwrap().to_vec()).unwrap()
        };
        assert_eq!(of("ce_specversion"), "1.0");
        assert_eq!(of("ce_id"), "00000000-0000-0000-0000-000000000063.2");
        assert_eq!(of("ce_time"), "2023-11-14T22:13:20.123456Z");
        assert_eq!(of("content-type"), "application/json");
    }
}
