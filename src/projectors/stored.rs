//! Values of the domain as columns hold them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::Poison;
use crate::events::Envelope;

/// The name of a unit variant: the same in a column as in JSON.
pub(super) fn name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        other => unreachable!("unit variants are strings in JSON, not {other:?}"),
    }
}

/// The value that a projector stored by its name.
pub(super) fn parse<T: DeserializeOwned>(name: &str) -> Result<T, sqlx::Error> {
    let value = serde_json::from_value(serde_json::Value::String(name.to_owned()));
    value.map_err(|error| sqlx::Error::Decode(error.into()))
}

/// The value that a projector stored as text.
pub(super) fn from_text<T>(text: &str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|reason| sqlx::Error::Decode(format!("{text:?} {reason}").into()))
}

/// The id in a stream's name.
pub(super) fn stream_id(envelope: &Envelope) -> Result<Uuid, Poison> {
    let (_, rest) = envelope.stream_id.kind_and_rest();
    Uuid::parse_str(rest).map_err(|_| Poison(format!("stream {} has no id in its name", envelope.stream_id)))
}
