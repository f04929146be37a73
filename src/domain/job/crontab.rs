//! The five fields of crontab(5), matched against times on a clock on the wall.
//!
//! Nothing here knows of zones: what a time on the wall means as an instant is decided in [`super::calendar`]. It is our own
//! reader because a crontab that is nonsense must be told field by field, and because every crate that reads crontabs brings
//! an opinion about daylight saving of its own.
//!
//! Day of month and day of week are joined as crontab(5) has it: when both are restricted, either suffices; a field that begins
//! with `*` is not restricted.

use std::str::FromStr;

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

/// Characters of a crontab.
pub const CRONTAB_CHARS_MAX: usize = 200;
/// How many years a crontab may take to come. The 29th of February of one leap year may be eight years from the next one,
/// and forty when the day of the week must fit as well (`0 0 29 2 */3`).
const YEARS_MAX: i32 = 48;

/// Which times on the wall match: a bit for each minute, hour, day, month and day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crontab {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Either of day and day of the week suffices.
    either_day: bool,
}

/// A field: what it is called, and what its numbers are.
struct Numbers {
    name: &'static str,
    min: u32,
    max: u32,
    /// Names that stand for `first_named`, `first_named` + 1, ….
    words: &'static [&'static str],
    first_named: u32,
}

const FIELDS: [Numbers; 5] = [
    Numbers { name: "minute", min: 0, max: 59, words: &[], first_named: 0 },
    Numbers { name: "hour", min: 0, max: 23, words: &[], first_named: 0 },
    Numbers { name: "day of month", min: 1, max: 31, words: &[], first_named: 0 },
    Numbers {
        name: "month",
        min: 1,
        max: 12,
        words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
        first_named: 1,
    },
    // 7 is Sunday as well.
    Numbers {
        name: "day of week",
        min: 0,
        max: 7,
        words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
        first_named: 0,
    },
];

impl FromStr for Crontab {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.chars().count() > CRONTAB_CHARS_MAX {
            return Err(format!("is longer than {CRONTAB_CHARS_MAX} characters"));
        }
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err("must have five fields: minute, hour, day of month, month, day of week".to_owned());
        };
        let [minutes, hours, days, months, weekdays] = &FIELDS;
        let crontab = Self {
            minutes: minutes.read(minute)?,
            hours: hours.read(hour)?,
            days: days.read(day)?,
            months: months.read(month)?,
            weekdays: fold_sunday(weekdays.read(weekday)?),
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        // Any day will do to ask whether there is one: the calendar repeats after 400 years, leap days sooner.
        let start = NaiveDate::from_ymd_opt(2000, 1, 1).map(|day| day.and_time(NaiveTime::MIN));
        match start.and_then(|start| crontab.next_from(start)) {
            Some(_) => Ok(crontab),
            None => Err("never comes: no such month has such a day".to_owned()),
        }
    }
}

impl Crontab {
    /// The first matching time at or after `from`.
    pub fn next_from(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let whole = from.with_second(0)?.with_nanosecond(0)?;
        let from =
            if whole < from { whole.checked_add_signed(chrono::TimeDelta::minutes(1))? } else { whole };
        if self.matches_day(from.date())
            && let Some(time) = self.time_from(from.hour(), from.minute())
        {
            return Some(from.date().and_time(time));
        }
        let day = self.day_after(from.date())?;
        Some(day.and_time(self.time_from(0, 0)?))
    }

    /// Whether it matches in every hour of a day.
    pub fn is_every_hour(&self) -> bool {
        self.hours.count_ones() == 24
    }

    fn time_from(&self, hour: u32, minute: u32) -> Option<NaiveTime> {
        if has(self.hours, hour)
            && let Some(minute) = at_or_after(self.minutes, minute)
        {
            return NaiveTime::from_hms_opt(hour, minute, 0);
        }
        let hour = at_or_after(self.hours, hour + 1)?;
        NaiveTime::from_hms_opt(hour, at_or_after(self.minutes, 0)?, 0)
    }

    fn day_after(&self, day: NaiveDate) -> Option<NaiveDate> {
        let mut next = day.succ_opt()?;
        let last = day.year().checked_add(YEARS_MAX)?;
        while next.year() <= last {
            if !has(self.months, next.month()) {
                let (year, month) =
                    if next.month() == 12 { (next.year() + 1, 1) } else { (next.year(), next.month() + 1) };
                next = NaiveDate::from_ymd_opt(year, month, 1)?;
            } else if self.matches_day(next) {
                return Some(next);
            } else {
                next = next.checked_add_days(Days::new(1))?;
            }
        }
        None
    }

    fn matches_day(&self, day: NaiveDate) -> bool {
        let of_month = has(self.days, day.day());
        let of_week = has(self.weekdays, day.weekday().num_days_from_sunday());
        has(self.months, day.month())
            && if self.either_day { of_month || of_week } else { of_month && of_week }
    }
}

impl Numbers {
    /// A list of numbers, ranges and steps, as bits.
    fn read(&self, text: &str) -> Result<u64, String> {
        let mut bits = 0;
        for part in text.split(',') {
            bits |= self.read_part(part).ok_or_else(|| {
                format!(
                    "has a {} \"{text}\" that is not made of *, {} to {}, ranges and steps",
                    self.name, self.min, self.max
                )
            })?;
        }
        Ok(bits)
    }

    fn read_part(&self, part: &str) -> Option<u64> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step).filter(|step| (1..=self.max).contains(step))?)),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.min, self.max),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            // `5/10` is 5, 15, 25, …, as common implementations have it.
            None if step.is_some() => (self.value(range)?, self.max),
            None => (self.value(range)?, self.value(range)?),
        };
        if first > last {
            return None;
        }
        let step = step.unwrap_or(1) as usize;
        Some((first..=last).step_by(step).fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named =
            self.words.iter().zip(self.first_named..).find(|(word, _)| word.eq_ignore_ascii_case(text));
        named.map(|(_, value)| value).or_else(|| number(text)).filter(|v| (self.min..=self.max).contains(v))
    }
}

/// Digits only: no sign, at most four of them.
fn number(text: &str) -> Option<u32> {
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

fn fold_sunday(weekdays: u64) -> u64 {
    (weekdays | weekdays >> 7) & 0x7f
}

fn has(bits: u64, value: u32) -> bool {
    value < u64::BITS && bits >> value & 1 == 1
}

/// The least value in the set that is `value` or more.
fn at_or_after(bits: u64, value: u32) -> Option<u32> {
    let rest = bits.checked_shr(value)?;
    (rest != 0).then(|| value + rest.trailing_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap()
    }

    #[test]
    fn the_next_time_is_the_first_that_matches() {
        for (crontab, from, next) in [
            ("* * * * *", "2026-03-01 10:20:00", "2026-03-01 10:20:00"),
            ("* * * * *", "2026-03-01 10:20:01", "2026-03-01 10:21:00"),
            ("30 6 * * *", "2026-03-01 06:31:00", "2026-03-02 06:30:00"),
            ("*/20 9-17 * * mon-fri", "2026-03-06 17:41:00", "2026-03-09 09:00:00"),
            ("0 0 1 jan,JUL *", "2026-01-01 00:00:01", "2026-07-01 00:00:00"),
            ("0 0 29 2 *", "2097-01-01 00:00:00", "2104-02-29 00:00:00"),
            ("59 23 31 12 *", "2026-12-31 23:59:01", "2027-12-31 23:59:00"),
            // Sunday is 0 and 7.
            ("0 0 * * 7", "2026-03-02 00:00:00", "2026-03-08 00:00:00"),
            ("0 0 * * 5-7", "2026-03-07 00:01:00", "2026-03-08 00:00:00"),
            // Both days restricted: either suffices.
            ("0 0 13 * fri", "2026-03-01 00:00:00", "2026-03-06 00:00:00"),
            ("0 0 13 * fri", "2026-04-12 00:00:00", "2026-04-13 00:00:00"),
            // A day of the month that begins with a star is no restriction, but must still match.
            ("0 0 */2 * 1", "2026-03-01 00:01:00", "2026-03-09 00:00:00"),
            ("7/20 * * * *", "2026-03-01 10:28:00", "2026-03-01 10:47:00"),
            ("0 0 31 2 mon", "2026-03-01 00:00:00", "2027-02-01 00:00:00"),
        ] {
            let read: Crontab = crontab.parse().unwrap();
            assert_eq!(read.next_from(time(from)), Some(time(next)), "{crontab} from {from}");
        }
    }

    #[test]
    fn nonsense_is_told_by_its_field() {
        for (crontab, word) in [
            ("", "five fields"),
            ("* * * *", "five fields"),
            ("* * * * * *", "five fields"),
            ("@daily", "five fields"),
            ("60 * * * *", "minute"),
            ("-1 * * * *", "minute"),
            ("+1 * * * *", "minute"),
            (", * * * *", "minute"),
            ("1,,2 * * * *", "minute"),
            ("*/0 * * * *", "minute"),
            ("*/60 * * * *", "minute"),
            ("5-1 * * * *", "minute"),
            ("1-2-3 * * * *", "minute"),
            ("1/2/3 * * * *", "minute"),
            ("** * * * *", "minute"),
            ("* 24 * * *", "hour"),
            ("* 99999999999999999999 * * *", "hour"),
            ("* * 0 * *", "day of month"),
            ("* * 32 * *", "day of month"),
            ("* * L * *", "day of month"),
            ("* * * 13 *", "month"),
            ("* * * mon *", "month"),
            ("* * * * 8", "day of week"),
            ("* * * * jan", "day of week"),
            ("* * * * ü", "day of week"),
            ("0 0 31 2 *", "never comes"),
            ("0 0 30 feb *", "never comes"),
            ("0 0 31 4,6,9,11 *", "never comes"),
        ] {
            let refused = crontab.parse::<Crontab>().unwrap_err();
            assert!(refused.contains(word), "{crontab}: {refused}");
        }
        assert!(format!("{}* * * * *", " ".repeat(200)).parse::<Crontab>().is_err());
    }
}
