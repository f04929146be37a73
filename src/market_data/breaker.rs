//! A circuit breaker: a source that fails again and again is left alone for a while, then asked once.
//!
//! Whoever comes meanwhile waits, so that a source that was away for a moment costs that moment and no symbol. When it has
//! been left alone several times and still fails, it is taken for away, and everybody is told so at once.

use std::time::Duration;

use tokio::time::Instant;

/// How long one waits while another asks whether the source is back.
const PROBED: Duration = Duration::from_millis(100);
/// After so many pauses in vain it is away.
const PAUSES_MAX: u32 = 3;

/// How a source is.
#[derive(Debug)]
pub struct Breaker {
    failures_max: u32,
    pause: Duration,
    failures: u32,
    /// Left alone until then; afterwards one request tells how it is.
    open_until: Option<Instant>,
    pauses: u32,
    is_probed: bool,
}

/// Why a source may not be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// Come back after this.
    For(Duration),
    /// It is away.
    Away,
}

impl Breaker {
    /// Opens after so many failures in a row, for so long.
    pub fn new(failures_max: u32, pause: Duration) -> Self {
        Self { failures_max, pause, failures: 0, open_until: None, pauses: 0, is_probed: false }
    }

    /// Whether it may be asked now. While it recovers, one may at a time.
    ///
    /// # Errors
    /// What to do instead.
    pub fn admit(&mut self, now: Instant) -> Result<(), Closed> {
        let wait = match self.open_until {
            None => return Ok(()),
            Some(until) if now < until => until - now,
            Some(_) if self.is_probed => PROBED,
            Some(_) => {
                self.is_probed = true;
                return Ok(());
            }
        };
        Err(if self.pauses >= PAUSES_MAX { Closed::Away } else { Closed::For(wait) })
    }

    /// It answered.
    pub fn answered(&mut self) {
        (self.failures, self.open_until, self.pauses, self.is_probed) = (0, None, 0, false);
    }

    /// The one who may ask went away without an answer: the next one may.
    pub fn given_up(&mut self) {
        self.is_probed = false;
    }

    /// It did not answer, or with a fault of its own.
    pub fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        // Those who had asked before it was left alone say nothing new.
        let is_open = self.open_until.is_some() && !self.is_probed;
        if self.failures >= self.failures_max && !is_open {
            (self.open_until, self.is_probed) = (Some(now + self.pause), false);
            self.pauses = self.pauses.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);

    fn failed(times: u32, now: Instant) -> Breaker {
        let mut breaker = Breaker::new(3, PAUSE);
        (0..times).for_each(|_| breaker.failed(now));
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_when_a_probe_is_answered() {
        let now = Instant::now();
        let mut breaker = failed(2, now);
        breaker.answered();
        for _ in 0..3 {
            assert_eq!(breaker.admit(now), Ok(()));
            breaker.failed(now);
        }
        assert_eq!(breaker.admit(now), Err(Closed::For(PAUSE)));
        let later = now + PAUSE;
        assert_eq!(breaker.admit(later), Ok(()));
        assert_eq!(breaker.admit(later), Err(Closed::For(PROBED)), "one at a time");
        breaker.given_up();
        assert_eq!(breaker.admit(later), Ok(()));
        breaker.answered();
        assert_eq!(breaker.admit(later), Ok(()));
    }

    #[test]
    fn after_some_pauses_in_vain_everybody_is_told_at_once_and_one_goes_on_asking() {
        let now = Instant::now();
        // Fifty who had asked at the same moment make one pause.
        let mut breaker = failed(50, now);
        for nth in 1..3 {
            let then = now + PAUSE * nth;
            assert_eq!(breaker.admit(then), Ok(()));
            breaker.failed(then);
        }
        assert_eq!(breaker.admit(now + PAUSE * 2), Err(Closed::Away));
        let then = now + PAUSE * 3;
        assert_eq!(breaker.admit(then), Ok(()));
        assert_eq!(breaker.admit(then), Err(Closed::Away));
        breaker.answered();
        assert_eq!(breaker.admit(then), Ok(()));
    }
}
