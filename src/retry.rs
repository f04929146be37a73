//! How long to wait before trying again.
//!
//! A schedule of pauses that double from a first one up to a longest one, each with jitter so that processes which failed
//! together do not come back together. The only home of the `backoff` crate: nobody maintains it, so one file can replace it.

use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff as _;
use chrono::{DateTime, NaiveDateTime, Utc};

/// Jitter in both directions, as a share of the pause.
const JITTER: f64 = 0.5;

/// An endless schedule of pauses. When to give up is the caller's to say: a deadline, a number of attempts, or never.
///
/// ```
/// # use std::time::Duration;
/// # use insight::retry::Backoff;
/// # async fn connect() -> Result<(), ()> { Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let mut pauses = Backoff::pauses(Duration::from_millis(50), Duration::from_secs(5));
/// while connect().await.is_err() {
///     pauses.sleep().await;
/// }
/// # });
/// ```
#[derive(Debug)]
pub struct Backoff {
    schedule: backoff::ExponentialBackoff,
    max: Duration,
    count: u32,
}

impl Backoff {
    /// Pauses that start around `initial` and double until they are around two thirds of `max`, which none exceeds.
    #[must_use]
    pub fn pauses(initial: Duration, max: Duration) -> Self {
        let schedule = ExponentialBackoffBuilder::new()
            .with_initial_interval(initial)
            .with_max_interval(max.mul_f64(1.0 / (1.0 + JITTER)))
            .with_multiplier(2.0)
            .with_randomization_factor(JITTER)
            .with_max_elapsed_time(None)
            .build();
        Self { schedule, max, count: 0 }
    }

    /// Pauses of full jitter: each is drawn evenly from nothing up to a bound, which starts at `initial` and doubles up to
    /// `max`. For many clients of somebody else's server, which should not see them come in step.
    #[must_use]
    pub fn full_jitter(initial: Duration, max: Duration) -> Self {
        // Drawn from a middle that is half the bound, as far to both sides as that is.
        let schedule = ExponentialBackoffBuilder::new()
            .with_initial_interval(initial / 2)
            .with_max_interval(max / 2)
            .with_multiplier(2.0)
            .with_randomization_factor(1.0)
            .with_max_elapsed_time(None)
            .build();
        Self { schedule, max, count: 0 }
    }

    /// Sleeps for the next pause. Cancelling it is safe; the schedule has moved on by then.
    pub async fn sleep(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }

    /// The next pause, for those who sleep differently (a thread without a runtime, a select with a shutdown).
    pub fn next_pause(&mut self) -> Duration {
        self.count = self.count.saturating_add(1);
        self.schedule.next_backoff().unwrap_or(self.max).min(self.max)
    }

    /// How many pauses were taken since the start or the last reset: worth a log field.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Starts again from the first pause. To be called after a success.
    pub fn reset(&mut self) {
        self.schedule.reset();
        self.count = 0;
    }
}

/// The dates of RFC 850 and of C's `asctime`, which are obsolete and still to be read (RFC 9110, 5.6.7).
const OLD_DATES: [&str; 2] = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// How long a header `Retry-After` asks to wait: seconds, or until a date (RFC 9110, 10.2.3). A date that has passed is no wait.
#[must_use]
pub fn retry_after(header: &str, now: DateTime<Utc>) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let new = DateTime::parse_from_rfc2822(header).map(|until| until.with_timezone(&Utc)).ok();
    let old = |format: &&str| NaiveDateTime::parse_from_str(header, format).ok().map(|until| until.and_utc());
    let until = new.or_else(|| OLD_DATES.iter().find_map(old))?;
    Some((until - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_jitter_fills_the_whole_range_below_its_bound() {
        let (initial, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let draw = |nth: usize| {
            let mut backoff = Backoff::full_jitter(initial, max);
            (0..=nth).map(|_| backoff.next_pause()).last().unwrap()
        };
        let first: Vec<_> = (0..500).map(|_| draw(0)).collect();
        assert!(first.iter().all(|pause| *pause <= initial));
        assert!(
            first.iter().any(|pause| *pause < initial / 5)
                && first.iter().any(|pause| *pause > initial / 5 * 4)
        );
        let late: Vec<_> = (0..500).map(|_| draw(9)).collect();
        assert!(late.iter().all(|pause| *pause <= max));
        assert!(late.iter().any(|pause| *pause < max / 5) && late.iter().any(|pause| *pause > max / 5 * 4));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "2015-10-21T07:27:00Z".parse().unwrap();
        assert_eq!(retry_after(" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("Wednesday, 21-Oct-15 07:28:00 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Wed Oct 21 07:28:00 2015", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Sun Nov  6 08:49:37 1994", now), Some(Duration::ZERO));
        for bad in ["", "soon", "-1", "1.5", "Wed, 32 Oct 2015 07:28:00 GMT"] {
            assert_eq!(retry_after(bad, now), None, "{bad}");
        }
    }

    #[test]
    fn pauses_grow_never_end_and_stay_below_the_longest() {
        let max = Duration::from_secs(2);
        let mut backoff = Backoff::pauses(Duration::from_millis(10), max);
        let pauses: Vec<_> = (0..1_000).map(|_| backoff.next_pause()).collect();

        assert!(pauses[0] >= Duration::from_millis(5) && pauses[0] <= Duration::from_millis(15));
        assert!(pauses.iter().all(|pause| *pause <= max));
        assert!(pauses[100..].iter().all(|pause| *pause >= max / 4), "late pauses are long");
        assert_eq!(backoff.count(), 1_000);
    }

    #[test]
    fn a_reset_starts_from_the_first_pause() {
        let mut backoff = Backoff::pauses(Duration::from_millis(10), Duration::from_secs(60));
        for _ in 0..20 {
            backoff.next_pause();
        }
        backoff.reset();
        assert_eq!(backoff.count(), 0);
        assert!(backoff.next_pause() <= Duration::from_millis(15));
    }
}
