//! Jobs: what is decided of them, and when they are due.

mod calendar;
mod decisions;

use chrono::{DateTime, Utc};

use super::{JobKind, JobSettings, Overlap, Schedule};

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn crontab(expression: &str, time_zone: &str) -> Schedule {
    Schedule::Crontab { expression: expression.to_owned(), time_zone: time_zone.to_owned() }
}

/// Due at half past two in Berlin; three attempts, a minute apart at first.
fn settings() -> JobSettings {
    JobSettings {
        kind: JobKind::FetchQuotes,
        schedule: crontab("30 2 * * *", "Europe/Berlin"),
        soft_limit_seconds: 50,
        time_limit_seconds: 60,
        attempts_max: 3,
        retry_pause_seconds: 60,
        overlap: Overlap::Skip,
        symbols: vec!["AAPL".to_owned()],
        source: None,
    }
}
