//! A place in the log that can be recognised again: position alone is not enough after a restore.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::{Error, read};
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
    if place.position.0 == 0 {
        return Ok(PlaceCheck::Same);
    }
    let found = read::find(pool, place.position).await?;
    Ok(compare(place, found.as_ref()))
}

pub(super) fn compare(place: &Place, found: Option<&Envelope>) -> PlaceCheck {
    let position = place.position;
    let Some(found) = found else {
        return PlaceCheck::Fork {
            reason: format!("position {position} was seen before and is not there now"),
        };
    };
    let same_event = Some(found.event_id) == place.event_id;
    let same_time = place.recorded_at.is_none_or(|at| at == found.recorded_at);
    if same_event && same_time {
        return PlaceCheck::Same;
    }
    let expected = place.event_id.map_or_else(|| "no event".to_owned(), |id| id.to_string());
    PlaceCheck::Fork {
        reason: format!("position {position} was event {expected} and is event {} now", found.event_id),
    }
}
