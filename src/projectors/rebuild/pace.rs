//! Not more events a second than was said.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

/// Lets so many events a second pass, whoever folds them.
#[derive(Debug)]
pub(super) struct Pace {
    each: Option<Duration>,
    /// When what has passed so far should have passed.
    until: Mutex<Instant>,
}

impl Pace {
    /// So many a second, or as many as can be.
    pub(super) fn of(events_per_second: Option<u32>) -> Self {
        let each = events_per_second.map(|rate| Duration::from_secs(1) / rate.max(1));
        Self { each, until: Mutex::new(Instant::now()) }
    }

    /// How many events to fold before asking again, so that no wait is longer than a quarter of a second.
    pub(super) fn at_once(&self, most: usize) -> usize {
        let fitting = self
            .each
            .map_or(most, |each| (Duration::from_millis(250).as_nanos() / each.as_nanos().max(1)) as usize);
        fitting.clamp(1, most)
    }

    /// Waits until so many more events may have passed.
    pub(super) async fn passed(&self, events: usize) {
        let Some(each) = self.each else { return };
        let wake = {
            let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
            let events = u32::try_from(events).unwrap_or(u32::MAX);
            // Time that was not used is not saved up.
            *until = (*until).max(Instant::now()) + each.saturating_mul(events);
            *until
        };
        tokio::time::sleep_until(wake).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thousand_a_second_take_their_time() {
        let pace = Pace::of(Some(1_000));
        let began = Instant::now();
        for _ in 0..10 {
            pace.passed(20).await;
        }
        assert!(began.elapsed() >= Duration::from_millis(199), "{:?}", began.elapsed());
        assert_eq!((pace.at_once(512), Pace::of(Some(1)).at_once(512)), (250, 1));
    }

    #[tokio::test]
    async fn without_a_bound_nobody_waits() {
        let pace = Pace::of(None);
        let passed = pace.passed(usize::MAX);
        assert!(tokio::time::timeout(Duration::from_secs(5), passed).await.is_ok());
        assert_eq!(pace.at_once(512), 512);
    }
}
