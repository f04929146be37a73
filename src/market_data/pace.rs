//! How fast a source is asked: so many requests a minute, a few of them at once, and none while it wants a pause.

use std::time::Duration;

use tokio::time::Instant;

/// Gives out moments to ask at (the generic cell rate algorithm: one number is all it keeps).
#[derive(Debug)]
pub struct Pace {
    /// Between two requests in the long run; none for no limit.
    gap: Option<Duration>,
    /// How far ahead of that requests may run.
    slack: Duration,
    /// When the next one would be due if they came evenly.
    due: Instant,
    /// Nobody asks before.
    paused_until: Instant,
}

impl Pace {
    /// So many requests a minute (0: as many as come), of which so many may come at once.
    pub fn new(per_minute: u32, at_once: u32, now: Instant) -> Self {
        let gap = (per_minute > 0).then(|| Duration::from_secs(60) / per_minute);
        let slack = gap.unwrap_or_default() * at_once.saturating_sub(1);
        Self { gap, slack, due: now, paused_until: now }
    }

    /// Takes the next moment to ask at: now, or later.
    pub fn take(&mut self, now: Instant) -> Instant {
        let at = match self.gap {
            None => now,
            Some(gap) => {
                let due = self.due.max(now);
                self.due = due + gap;
                due.checked_sub(self.slack).map_or(now, |earliest| earliest.max(now))
            }
        };
        at.max(self.paused_until)
    }

    /// How long nobody may ask.
    pub fn paused_for(&self, now: Instant) -> Duration {
        self.paused_until.saturating_duration_since(now)
    }

    /// Nobody asks before this.
    pub fn pause_until(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_few_at_once_requests_come_evenly() {
        let now = Instant::now();
        let mut pace = Pace::new(60, 3, now);
        let waits: Vec<u64> = (0..6).map(|_| (pace.take(now) - now).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 1, 2, 3]);
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.take(later), later);
        let mut unlimited = Pace::new(0, 1, now);
        assert!((0..1_000).all(|_| unlimited.take(now) == now));
    }

    #[test]
    fn a_pause_holds_for_everybody() {
        let now = Instant::now();
        let mut pace = Pace::new(0, 1, now);
        pace.pause_until(now + Duration::from_secs(5));
        pace.pause_until(now + Duration::from_secs(2));
        assert_eq!(pace.take(now), now + Duration::from_secs(5));
        assert_eq!(pace.paused_for(now + Duration::from_secs(2)), Duration::from_secs(3));
        assert_eq!(pace.paused_for(now + Duration::from_secs(9)), Duration::ZERO);
    }
}
