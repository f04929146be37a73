//! Events for the tests of this module.

use chrono::DateTime;
use uuid::Uuid;

use crate::domain::ids::{Epoch, Position, Shard, StreamId, Version};
use crate::events::{Envelope, EventId};

/// The event called `name`.
pub(super) fn id(name: i64) -> EventId {
    EventId { command_id: Uuid::from_u128(name as u128), ordinal: 0 }
}

/// The event at a position, which is also its name.
pub(super) fn event(shard: i16, position: i64) -> Envelope {
    let at = DateTime::from_timestamp(1_700_000_000 + position, 0).unwrap();
    Envelope {
        epoch: Epoch(1),
        position: Position(position),
        event_id: id(position),
        stream_id: StreamId::from(format!("shard-{shard}").as_str()),
        version: Version(position),
        request_hash: [7u8; 32].to_vec().into(),
        event_type: "CashDeposited".into(),
        schema_version: 1,
        shard: Shard(shard),
        correlation_id: Uuid::from_u128(1),
        causation_position: None,
        occurred_at: at,
        recorded_at: at,
        payload: "{}".into(),
        metadata: "{}".into(),
    }
}
