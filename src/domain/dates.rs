//! Calendar days: which day "today" is in a zone, and which days are accepted.

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

/// The first day that a fact may bear.
pub const FIRST_DAY: NaiveDate = match NaiveDate::from_ymd_opt(1900, 1, 1) {
    Some(day) => day,
    None => panic!("1900-01-01 is a day"),
};

/// Reads an IANA zone.
///
/// # Errors
/// A text for the client when there is no such zone.
pub fn zone(name: &str) -> Result<Tz, &'static str> {
    name.parse().map_err(|_| "is not an IANA time zone such as \"Europe/Berlin\"")
}

/// The calendar day in `zone` at `now`.
pub fn today(now: DateTime<Utc>, zone: Tz) -> NaiveDate {
    now.with_timezone(&zone).date_naive()
}
