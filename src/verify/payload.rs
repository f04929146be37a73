//! A payload as the reference reads it: JSON values by name, without the types that wrote it.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::units::Units;

/// Why the reference cannot read an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// The members of a JSON object.
#[derive(Debug, Clone)]
pub(super) struct Payload(Value);

impl Payload {
    pub(super) fn parse(text: &str) -> Result<Self, Unreadable> {
        serde_json::from_str(text).map(Self).map_err(|error| Unreadable(format!("is not JSON: {error}")))
    }

    pub(super) fn text(&self, name: &str) -> Result<String, Unreadable> {
        self.optional_text(name)?.ok_or_else(|| Unreadable(format!("has no `{name}`")))
    }

    pub(super) fn optional_text(&self, name: &str) -> Result<Option<String>, Unreadable> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(Unreadable(format!("has a `{name}` that is no text: {other}"))),
        }
    }

    pub(super) fn units(&self, name: &str) -> Result<Units, Unreadable> {
        self.optional_units(name)?.ok_or_else(|| Unreadable(format!("has no `{name}`")))
    }

    pub(super) fn optional_units(&self, name: &str) -> Result<Option<Units>, Unreadable> {
        let Some(text) = self.optional_text(name)? else { return Ok(None) };
        let units = Units::parse(&text);
        units.map(Some).ok_or_else(|| Unreadable(format!("has a `{name}` that is no amount: {text:?}")))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Unreadable> {
        self.optional_flag(name)?.ok_or_else(|| Unreadable(format!("has no `{name}`")))
    }

    pub(super) fn optional_flag(&self, name: &str) -> Result<Option<bool>, Unreadable> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(Unreadable(format!("has a `{name}` that is no yes or no: {other}"))),
        }
    }

    pub(super) fn instant(&self, name: &str) -> Result<DateTime<Utc>, Unreadable> {
        let text = self.text(name)?;
        let instant = DateTime::parse_from_rfc3339(&text).map(|instant| instant.to_utc());
        instant.map_err(|_| Unreadable(format!("has a `{name}` that is no instant: {text:?}")))
    }

    pub(super) fn optional_instant(&self, name: &str) -> Result<Option<DateTime<Utc>>, Unreadable> {
        if self.optional_text(name)?.is_none() { Ok(None) } else { self.instant(name).map(Some) }
    }

    pub(super) fn whole(&self, name: &str) -> Result<i64, Unreadable> {
        self.optional_whole(name)?.ok_or_else(|| Unreadable(format!("has no `{name}`")))
    }

    pub(super) fn optional_whole(&self, name: &str) -> Result<Option<i64>, Unreadable> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let no_number = || Unreadable(format!("has a `{name}` that is no whole number: {value}"));
                value.as_i64().map(Some).ok_or_else(no_number)
            }
        }
    }

    /// A list of texts; an absent one is empty.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Unreadable> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(value) => serde_json::from_value(value.clone())
                .map_err(|_| Unreadable(format!("has a `{name}` that is no list of texts: {value}"))),
        }
    }

    pub(super) fn object(&self, name: &str) -> Option<Self> {
        self.0.get(name).filter(|value| value.is_object()).cloned().map(Self)
    }

    pub(super) fn list(&self, name: &str) -> Result<Vec<Self>, Unreadable> {
        let list = self.0.get(name).and_then(Value::as_array);
        let list = list.ok_or_else(|| Unreadable(format!("has no list `{name}`")))?;
        Ok(list.iter().cloned().map(Self).collect())
    }
}
