//! When a job is due: from times on the wall to instants, daylight saving included.
//!
//! | job | the hour that is skipped in spring | the hour that is doubled in autumn |
//! | --- | --- | --- |
//! | at fixed hours (`30 2 * * *`, `0 */6 * * *`) | its times in that hour become one run, the moment the clock has moved | its times run once, the first time round |
//! | in every hour (`*/5 * * * *`, `15 * * * *`) | goes on in real time: those times do not come | goes on in real time: those times come twice |
//! | interval | seconds are seconds | seconds are seconds |
//!
//! "At fixed hours" is every crontab whose hour field leaves an hour out. A day that a zone skipped as a whole (Apia had no
//! 30 December 2011) is a skipped hour of 24. So a job of once a day has one run for each day of the calendar, whatever the
//! clocks do: `due_of` maps each time on the wall to one instant, and never turns their order around.

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, SubsecRound, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use super::crontab::Crontab;
use super::event::Schedule;
use crate::domain::dates;
use crate::domain::fields::Fields;

/// Missed due times that are counted; of more it is only known that they are so many at least.
pub const MISSED_MAX: u32 = 1_000;
/// Longest interval in seconds: a leap year.
pub const INTERVAL_SECONDS_MAX: u32 = 366 * 86_400;
/// Changes of a zone's offset that a search looks beyond: more than a crontab can take to come.
const CHANGES_MAX: usize = 400;
/// No two changes of a zone's offset that undo each other are closer.
const STEP: TimeDelta = TimeDelta::days(1);

/// A schedule that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calendar {
    /// Times on the wall, in a zone.
    Crontab(Crontab, Tz),
    /// Multiples of so many seconds since 1970.
    Interval(u32),
}

/// A due time that is to be caught up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The latest one.
    pub due_at: DateTime<Utc>,
    /// Due times before it that were not taken; at most [`MISSED_MAX`].
    pub missed: u32,
}

/// The first due time after an instant; none for a schedule that no job can have.
pub fn first_due_after(schedule: &Schedule, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    Calendar::read(schedule, &mut Fields::new())?.first_due_after(after)
}

/// The latest due time after `after` that has come at `now`, and how many before it were missed.
pub fn latest_due(schedule: &Schedule, after: DateTime<Utc>, now: DateTime<Utc>) -> Option<Due> {
    Calendar::read(schedule, &mut Fields::new())?.latest_due(after, now)
}

impl Calendar {
    /// Reads a schedule; what is wrong with it is noted.
    pub fn read(schedule: &Schedule, fields: &mut Fields) -> Option<Self> {
        match schedule {
            Schedule::Crontab { expression, time_zone } => {
                let crontab = fields.take("schedule.crontab", expression.parse());
                let zone = fields.take("schedule.time_zone", dates::zone(time_zone));
                Some(Self::Crontab(crontab?, zone?))
            }
            Schedule::Interval { seconds } => {
                let is_possible = (1..=INTERVAL_SECONDS_MAX).contains(seconds);
                if !is_possible {
                    let reason = format!("must be 1 to {INTERVAL_SECONDS_MAX}");
                    fields.refuse("schedule.interval_seconds", reason);
                }
                is_possible.then_some(Self::Interval(*seconds))
            }
        }
    }

    /// The first due time after an instant.
    pub fn first_due_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Interval(seconds) => {
                let seconds = i64::from(*seconds);
                DateTime::from_timestamp((after.timestamp().div_euclid(seconds) + 1).checked_mul(seconds)?, 0)
            }
            Self::Crontab(crontab, zone) if crontab.is_every_hour() => in_real_time(crontab, *zone, after),
            Self::Crontab(crontab, zone) => at_fixed_hours(crontab, *zone, after),
        }
    }

    /// The latest due time after `after` that has come at `now`, and how many before it were missed.
    ///
    /// Cheap for any gap: whether something is due between two instants takes one look, so the latest is found by halving.
    pub fn latest_due(&self, after: DateTime<Utc>, now: DateTime<Utc>) -> Option<Due> {
        let comes_after = |instant| self.first_due_after(instant).is_some_and(|due| due <= now);
        if !comes_after(after) {
            return None;
        }
        let mut back = TimeDelta::minutes(1);
        let mut none_after = now;
        let mut some_after = loop {
            let instant = now.checked_sub_signed(back).map_or(after, |instant| instant.max(after));
            if comes_after(instant) {
                break instant;
            }
            none_after = instant;
            back = back.checked_mul(2)?;
        };
        while none_after - some_after > TimeDelta::seconds(1) {
            let middle = some_after + (none_after - some_after) / 2;
            if comes_after(middle) {
                some_after = middle;
            } else {
                none_after = middle;
            }
        }
        let due_at = self.first_due_after(some_after)?;
        Some(Due { due_at, missed: self.count(after, due_at) })
    }

    /// Due times between two instants, as far as they are counted.
    fn count(&self, after: DateTime<Utc>, before: DateTime<Utc>) -> u32 {
        let mut missed = 0;
        let mut instant = after;
        while missed < MISSED_MAX
            && let Some(due) = self.first_due_after(instant).filter(|due| *due < before)
        {
            missed += 1;
            instant = due;
        }
        missed
    }
}

/// For crontabs that leave hours out: each time on the wall is one instant.
fn at_fixed_hours(crontab: &Crontab, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    // No time up to what the wall shows is due later than now, so the search begins there. In the second pass of a doubled
    // hour it finds the times of the first pass again, which are over.
    let mut wall = wall_at(zone, after.trunc_subsecs(0))?;
    loop {
        let time = crontab.next_from(wall)?;
        let due = due_of(zone, time)?;
        if due > after {
            return Some(due);
        }
        wall = time.checked_add_signed(TimeDelta::minutes(1))?;
    }
}

/// For crontabs of every hour: an instant is due when the wall shows a time that matches.
fn in_real_time(crontab: &Crontab, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let mut from = after.trunc_subsecs(0).checked_add_signed(TimeDelta::seconds(1))?;
    for _ in 0..CHANGES_MAX {
        let offset = offset_at(zone, from);
        let time = crontab.next_from(from.naive_utc().checked_add_signed(offset)?)?;
        let due = time.checked_sub_signed(offset)?.and_utc();
        match next_change(zone, from, due) {
            None => return Some(due),
            // Another offset before it comes: look again from there.
            Some(change) => from = change,
        }
    }
    None
}

/// The one instant of a time on the wall: the first of two, or the end of the gap it fell into.
fn due_of(zone: Tz, time: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&time) {
        LocalResult::Single(instant) => Some(instant.to_utc()),
        LocalResult::Ambiguous(one, other) => Some(one.min(other).to_utc()),
        LocalResult::None => {
            // Offsets are less than a day, and so is what a zone skips but for one day as a whole.
            let mut from = time.and_utc().checked_sub_signed(TimeDelta::days(3))?;
            let until = time.and_utc().checked_add_signed(TimeDelta::days(3))?;
            loop {
                from = next_change(zone, from, until)?;
                if wall_at(zone, from)? > time {
                    return Some(from);
                }
            }
        }
    }
}

fn wall_at(zone: Tz, instant: DateTime<Utc>) -> Option<NaiveDateTime> {
    instant.naive_utc().checked_add_signed(offset_at(zone, instant))
}

fn offset_at(zone: Tz, instant: DateTime<Utc>) -> TimeDelta {
    TimeDelta::seconds(zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc().into())
}

/// The first instant after `from`, up to `until`, at which the zone has another offset than a second before.
fn next_change(zone: Tz, from: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let offset = offset_at(zone, from);
    let mut same = from;
    let mut other = loop {
        if same >= until {
            return None;
        }
        let next = same.checked_add_signed(STEP)?.min(until);
        if offset_at(zone, next) != offset {
            break next;
        }
        same = next;
    };
    while other - same > TimeDelta::seconds(1) {
        let middle = (same + (other - same) / 2).trunc_subsecs(0);
        if middle <= same {
            break;
        }
        if offset_at(zone, middle) == offset {
            same = middle;
        } else {
            other = middle;
        }
    }
    Some(other)
}
