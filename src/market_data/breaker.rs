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
    /// Counts openings and closings: what was asked before the last of them says nothing about a failure after it.
    round: u64,
}

/// Leave to ask once; given back with what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Turn {
    round: u64,
    is_probe: bool,
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
        Self { failures_max, pause, failures: 0, open_until: None, pauses: 0, is_probed: false, round: 0 }
    }

    /// Why it may not be asked now; nothing is changed by that.
    pub fn closed(&self, now: Instant) -> Option<Closed> {
        match self.open_until {
            None => None,
            Some(until) if now < until && self.pauses >= PAUSES_MAX => Some(Closed::Away),
            Some(until) if now < until => Some(Closed::For(until - now)),
            // Somebody is finding out: that is soon known, and may be good news.
            Some(_) if self.is_probed => Some(Closed::For(PROBED)),
            Some(_) => None,
        }
    }

    /// Whether it may be asked now. While it recovers, one may at a time.
    ///
    /// # Errors
    /// What to do instead.
    pub fn admit(&mut self, now: Instant) -> Result<Turn, Closed> {
        if let Some(closed) = self.closed(now) {
            return Err(closed);
        }
        self.is_probed = self.open_until.is_some();
        Ok(Turn { round: self.round, is_probe: self.is_probed })
    }

    /// It answered, whoever had asked.
    pub fn answered(&mut self) {
        if self.open_until.is_some() {
            self.round += 1;
        }
        (self.failures, self.open_until, self.pauses, self.is_probed) = (0, None, 0, false);
    }

    /// Whoever had this turn went away without an answer: the next one may find out.
    pub fn given_up(&mut self, turn: Turn) {
        if turn.is_probe && turn.round == self.round {
            self.is_probed = false;
        }
    }

    /// It did not answer, or with a fault of its own.
    pub fn failed(&mut self, turn: Turn, now: Instant) {
        // Those who had asked before it was left alone, or before it came back, say nothing new.
        if turn.round != self.round || turn.is_probe != self.open_until.is_some() {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.failures_max {
            (self.open_until, self.is_probed) = (Some(now + self.pause), false);
            self.pauses = self.pauses.saturating_add(1);
            self.round += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);

    /// One that so many have failed with who had all asked at the same moment.
    fn failed(times: u32, now: Instant) -> Breaker {
        let mut breaker = Breaker::new(3, PAUSE);
        let turns: Vec<Turn> = (0..times).map(|_| breaker.admit(now).unwrap()).collect();
        turns.into_iter().for_each(|turn| breaker.failed(turn, now));
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_when_a_probe_is_answered() {
        let now = Instant::now();
        let mut breaker = failed(2, now);
        breaker.answered();
        for _ in 0..3 {
            let turn = breaker.admit(now).unwrap();
            breaker.failed(turn, now);
        }
        assert_eq!(breaker.admit(now), Err(Closed::For(PAUSE)));
        let later = now + PAUSE;
        let probe = breaker.admit(later).unwrap();
        assert_eq!(breaker.admit(later), Err(Closed::For(PROBED)), "one at a time");
        breaker.given_up(probe);
        assert!(breaker.admit(later).is_ok());
        breaker.answered();
        assert!(breaker.admit(later).is_ok());
    }

    #[test]
    fn after_some_pauses_in_vain_everybody_is_told_at_once_and_one_goes_on_asking() {
        let now = Instant::now();
        // Fifty who had asked at the same moment make one pause.
        let mut breaker = failed(50, now);
        for nth in 1..3 {
            let then = now + PAUSE * nth;
            let probe = breaker.admit(then).unwrap();
            breaker.failed(probe, then);
        }
        assert_eq!(breaker.admit(now + PAUSE * 2), Err(Closed::Away));
        let then = now + PAUSE * 3;
        assert!(breaker.admit(then).is_ok());
        breaker.answered();
        assert!(breaker.admit(then).is_ok());
    }

    #[test]
    fn while_one_finds_out_whether_it_is_back_nobody_is_sent_away() {
        let now = Instant::now();
        let mut breaker = failed(3, now);
        for nth in 1..3 {
            let then = now + PAUSE * nth;
            let probe = breaker.admit(then).unwrap();
            breaker.failed(probe, then);
        }
        let then = now + PAUSE * 3;
        let probe = breaker.admit(then).unwrap();
        assert_eq!(breaker.admit(then), Err(Closed::For(PROBED)));
        breaker.failed(probe, then);
        assert_eq!(breaker.admit(then), Err(Closed::Away), "it is still away");
    }

    #[test]
    fn those_who_had_asked_before_do_not_speak_for_the_one_who_finds_out() {
        let now = Instant::now();
        let mut breaker = Breaker::new(3, PAUSE);
        let turns: Vec<Turn> = (0..5).map(|_| breaker.admit(now).unwrap()).collect();
        turns[..3].iter().for_each(|turn| breaker.failed(*turn, now));
        let then = now + PAUSE;
        let probe = breaker.admit(then).unwrap();
        breaker.failed(turns[3], then);
        assert_eq!(breaker.admit(then), Err(Closed::For(PROBED)), "its failure makes no pause");
        breaker.given_up(turns[4]);
        assert_eq!(breaker.admit(then), Err(Closed::For(PROBED)), "and lets nobody else ask");
        breaker.given_up(probe);
        assert!(breaker.admit(then).is_ok());
    }
}
