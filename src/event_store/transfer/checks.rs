//! The promises of the log, held against a file line by line. Pure. Memory grows with the number of streams.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::line::{self, Event, FORMAT, Header, VERSION};
use crate::domain::ids::StreamId;
use crate::events;

/// What must be known of the lines before to judge the next one.
#[derive(Debug, Default)]
pub(super) struct Checks {
    position: i64,
    recorded_at: Option<DateTime<Utc>>,
    versions: HashMap<Box<str>, i64>,
    command: Option<(Uuid, i32, Box<str>)>,
}

/// What is wrong with the header.
pub(super) fn header(header: &Header) -> Result<(), String> {
    if header.format != FORMAT {
        return Err(format!("is a file of {:?} and no export of a log", header.format));
    }
    if header.version != VERSION {
        return Err(format!("has version {} of the format, this program reads {VERSION}", header.version));
    }
    let first = header.epochs.first().map(|first| first.first_position);
    let grows = |pair: &[line::Epoch]| {
        pair[0].epoch < pair[1].epoch && pair[0].first_position < pair[1].first_position
    };
    if first != Some(1) || !header.epochs.windows(2).all(grows) {
        return Err("has epochs that do not follow each other from position 1 on".to_owned());
    }
    if header.epochs.last().is_some_and(|last| last.first_position > header.head.max(1).saturating_add(1)) {
        return Err("has an epoch that begins beyond the end of its log".to_owned());
    }
    Ok(())
}

impl Checks {
    /// The last position.
    pub(super) fn position(&self) -> i64 {
        self.position
    }

    /// Judges the next event.
    pub(super) fn take(&mut self, event: &Event<'_>) -> Result<(), String> {
        let Event { position, version, ordinal, shard, .. } = *event;
        if position != self.position + 1 {
            return Err(format!("position {position} follows position {}", self.position));
        }
        self.position = position;
        if self.recorded_at.is_some_and(|before| event.recorded_at < before) {
            return Err(format!("position {position} was recorded before the one before it"));
        }
        self.recorded_at = Some(event.recorded_at);
        if event.causation_position.is_some_and(|cause| !(1..position).contains(&cause)) {
            return Err(format!("position {position} was caused by what does not stand before it"));
        }
        let stream = &*event.stream_id;
        if StreamId::from(stream).shard().0 != shard {
            return Err(format!("stream {stream} does not live in shard {shard}"));
        }
        self.version(stream, version)?;
        self.command(event, ordinal)?;
        known(event)
    }

    fn version(&mut self, stream: &str, version: i64) -> Result<(), String> {
        let before = match self.versions.get_mut(stream) {
            Some(before) => before,
            None => self.versions.entry(stream.into()).or_default(),
        };
        if version != *before + 1 {
            return Err(format!("version {version} of {stream} follows version {before}"));
        }
        *before = version;
        Ok(())
    }

    /// A command's events stand side by side, numbered from 0, of one request.
    fn command(&mut self, event: &Event<'_>, ordinal: i32) -> Result<(), String> {
        let id = event.command_id;
        let expected = match &self.command {
            Some((command_id, before, hash)) if *command_id == id => {
                if **hash != *event.request_hash {
                    return Err(format!("event {id}.{ordinal} is of another request than the one before it"));
                }
                before + 1
            }
            _ => 0,
        };
        if ordinal != expected {
            return Err(format!("event {id}.{ordinal} stands where {id}.{expected} should"));
        }
        let is_hash = event.request_hash.len() == 64 && event.request_hash.bytes().all(is_digit);
        if !is_hash {
            return Err(format!("event {id}.{ordinal} has a request hash that is none"));
        }
        self.command = Some((id, ordinal, event.request_hash.as_ref().into()));
        Ok(())
    }
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// A program that does not know what it stores would halt over it.
fn known(event: &Event<'_>) -> Result<(), String> {
    let found = events::Event::KINDS.iter().find(|kind| *kind.event_type == *event.r#type);
    let (position, name) = (event.position, &event.r#type);
    match found {
        Some(kind) if (1..=kind.schema_version).contains(&event.schema_version) => Ok(()),
        Some(kind) => Err(format!(
            "position {position} is {name} of schema version {}, this program knows up to {}: it needs a newer program",
            event.schema_version, kind.schema_version
        )),
        None => Err(format!(
            "position {position} is {name}, which this program does not know: it needs a newer one"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn event(position: i64, stream: &'static str, version: i64) -> Event<'static> {
        Event {
            position,
            command_id: Uuid::from_u128(position as u128),
            ordinal: 0,
            stream_id: Cow::Borrowed(stream),
            version,
            shard: StreamId::from(stream).shard().0,
            r#type: Cow::Borrowed("CashDeposited"),
            schema_version: 1,
            request_hash: Cow::Owned("0".repeat(64)),
            correlation_id: Uuid::nil(),
            causation_position: None,
            occurred_at: DateTime::UNIX_EPOCH,
            recorded_at: DateTime::UNIX_EPOCH,
            payload: Cow::Borrowed("{}"),
            metadata: Cow::Borrowed("{}"),
        }
    }

    /// Takes a good event, then another one.
    fn second(second: Event<'_>) -> Result<(), String> {
        let mut checks = Checks::default();
        checks.take(&event(1, "portfolio-a", 1)).unwrap();
        checks.take(&second)
    }

    #[test]
    fn what_follows_is_taken() {
        second(event(2, "portfolio-a", 2)).unwrap();
        second(event(2, "portfolio-b", 1)).unwrap();
        let of_the_same = Event { command_id: Uuid::from_u128(1), ordinal: 1, ..event(2, "portfolio-b", 1) };
        second(of_the_same).unwrap();
        second(Event { causation_position: Some(1), ..event(2, "portfolio-b", 1) }).unwrap();
    }

    #[test]
    fn every_broken_promise_is_named() {
        let good = || event(2, "portfolio-a", 2);
        for (bad, said) in [
            (event(3, "portfolio-a", 2), "position 3 follows"),
            (event(1, "portfolio-a", 2), "position 1 follows"),
            (event(2, "portfolio-a", 3), "version 3 of portfolio-a follows version 1"),
            (event(2, "portfolio-b", 2), "version 2 of portfolio-b follows version 0"),
            (Event { shard: 40, ..good() }, "does not live in shard 40"),
            (Event { ordinal: 1, ..good() }, "stands where"),
            (Event { command_id: Uuid::from_u128(1), ordinal: 2, ..good() }, "stands where"),
            (Event { request_hash: Cow::Borrowed("xyz"), ..good() }, "hash"),
            (Event { causation_position: Some(2), ..good() }, "was caused by"),
            (
                Event { recorded_at: DateTime::from_timestamp(-1, 0).unwrap(), ..good() },
                "was recorded before",
            ),
            (Event { r#type: Cow::Borrowed("AssetTokenised"), ..good() }, "needs a newer one"),
            (Event { schema_version: 9, ..good() }, "needs a newer program"),
        ] {
            let refused = second(bad).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
