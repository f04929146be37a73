//! Events that cannot be applied: their stream is parked, the others go on.
//!
//! The rows of a parked stream stand before its bad event; later events of the stream are skipped by reference, and reads
//! of it say so. An event that only a newer program understands parks nothing: it halts the projection.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::projection::Fact;
use super::{Error, column};
use crate::domain::ids::{Position, Shard, StreamId};
use crate::events::{Envelope, EventId};

/// Why a fact cannot be applied. The state is as if it had not been there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Poison(pub String);

/// A stream whose event could not be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parked {
    stream_id: StreamId,
    shard: Shard,
    position: Position,
    event_id: EventId,
    reason: String,
    recorded_at: DateTime<Utc>,
}

/// The parked streams of the shards that are ours, and those that the next flush adds.
#[derive(Debug, Default)]
pub(super) struct Parking {
    /// By stream, the first event whose effect is missing.
    known: BTreeMap<Shard, BTreeMap<StreamId, Position>>,
    added: Vec<Parked>,
}

impl Parking {
    pub(super) fn insert(&mut self, streams: Vec<(StreamId, Position)>) {
        for (stream, position) in streams {
            self.known.entry(stream.shard()).or_default().insert(stream, position);
        }
    }

    pub(super) fn remove(&mut self, shards: &[Shard]) {
        for shard in shards {
            self.known.remove(shard);
        }
        self.added.retain(|parked| !shards.contains(&parked.shard));
    }

    /// Whether the event is to be skipped: its stream was parked at it or before it.
    pub(super) fn is_parked(&self, event: &Envelope) -> bool {
        let parked_at = self.known.get(&event.shard).and_then(|streams| streams.get(&event.stream_id));
        parked_at.is_some_and(|parked_at| *parked_at <= event.position)
    }

    pub(super) fn park(&mut self, event: &Envelope, reason: String) {
        let stream = &event.stream_id;
        tracing::error!(
            %stream, position = %event.position, event_id = %event.event_id, reason,
            "event cannot be applied: its stream is parked"
        );
        self.known.entry(event.shard).or_default().insert(stream.clone(), event.position);
        self.added.push(Parked {
            stream_id: stream.clone(),
            shard: event.shard,
            position: event.position,
            event_id: event.event_id,
            reason,
            recorded_at: event.recorded_at,
        });
    }

    /// How many streams of ours are parked.
    pub(super) fn len(&self) -> usize {
        self.known.values().map(BTreeMap::len).sum()
    }

    /// The facts among the events: what is parked is left out, what cannot be read is parked.
    pub(super) fn admit(
        &mut self,
        read_model: &'static str,
        events: Vec<Arc<Envelope>>,
    ) -> Result<Vec<Fact>, Error> {
        let mut facts = Vec::with_capacity(events.len());
        for envelope in events {
            if self.is_parked(&envelope) {
                continue;
            }
            match envelope.event() {
                Ok(event) => facts.push(Fact { envelope, event }),
                Err(source) if source.needs_newer_program() => {
                    let Envelope { position, event_id, schema_version, .. } = *envelope;
                    let event_type = Arc::clone(&envelope.event_type);
                    return Err(Error::NewerProgram {
                        read_model,
                        position,
                        event_id,
                        event_type,
                        schema_version,
                        source,
                    });
                }
                Err(malformed) => self.park(&envelope, malformed.to_string()),
            }
        }
        Ok(facts)
    }

    /// Forgets which streams were added, once they are stored.
    pub(super) fn written(&mut self) {
        self.added.clear();
    }
}

/// The parked streams of these shards.
pub(super) async fn load(
    conn: &mut PgConnection,
    shards: &[Shard],
) -> Result<Vec<(StreamId, Position)>, sqlx::Error> {
    let shards = column(shards, |shard| shard.0);
    let rows = sqlx::query_file!("projections/list_parked_streams.sql", &shards).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| (StreamId::from(row.stream_id.as_str()), Position(row.position))).collect())
}

/// Stores the streams of these shards that were parked since the last flush.
pub(super) async fn write(
    conn: &mut PgConnection,
    parking: &Parking,
    of: impl Fn(Shard) -> bool,
) -> Result<(), sqlx::Error> {
    let added: Vec<&Parked> = parking.added.iter().filter(|parked| of(parked.shard)).collect();
    if added.is_empty() {
        return Ok(());
    }
    sqlx::query_file!(
        "projections/park_streams.sql",
        &column(&added, |parked| parked.stream_id.to_string()),
        &column(&added, |parked| parked.shard.0),
        &column(&added, |parked| parked.position.0),
        &column(&added, |parked| parked.event_id.to_string()),
        &column(&added, |parked| parked.reason.clone()),
        &column(&added, |parked| parked.recorded_at),
    )
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::ids::{Epoch, Version};

    fn event(stream: &str, position: i64, event_type: &str, payload: &str) -> Arc<Envelope> {
        let stream_id = StreamId::from(stream);
        Arc::new(Envelope {
            epoch: Epoch(1),
            position: Position(position),
            event_id: EventId { command_id: Uuid::from_u128(position as u128), ordinal: 0 },
            shard: stream_id.shard(),
            stream_id,
            version: Version(1),
            request_hash: Arc::from([0_u8; 32].as_slice()),
            event_type: event_type.into(),
            schema_version: 1,
            correlation_id: Uuid::nil(),
            causation_position: None,
            occurred_at: DateTime::UNIX_EPOCH,
            recorded_at: DateTime::UNIX_EPOCH,
            payload: payload.into(),
            metadata: "{}".into(),
        })
    }

    const RENAMED: &str = r#"{"name": "Growth"}"#;

    #[test]
    fn a_malformed_event_parks_its_stream_and_no_other() {
        let mut parking = Parking::default();
        let before = event("portfolio-a", 1, "AccountingChanged", RENAMED);
        let facts = parking
            .admit(
                "holdings",
                vec![
                    event("portfolio-a", 1, "AccountingChanged", RENAMED),
                    event("portfolio-a", 2, "AccountingChanged", "{\"name\": 5}"),
                    event("portfolio-a", 3, "AccountingChanged", RENAMED),
                    event("portfolio-b", 4, "AccountingChanged", RENAMED),
                ],
            )
            .unwrap();
        let positions: Vec<i64> = facts.iter().map(|fact| fact.envelope.position.0).collect();
        assert_eq!(positions, [1, 4]);
        assert_eq!(parking.len(), 1);
        assert!(!parking.is_parked(&before), "what came before is applied");
        assert_eq!(parking.added[0].position, Position(2));
    }

    #[test]
    fn an_event_of_a_newer_program_halts() {
        let mut parking = Parking::default();
        let halt = parking.admit("holdings", vec![event("portfolio-a", 1, "AssetTokenised", "{}")]);
        assert!(matches!(halt, Err(Error::NewerProgram { position: Position(1), .. })));
        assert_eq!(parking.len(), 0);
    }

    #[test]
    fn parked_streams_leave_with_their_shard() {
        let mut parking = Parking::default();
        let bad = event("portfolio-a", 1, "AccountingChanged", "{");
        let shard = bad.shard;
        parking.admit("holdings", vec![bad]).unwrap();
        parking.remove(&[shard]);
        assert_eq!((parking.len(), parking.added.len()), (0, 0));
    }
}
