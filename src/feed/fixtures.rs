//! Events for the tests of this module.

use std::sync::Arc;

use chrono::DateTime;
use uuid::Uuid;

use crate::domain::ids::{Epoch, Position, Shard, StreamId, Version};
use crate::events::{Envelope, EventId};

/// The event called `name`.
pub(super) fn id(name: u128) -> EventId {
    EventId { command_id: Uuid::from_u128(name), ordinal: 0 }
}

/// An event of shard 0.
pub(super) fn event(epoch: i32, position: i64, name: u128) -> Arc<Envelope> {
    event_in(0, epoch, position, name)
}

/// An event of a shard.
pub(super) fn event_in(shard: i16, epoch: i32, position: i64, name: u128) -> Arc<Envelope> {
    let at = DateTime::from_timestamp(1_700_000_000 + position, 0).unwrap();
    Arc::new(Envelope {
        epoch: Epoch(epoch),
        position: Position(position),
        event_id: id(name),
        stream_id: StreamId::from(format!("shard-{shard}").as_str()),
        version: Version(position),
        request_hash: Arc::from([7u8; 32]),
        event_type: "CashDeposited".into(),
        schema_version: 1,
        shard: Shard(shard),
        correlation_id: Uuid::from_u128(name),
        causation_position: None,
        occurred_at: at,
        recorded_at: at,
        payload: "{}".into(),
        metadata: "{\"actor\":\"test\"}".into(),
    })
}
