//! Calendar days: which day "today" is in a zone, and which days are accepted.

use chrono::{DateTime, FixedOffset, NaiveDate, TimeDelta, Utc};
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

/// How far an instant may lie ahead of our clock: clocks differ, but not by more.
pub const CLOCK_SKEW_MAX: TimeDelta = TimeDelta::minutes(5);

/// Whether a fact may bear this day: from 1900 to `today`.
///
/// # Errors
/// A text for the client.
pub fn check_day(day: NaiveDate, today: NaiveDate) -> Result<(), &'static str> {
    match day {
        _ if day < FIRST_DAY => Err("is before 1900-01-01"),
        _ if day > today => Err("is in the future"),
        _ => Ok(()),
    }
}

/// Whether a fact may bear this instant: from 1900 to five minutes after `now`.
///
/// # Errors
/// A text for the client.
pub fn check_instant(at: DateTime<Utc>, now: DateTime<Utc>) -> Result<(), &'static str> {
    match at {
        _ if at.date_naive() < FIRST_DAY => Err("is before 1900-01-01"),
        _ if at > now + CLOCK_SKEW_MAX => Err("is more than 5 minutes ahead"),
        _ => Ok(()),
    }
}

/// The calendar day where it is latest on earth (UTC+14): no exchange is further.
pub fn latest_day(now: DateTime<Utc>) -> NaiveDate {
    const HOURS: i32 = 14;
    match FixedOffset::east_opt(HOURS * 3_600) {
        Some(offset) => now.with_timezone(&offset).date_naive(),
        None => now.date_naive(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn today_depends_on_the_zone() {
        let now = instant("2024-03-01T02:00:00Z");
        assert_eq!(today(now, Tz::UTC), day("2024-03-01"));
        assert_eq!(today(now, Tz::America__New_York), day("2024-02-29"));
        assert_eq!(latest_day(instant("2024-03-01T10:00:00Z")), day("2024-03-02"));
        assert_eq!(latest_day(instant("2024-03-01T09:59:59Z")), day("2024-03-01"));
    }

    #[test]
    fn days_and_instants_out_of_range_are_named() {
        assert_eq!(check_day(day("1899-12-31"), day("2024-01-01")), Err("is before 1900-01-01"));
        assert_eq!(check_day(day("2024-01-02"), day("2024-01-01")), Err("is in the future"));
        assert_eq!(check_day(day("1900-01-01"), day("2024-01-01")), Ok(()));
        let now = instant("2024-01-01T00:00:00Z");
        assert_eq!(check_instant(instant("2024-01-01T00:05:00Z"), now), Ok(()));
        assert!(check_instant(instant("2024-01-01T00:05:01Z"), now).is_err());
        assert!(check_instant(instant("1899-12-31T23:59:59Z"), now).is_err());
    }
}
