//! Prices that wait for a word, as events tell them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::payload::{Payload, Unreadable};
use super::units::Units;
use crate::events::Envelope;

/// A price that a source told and that was too far from the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Whose.
    pub source: String,
    /// The instant, of a tick.
    pub at: Option<DateTime<Utc>>,
    /// The day, of a close.
    pub day: Option<String>,
    /// In quote units.
    pub price: Units,
    /// If told.
    pub volume: Option<Units>,
    /// What it is far from.
    pub last_price: Units,
    /// Why it is held.
    pub reason: String,
    /// When the log took it.
    pub held_at: DateTime<Utc>,
    /// `waiting`, `accepted` or `dismissed`.
    pub state: &'static str,
    /// Of the stream's last event.
    pub position: i64,
}

impl Held {
    /// Takes in the next event of the stream of one of an asset's held prices.
    ///
    /// # Errors
    /// [`Unreadable`]: it cannot be what the log holds at this place.
    pub(super) fn take(
        all: &mut BTreeMap<String, Self>,
        id: &str,
        event: &Envelope,
        payload: &Payload,
    ) -> Result<(), Unreadable> {
        let state = match &*event.event_type {
            "PriceHeld" => {
                let held = Self {
                    source: payload.text("source")?,
                    at: payload.optional_instant("at")?,
                    day: payload.optional_text("day")?,
                    price: payload.units("price")?,
                    volume: payload.optional_units("volume")?,
                    last_price: payload.units("last_price")?,
                    reason: payload.text("reason")?,
                    held_at: event.recorded_at,
                    state: "waiting",
                    position: event.position.0,
                };
                return match all.insert(id.to_owned(), held) {
                    None => Ok(()),
                    Some(_) => Err(Unreadable("holds a price again".to_owned())),
                };
            }
            "HeldPriceAccepted" => "accepted",
            "HeldPriceDismissed" => "dismissed",
            other => return Err(Unreadable(format!("{other} does not belong into {}", event.stream_id))),
        };
        let held = all.get_mut(id).filter(|held| held.state == "waiting");
        let held = held.ok_or_else(|| Unreadable("settles a price that does not wait".to_owned()))?;
        held.state = state;
        held.position = event.position.0;
        Ok(())
    }
}
