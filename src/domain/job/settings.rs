//! A job's settings as somebody writes them, with what is left out filled in, and what they must fulfil.

use super::calendar::Calendar;
use super::event::{JobKind, JobSettings, Overlap, Schedule};
use crate::domain::currency::Symbol;
use crate::domain::fields::Fields;
use crate::domain::price;

/// Characters of a job's name.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest time limit: a week.
pub const TIME_LIMIT_SECONDS_MAX: u32 = 7 * 86_400;
/// Most attempts at one run.
pub const ATTEMPTS_MAX: u32 = 20;
/// Longest first pause before a retry: a day.
pub const RETRY_PAUSE_SECONDS_MAX: u32 = 86_400;
/// Most symbols of a job.
pub const SYMBOLS_MAX: usize = 1_000;

const TIME_LIMIT_SECONDS: u32 = 3_600;
const ATTEMPTS: u32 = 3;
const RETRY_PAUSE_SECONDS: u32 = 60;
/// A word in the place of a job's name that means something else in an address.
const RESERVED: &str = "failed";

/// Settings as they are wished; what is left out has a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsWish {
    /// What it does.
    pub kind: JobKind,
    /// When it is due.
    pub schedule: ScheduleWish,
    /// Nine tenths of the time limit if not told.
    pub soft_limit_seconds: Option<u32>,
    /// An hour if not told.
    pub time_limit_seconds: Option<u32>,
    /// Three if not told.
    pub attempts_max: Option<u32>,
    /// A minute if not told.
    pub retry_pause_seconds: Option<u32>,
    /// Skip if not told.
    pub overlap: Option<Overlap>,
    /// All that somebody holds if none are told.
    pub symbols: Vec<String>,
    /// That of each asset if not told.
    pub source: Option<String>,
}

/// Either a crontab, in UTC if no zone is told, or an interval.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScheduleWish {
    /// Minute, hour, day of month, month, day of week.
    pub crontab: Option<String>,
    /// IANA time zone of the crontab.
    pub time_zone: Option<String>,
    /// Seconds.
    pub interval_seconds: Option<u32>,
}

impl SettingsWish {
    /// The settings; whether they can be is judged by [`check`].
    pub fn settle(self, fields: &mut Fields) -> Option<JobSettings> {
        let time_limit_seconds = self.time_limit_seconds.unwrap_or(TIME_LIMIT_SECONDS);
        let nine_tenths = time_limit_seconds - time_limit_seconds / 10;
        Some(JobSettings {
            kind: self.kind,
            schedule: self.schedule.settle(fields)?,
            soft_limit_seconds: self.soft_limit_seconds.unwrap_or(nine_tenths),
            time_limit_seconds,
            attempts_max: self.attempts_max.unwrap_or(ATTEMPTS),
            retry_pause_seconds: self.retry_pause_seconds.unwrap_or(RETRY_PAUSE_SECONDS),
            overlap: self.overlap.unwrap_or_default(),
            symbols: self.symbols,
            source: self.source,
        })
    }
}

impl ScheduleWish {
    fn settle(self, fields: &mut Fields) -> Option<Schedule> {
        match (self.crontab, self.interval_seconds) {
            (Some(expression), None) => {
                let time_zone = self.time_zone.unwrap_or_else(|| "UTC".to_owned());
                // One spelling of one schedule: spaces are no difference.
                let expression = expression.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
                Some(Schedule::Crontab { expression, time_zone })
            }
            (None, Some(seconds)) if self.time_zone.is_none() => Some(Schedule::Interval { seconds }),
            (None, Some(_)) => {
                fields.refuse("schedule.time_zone", "does not apply to an interval: seconds are seconds");
                None
            }
            (None, None) => {
                fields.refuse("schedule", "must have crontab or interval_seconds");
                None
            }
            (Some(_), Some(_)) => {
                fields.refuse("schedule", "must have either crontab or interval_seconds, not both");
                None
            }
        }
    }
}

/// Notes what is wrong with a job's name. It stands in addresses, beside ids and a reserved word.
pub fn check_name(name: &str, fields: &mut Fields) {
    let is_inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let is_first = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_shaped = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.as_bytes().first().is_some_and(is_first)
        && name.bytes().all(is_inside);
    let reason = "must be 1 to 64 small letters, digits or any of . _ -, and begin with a letter or digit";
    fields.require(is_shaped, "name", reason);
    fields.require(uuid::Uuid::parse_str(name).is_err(), "name", "must not look like an id");
    fields.require(name != RESERVED, "name", "is a word with a meaning of its own");
}

/// Notes what is wrong with settings.
pub fn check(settings: &JobSettings, fields: &mut Fields) {
    Calendar::read(&settings.schedule, fields);
    let mut between = |field: &str, value: u32, min: u32, max: u32| {
        if !(min..=max).contains(&value) {
            fields.refuse(field, format!("must be {min} to {max}"));
        }
    };
    between("time_limit_seconds", settings.time_limit_seconds, 1, TIME_LIMIT_SECONDS_MAX);
    between("soft_limit_seconds", settings.soft_limit_seconds, 1, TIME_LIMIT_SECONDS_MAX);
    between("attempts_max", settings.attempts_max, 1, ATTEMPTS_MAX);
    between("retry_pause_seconds", settings.retry_pause_seconds, 1, RETRY_PAUSE_SECONDS_MAX);
    let is_before = settings.soft_limit_seconds <= settings.time_limit_seconds;
    fields.require(is_before, "soft_limit_seconds", "must not be more than time_limit_seconds");

    let fetches = matches!(settings.kind, JobKind::FetchQuotes | JobKind::FetchHistory | JobKind::FetchRates);
    let only_fetches = "is only for the kinds that fetch";
    fields.require(fetches || settings.symbols.is_empty(), "symbols", only_fetches);
    fields.require(fetches || settings.source.is_none(), "source", only_fetches);
    if let Some(source) = &settings.source {
        fields.take("source", price::check_source(source));
    }
    if settings.symbols.len() > SYMBOLS_MAX {
        fields.refuse("symbols", format!("must have at most {SYMBOLS_MAX} entries"));
    }
    for (i, symbol) in settings.symbols.iter().enumerate().take(SYMBOLS_MAX) {
        let field = format!("symbols[{i}]");
        fields.take(&field, symbol.parse::<Symbol>());
        fields.require(!settings.symbols[..i].contains(symbol), &field, "is in the list twice");
    }
}
