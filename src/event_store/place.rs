//! A place in the log that can be recognised again: position alone is not enough after a restore.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use super::Error;
use crate::domain::ids::{Epoch, Position};
use crate::events::{Envelope, EventId};

/// Where a reader or writer stands, with what tells its history from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The history.
    pub epoch: Epoch,
    /// The last event seen; 0 before the first.
    pub position: Position,
    /// Its id; none at position 0.
    pub event_id: Option<EventId>,
    /// When the log took it; none at position 0.
    pub recorded_at: Option<DateTime<Utc>>,
}

impl Place {
    /// Before the first event of an epoch.
    pub fn origin(epoch: Epoch) -> Self {
        Self { epoch, position: Position(0), event_id: None, recorded_at: None }
    }
}

impl From<&Envelope> for Place {
    fn from(event: &Envelope) -> Self {
        Self {
            epoch: event.epoch,
            position: event.position,
            event_id: Some(event.event_id),
            recorded_at: Some(event.recorded_at),
        }
    }
}

/// Whether the store still has, at a place, what was seen there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceCheck {
    /// It has.
    Same,
    /// Something else stands there, or nothing: the log is another history.
    Fork {
        /// What was expected and what was found.
        reason: String,
    },
}

/// Compares a place with the store: at start, at every reconnect, at every repair.
///
/// # Errors
/// [`Error::Database`].
pub async fn check_place(pool: &PgPool, place: &Place) -> Result<PlaceCheck, Error> {
    let forks = check_places(pool, std::slice::from_ref(place)).await?;
    Ok(forks.into_iter().next().map_or(PlaceCheck::Same, |(_, reason)| PlaceCheck::Fork { reason }))
}

/// Compares several places in one statement. Returns those that the store does not have, each with what stands there now.
///
/// # Errors
/// [`Error::Database`].
pub async fn check_places(
    executor: impl PgExecutor<'_>,
    places: &[Place],
) -> Result<Vec<(Place, String)>, Error> {
    const SQL: &str =
        "select position, command_id, ordinal, recorded_at from events where position = any($1)";
    let asked: Vec<i64> = places.iter().map(|place| place.position.0).filter(|asked| *asked > 0).collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(i64, Uuid, i32, DateTime<Utc>)> =
        sqlx::query_as(SQL).bind(asked).fetch_all(executor).await?;
    let found = |(position, command_id, ordinal, recorded_at)| {
        (Position(position), (EventId { command_id, ordinal }, recorded_at))
    };
    let found: HashMap<_, _> = rows.into_iter().map(found).collect();
    let forks = places.iter().filter(|place| place.position > Position(0)).filter_map(|place| {
        let reason = difference(place, found.get(&place.position).copied())?;
        Some((place.clone(), reason))
    });
    Ok(forks.collect())
}

/// The newest place of the log; none while it is empty.
///
/// # Errors
/// [`Error::Database`].
pub async fn head_place(executor: impl PgExecutor<'_>) -> Result<Option<Place>, Error> {
    const SQL: &str = "select position, command_id, ordinal, recorded_at, \
        (select max(epoch) from log_epochs where first_position <= position) \
        from events order by position desc limit 1";
    let row: Option<(i64, Uuid, i32, DateTime<Utc>, i32)> =
        sqlx::query_as(SQL).fetch_optional(executor).await?;
    Ok(row.map(|(position, command_id, ordinal, recorded_at, epoch)| Place {
        epoch: Epoch(epoch),
        position: Position(position),
        event_id: Some(EventId { command_id, ordinal }),
        recorded_at: Some(recorded_at),
    }))
}

/// What differs; none if what was found is what was seen.
fn difference(place: &Place, found: Option<(EventId, DateTime<Utc>)>) -> Option<String> {
    let position = place.position;
    let expected = place.event_id.map_or_else(|| "no event".to_owned(), |id| id.to_string());
    let Some((event_id, recorded_at)) = found else {
        return Some(format!("position {position} was event {expected} and is not there now"));
    };
    if Some(event_id) != place.event_id {
        return Some(format!("position {position} was event {expected} and is event {event_id} now"));
    }
    // A command that is sent again to a restored log has the same id.
    let seen_at = place.recorded_at.filter(|seen_at| *seen_at != recorded_at)?;
    Some(format!(
        "event {expected} at position {position} was recorded at {seen_at} and is recorded at {recorded_at} now"
    ))
}
