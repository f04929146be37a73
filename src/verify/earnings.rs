//! Earnings of a share as events tell them: of each quarter the last report.

use chrono::{DateTime, Utc};

use super::payload::{Payload, Unreadable};
use super::units::Units;
use crate::events::Envelope;

/// What was reported last of a quarter.
#[derive(Debug, Clone)]
pub struct Earnings {
    /// Of one share; a loss is negative.
    pub earnings_per_share: Units,
    /// If told.
    pub estimate: Option<Units>,
    /// If told.
    pub revenue: Option<Units>,
    /// Of all three.
    pub currency: String,
    /// If told.
    pub reported_on: Option<String>,
    /// When the log took the report.
    pub recorded_at: DateTime<Utc>,
    /// Of the report.
    pub position: i64,
}

impl Earnings {
    pub(super) fn reported(event: &Envelope, payload: &Payload) -> Result<Self, Unreadable> {
        Ok(Self {
            earnings_per_share: payload.units("earnings_per_share")?,
            estimate: payload.optional_units("estimate")?,
            revenue: payload.optional_units("revenue")?,
            currency: payload.text("currency")?,
            reported_on: payload.optional_text("reported_on")?,
            recorded_at: event.recorded_at,
            position: event.position.0,
        })
    }
}

/// `YYYY-Qn`, as it stands in the payload.
pub(super) fn quarter(payload: &Payload) -> Result<String, Unreadable> {
    let quarter = payload.text("quarter")?;
    let is_quarter = quarter.len() == 7
        && quarter.bytes().enumerate().all(|(place, byte)| match place {
            4 => byte == b'-',
            5 => byte == b'Q',
            6 => (b'1'..=b'4').contains(&byte),
            _ => byte.is_ascii_digit(),
        });
    if is_quarter { Ok(quarter) } else { Err(Unreadable(format!("names the quarter {quarter:?}"))) }
}
