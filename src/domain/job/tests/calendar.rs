//! Due times through the changes of real zones, and as properties.

use chrono::{DateTime, LocalResult, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::{crontab, instant};
use crate::domain::fields::Fields;
use crate::domain::job::Schedule;
use crate::domain::job::calendar::{Calendar, Due, MISSED_MAX, first_due_after, latest_due};
use crate::domain::job::crontab::Crontab;
use crate::domain::rejection::{FieldError, Rejection};

/// Zones that change in every way there is: by an hour, by half an hour, at midnight, by a day, in Ramadan, never.
const ZONES: [Tz; 10] = [
    Tz::UTC,
    Tz::Europe__Berlin,
    Tz::America__New_York,
    Tz::Australia__Lord_Howe,
    Tz::Pacific__Apia,
    Tz::America__Sao_Paulo,
    Tz::Africa__Casablanca,
    Tz::Asia__Kathmandu,
    Tz::America__St_Johns,
    Tz::Asia__Gaza,
];

/// The due times after an instant, one after the other.
fn dues(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
    let mut at = instant(after);
    let mut dues = Vec::new();
    for _ in 0..count {
        at = first_due_after(schedule, at).unwrap();
        dues.push(at.format("%m-%d %H:%M").to_string());
    }
    dues
}

#[test]
fn a_time_in_the_skipped_hour_runs_once_right_after_it() {
    for (expression, zone, after, expected) in [
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-27T12:00:00Z",
            ["03-28 01:30", "03-29 01:00", "03-30 00:30"],
        ),
        // Three o'clock is the end of the gap itself: no time of its own, and no second run.
        (
            "0 2,3 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            ["03-29 01:00", "03-30 00:00", "03-30 01:00"],
        ),
        // Sixty times in the gap are one run.
        ("* 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", ["03-29 01:00", "03-30 00:00", "03-30 00:01"]),
        (
            "0 */2 * * *",
            "Europe/Berlin",
            "2026-03-28T22:30:00Z",
            ["03-28 23:00", "03-29 01:00", "03-29 02:00"],
        ),
        (
            "30 2 * * *",
            "America/New_York",
            "2026-03-07T12:00:00Z",
            ["03-08 07:00", "03-09 06:30", "03-10 06:30"],
        ),
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00:00Z",
            ["10-03 15:30", "10-04 15:15", "10-05 15:15"],
        ),
        // The day's first hour may be the skipped one.
        (
            "30 0 * * *",
            "America/Sao_Paulo",
            "2018-11-03T12:00:00Z",
            ["11-04 03:00", "11-05 02:30", "11-06 02:30"],
        ),
    ] {
        assert_eq!(dues(&crontab(expression, zone), after, 3), expected, "{expression} in {zone}");
    }
}

#[test]
fn a_time_in_the_doubled_hour_runs_once_the_first_time() {
    for (expression, zone, after, expected) in [
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            ["10-25 00:30", "10-26 01:30", "10-27 01:30"],
        ),
        // Asked within the second pass, the first pass is over.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-25T01:10:00Z",
            ["10-26 01:30", "10-27 01:30", "10-28 01:30"],
        ),
        (
            "*/30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            ["10-25 00:00", "10-25 00:30", "10-26 01:00"],
        ),
        (
            "0 */2 * * *",
            "Europe/Berlin",
            "2026-10-24T23:00:00Z",
            ["10-25 00:00", "10-25 03:00", "10-25 05:00"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-10-31T12:00:00Z",
            ["11-01 05:30", "11-02 06:30", "11-03 06:30"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04T00:00:00Z",
            ["04-04 14:45", "04-05 15:15", "04-06 15:15"],
        ),
    ] {
        assert_eq!(dues(&crontab(expression, zone), after, 3), expected, "{expression} in {zone}");
    }
}

#[test]
fn a_job_of_every_hour_goes_on_in_real_time() {
    for (expression, zone, after, expected) in [
        ("0 * * * *", "Europe/Berlin", "2026-03-28T23:30:00Z", ["03-29 00:00", "03-29 01:00", "03-29 02:00"]),
        ("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", ["10-25 00:00", "10-25 01:00", "10-25 02:00"]),
        (
            "*/30 0-23 * * *",
            "Europe/Berlin",
            "2026-10-25T00:10:00Z",
            ["10-25 00:30", "10-25 01:00", "10-25 01:30"],
        ),
        // Half an hour back: a quarter to two comes twice. Half an hour forth: a quarter past two does not come.
        (
            "45 * * * *",
            "Australia/Lord_Howe",
            "2026-04-04T14:00:00Z",
            ["04-04 14:45", "04-04 15:15", "04-04 16:15"],
        ),
        (
            "15 * * * *",
            "Australia/Lord_Howe",
            "2026-10-03T14:00:00Z",
            ["10-03 14:45", "10-03 16:15", "10-03 17:15"],
        ),
        ("0 * * * *", "Pacific/Apia", "2011-12-30T08:30:00Z", ["12-30 09:00", "12-30 10:00", "12-30 11:00"]),
        // Only on Sundays: the hour that comes twice belongs to one.
        (
            "0 * * * sun",
            "America/New_York",
            "2026-11-01T05:30:00Z",
            ["11-01 06:00", "11-01 07:00", "11-01 08:00"],
        ),
    ] {
        assert_eq!(dues(&crontab(expression, zone), after, 3), expected, "{expression} in {zone}");
    }
}

#[test]
fn a_day_that_a_zone_skipped_is_made_up_for_once() {
    // Apia went from 29 to 31 December 2011, when the wall said midnight.
    let nine = crontab("0 9 * * *", "Pacific/Apia");
    assert_eq!(dues(&nine, "2011-12-29T12:00:00Z", 3), ["12-29 19:00", "12-30 10:00", "12-30 19:00"]);
    let midnight = crontab("0 0 * * *", "Pacific/Apia");
    assert_eq!(dues(&midnight, "2011-12-29T00:00:00Z", 3), ["12-29 10:00", "12-30 10:00", "12-31 10:00"]);
}

#[test]
fn an_interval_counts_from_1970_whoever_asks() {
    let schedule = Schedule::Interval { seconds: 900 };
    assert_eq!(dues(&schedule, "2026-03-29T00:50:00.000001Z", 2), ["03-29 01:00", "03-29 01:15"]);
    assert_eq!(dues(&schedule, "2026-03-29T01:00:00Z", 1), ["03-29 01:15"]);
    assert_eq!(dues(&schedule, "1969-12-31T23:50:00Z", 1), ["01-01 00:00"]);
}

#[test]
fn schedules_that_no_job_can_have_are_told_by_field() {
    let refused = |schedule: Schedule| {
        let mut fields = Fields::new();
        assert_eq!(Calendar::read(&schedule, &mut fields), None);
        assert_eq!(first_due_after(&schedule, instant("2026-01-01T00:00:00Z")), None);
        let Err(Rejection::InvalidFields(errors)) = fields.finish() else {
            panic!("{schedule:?} is refused")
        };
        errors.into_iter().map(|FieldError { field, .. }| field).collect::<Vec<_>>()
    };
    assert_eq!(refused(crontab("0 0 31 2 *", "UTC")), ["schedule.crontab"]);
    assert_eq!(refused(crontab("0 0 * * *", "Europe/Atlantis")), ["schedule.time_zone"]);
    assert_eq!(refused(crontab("nonsense", "")), ["schedule.crontab", "schedule.time_zone"]);
    assert_eq!(refused(Schedule::Interval { seconds: 0 }), ["schedule.interval_seconds"]);
    assert_eq!(refused(Schedule::Interval { seconds: u32::MAX }), ["schedule.interval_seconds"]);
}

#[test]
fn what_was_missed_is_caught_up_once() {
    let daily = crontab("0 6 * * *", "Europe/Berlin");
    let (after, now) = (instant("2026-01-05T05:00:00Z"), instant("2026-01-09T12:00:00Z"));
    let due_at = instant("2026-01-09T05:00:00Z");
    assert_eq!(latest_due(&daily, after, now), Some(Due { due_at, missed: 3 }));
    assert_eq!(latest_due(&daily, due_at, now), None);
    // An hour that is not over yet is not due.
    assert_eq!(latest_due(&daily, due_at, instant("2026-01-10T04:59:59.999999Z")), None);
    let punctual = latest_due(&daily, due_at, instant("2026-01-10T05:00:00Z")).unwrap();
    assert_eq!(punctual, Due { due_at: instant("2026-01-10T05:00:00Z"), missed: 0 });
}

#[test]
fn ten_years_of_minutes_are_caught_up_without_counting_them() {
    let (after, now) = (instant("2016-05-01T00:00:00Z"), instant("2026-05-01T00:00:30Z"));
    let due_at = instant("2026-05-01T00:00:00Z");
    for (expression, missed) in [("* * * * *", MISSED_MAX), ("0 0 1 5 *", 9), ("* 2 * * *", MISSED_MAX)] {
        let due = latest_due(&crontab(expression, "UTC"), after, now).unwrap();
        assert_eq!(due.missed, missed, "{expression}");
    }
    assert_eq!(latest_due(&crontab("* * * * *", "UTC"), after, now).unwrap().due_at, due_at);
    let second = latest_due(&Schedule::Interval { seconds: 1 }, after, now);
    assert_eq!(second, Some(Due { due_at: now, missed: MISSED_MAX }));
}

#[test]
fn instants_at_the_edges_of_time_are_no_trouble() {
    for after in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
        for schedule in [
            crontab("30 2 * * *", "Europe/Berlin"),
            crontab("* * * * *", "Europe/Berlin"),
            Schedule::Interval { seconds: 7 },
        ] {
            assert!(first_due_after(&schedule, after).is_none_or(|due| due > after));
            assert!(
                latest_due(&schedule, after, DateTime::<Utc>::MAX_UTC).is_none_or(|due| due.due_at > after)
            );
        }
    }
}

fn zones() -> impl Strategy<Value = Tz> {
    proptest::sample::select(&ZONES[..])
}

fn instants() -> impl Strategy<Value = DateTime<Utc>> {
    // 1975 to 2035, to the microsecond.
    (157_766_400_i64..2_051_222_400, 0_u32..1_000_000)
        .prop_map(|(seconds, micros)| DateTime::from_timestamp(seconds, micros * 1_000).unwrap())
}

/// Instants about a change of the zone's offset, where there is one within a year.
fn changes() -> impl Strategy<Value = (Tz, DateTime<Utc>)> {
    (zones(), instants(), -200_i64..200).prop_map(|(zone, from, minutes)| {
        let offset =
            |hours: i64| zone.offset_from_utc_datetime(&(from + TimeDelta::hours(hours)).naive_utc());
        let change = (0..365 * 24).find(|hours| offset(*hours) != offset(hours + 1)).unwrap_or(0);
        (zone, from + TimeDelta::hours(change) + TimeDelta::minutes(minutes))
    })
}

fn expressions() -> impl Strategy<Value = String> {
    let minute =
        prop_oneof![Just("*".to_owned()), Just("*/7".to_owned()), (0..60).prop_map(|m: i32| m.to_string())];
    let hour = prop_oneof![
        Just("*".to_owned()),
        Just("*/2".to_owned()),
        Just("0-3".to_owned()),
        (0..5).prop_map(|h: i32| h.to_string())
    ];
    let day = prop_oneof![Just("* * *"), Just("*/2 * *"), Just("* * sun"), Just("1-20 * mon")];
    (minute, hour, day).prop_map(|(minute, hour, day)| format!("{minute} {hour} {day}"))
}

/// The definition, minute by minute: the wall reaches a time, or jumps over it, for the first time; or, for crontabs of every
/// hour, shows it.
fn by_the_minute(
    crontab: &Crontab,
    zone: Tz,
    after: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let is_match = |time| crontab.next_from(time) == Some(time);
    let minute = TimeDelta::minutes(1);
    let mut at = DateTime::from_timestamp(after.timestamp() / 60 * 60, 0)? - TimeDelta::hours(50);
    let mut highest = at.with_timezone(&zone).naive_local();
    while at <= until {
        at += minute;
        let wall = at.with_timezone(&zone).naive_local();
        let mut is_due = crontab.is_every_hour() && is_match(wall);
        while highest < wall {
            highest += minute;
            is_due |= !crontab.is_every_hour() && is_match(highest);
        }
        if is_due && at > after {
            return Some(at);
        }
    }
    None
}

proptest! {
    #[test]
    fn due_times_are_those_of_the_definition((zone, after) in changes(), expression in expressions()) {
        let parsed: Crontab = expression.parse().unwrap();
        let until = after + TimeDelta::days(3);
        let due = first_due_after(&crontab(&expression, zone.name()), after).unwrap();
        prop_assert_eq!((due <= until).then_some(due), by_the_minute(&parsed, zone, after, until));
    }

    #[test]
    fn due_times_increase_and_the_latest_is_the_last_of_them(
        (zone, after) in changes(), expression in expressions(), hours in 0_i64..80,
    ) {
        let schedule = crontab(&expression, zone.name());
        let now = after + TimeDelta::hours(hours);
        let mut all = Vec::new();
        let mut at = after;
        loop {
            let due = first_due_after(&schedule, at).unwrap();
            prop_assert!(due > at);
            if due > now { break }
            all.push(due);
            at = due;
        }
        let expected = all.last().map(|due_at| Due {
            due_at: *due_at,
            missed: (all.len() as u32 - 1).min(MISSED_MAX),
        });
        prop_assert_eq!(latest_due(&schedule, after, now), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_daily_job_has_one_run_for_each_day_of_fifty_years(zone in zones(), hour in 0_u32..24, minute in 0_u32..60) {
        let schedule = crontab(&format!("{minute} {hour} * * *"), zone.name());
        let calendar = Calendar::read(&schedule, &mut Fields::new()).unwrap();
        let (mut at, end) = (instant("1976-01-01T12:00:00Z"), instant("2026-01-01T12:00:00Z"));
        let mut day = at.with_timezone(&zone).date_naive();
        let mut is_first = true;
        while at < end {
            at = calendar.first_due_after(at).unwrap();
            let due_day = at.with_timezone(&zone).date_naive();
            let next = day.succ_opt().unwrap();
            // The first may be of the day it begins on.
            prop_assert!(due_day == next || (is_first && due_day == day), "{} after {}", due_day, day);
            is_first = false;
            day = due_day;
            let noon = NaiveTime::from_hms_opt(12, 0, 0).unwrap();
            let tomorrow = day.succ_opt().unwrap();
            if zone.from_local_datetime(&tomorrow.and_time(noon)) == LocalResult::None {
                // A day without a noon was skipped as a whole; its run comes when the next one begins.
                at = calendar.first_due_after(at).unwrap();
                let begun = at.with_timezone(&zone);
                prop_assert_eq!(begun.time(), NaiveTime::MIN);
                day = if hour == 0 && minute == 0 { begun.date_naive() } else { tomorrow };
            }
        }
    }
}
