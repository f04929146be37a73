//! The only source of the current time.
//!
//! Everything that asks for the time is given a [`Clock`], so that a test can hold it still, move it on, and get the same
//! figures twice. Clippy's `disallowed-methods` closes the back doors.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// Tells the time: the system's, or one that a test moves by hand. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The clock of the machine.
    System,
    /// A clock that stands still until it is told otherwise.
    Manual(ManualClock),
}

impl Clock {
    /// The current time in whole microseconds, since that is what PostgreSQL stores: a time that was written and read back
    /// equals the one in memory.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            #[expect(
                clippy::disallowed_methods,
                reason = "this is the one place that reads the system's clock"
            )]
            Self::System => Utc::now().trunc_subsecs(6),
            Self::Manual(clock) => clock.now(),
        }
    }
}

impl From<ManualClock> for Clock {
    fn from(clock: ManualClock) -> Self {
        Self::Manual(clock)
    }
}

/// The hand on a clock that stands still. Clones move together.
#[derive(Clone, Debug)]
pub struct ManualClock {
    microseconds: Arc<AtomicI64>,
}

impl ManualClock {
    /// A clock that shows `time`, cut to whole microseconds.
    #[must_use]
    pub fn at(time: DateTime<Utc>) -> Self {
        Self { microseconds: Arc::new(AtomicI64::new(time.timestamp_micros())) }
    }

    /// What the clock shows.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.microseconds.load(Ordering::SeqCst))
            .expect("only set from valid times")
    }

    /// Shows `time` from now on, also when that is in the past.
    pub fn set(&self, time: DateTime<Utc>) {
        self.microseconds.store(time.timestamp_micros(), Ordering::SeqCst);
    }

    /// Moves the clock on by `step`, or back by a negative one.
    ///
    /// # Panics
    /// When the result is no date that chrono can say.
    pub fn advance(&self, step: TimeDelta) {
        self.set(self.now() + step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_shows_whole_microseconds() {
        assert_eq!(Clock::System.now().timestamp_subsec_nanos() % 1_000, 0);
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand_and_its_clones_with_it() {
        let hand = ManualClock::at("2022-03-04T16:00:00.123456789Z".parse().unwrap());
        let clock = Clock::from(hand.clone());
        assert_eq!(clock.now().to_rfc3339(), "2022-03-04T16:00:00.123456+00:00");

        hand.advance(TimeDelta::days(1));
        assert_eq!(clock.now().to_rfc3339(), "2022-03-05T16:00:00.123456+00:00");

        hand.set("2000-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(clock.now().to_rfc3339(), "2000-01-01T00:00:00+00:00");
    }
}
