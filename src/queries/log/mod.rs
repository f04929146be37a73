//! Questions about the log itself, which it answers: what stands in a stream, where an event's shard is, and, for other
//! systems, all of it ([`feed`], [`tail`]).

pub mod feed;
pub mod tail;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Answer, AsOf, Error, Page, PageRequest};
use crate::domain::ids::{PortfolioId, Position, Shard, StreamId, Version};
use crate::event_store::read;
use crate::events::Envelope;

/// An event as the audit trail shows it: what, who, when, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Where it stands in the log.
    pub position: i64,
    /// `{command_id}.{ordinal}`.
    pub event_id: String,
    /// Its place in the stream.
    pub version: i64,
    /// The type.
    pub event_type: String,
    /// The version of the payload.
    pub schema_version: i16,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// When the log took it.
    pub recorded_at: DateTime<Utc>,
    /// Joins everything that one request caused.
    pub correlation_id: Uuid,
    /// The event that caused it, if one did.
    pub causation_position: Option<i64>,
    /// The payload's bytes as they were written: JSON.
    pub payload: String,
    /// Who, and more: JSON.
    pub metadata: String,
}

/// The audit trail of a portfolio, in the order of its versions; none if there is no such portfolio.
///
/// # Errors
/// [`Error::BadCursor`], the log.
pub async fn list_portfolio_events(
    pool: &PgPool,
    id: PortfolioId,
    page: &PageRequest,
) -> Result<Option<Answer<Page<EventRow>>>, Error> {
    list_stream_events(pool, &id.stream(), page).await
}

/// The events of a stream, in the order of its versions; none if it has none.
///
/// # Errors
/// [`Error::BadCursor`], the log.
pub async fn list_stream_events(
    pool: &PgPool,
    stream: &StreamId,
    page: &PageRequest,
) -> Result<Option<Answer<Page<EventRow>>>, Error> {
    const LIST: &str = "events";
    let after: Option<i64> = page.key(LIST)?;
    let slice = read::stream_after(pool, stream, Version(after.unwrap_or(0)), page.rows()).await?;
    if slice.events.is_empty() && after.is_none() {
        return Ok(None);
    }
    let epoch = read::epoch_at_head(pool).await?;
    let recorded_at = slice.events.last().map(|event| event.recorded_at);
    let rows = slice.events.iter().map(EventRow::from).collect();
    let data = page.page(LIST, rows, |row| row.version);
    let as_of = AsOf { epoch, position: slice.head, recorded_at, changed_at: None };
    Ok(Some(Answer { as_of, parked: false, data }))
}

/// The shards that the command of the event at this position wrote; empty when nothing stands there.
///
/// # Errors
/// The log.
pub async fn command_shards(pool: &PgPool, position: Position) -> Result<Vec<Shard>, Error> {
    let Some(event) = read::find(pool, position).await? else { return Ok(Vec::new()) };
    let command = read::command(pool, event.event_id.command_id).await?;
    let mut shards: Vec<Shard> = command.iter().map(|event| event.shard).collect();
    shards.sort_unstable();
    shards.dedup();
    Ok(shards)
}

impl From<&Envelope> for EventRow {
    fn from(event: &Envelope) -> Self {
        Self {
            position: event.position.0,
            event_id: event.event_id.to_string(),
            version: event.version.0,
            event_type: event.event_type.to_string(),
            schema_version: event.schema_version,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            correlation_id: event.correlation_id,
            causation_position: event.causation_position.map(|position| position.0),
            payload: event.payload.to_string(),
            metadata: event.metadata.to_string(),
        }
    }
}
