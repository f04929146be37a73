//! Notices a client that is behind and does not move. Pure.

use std::time::{Duration, Instant};

/// Watches one client.
#[derive(Debug)]
pub(super) struct Watchdog {
    patience: Duration,
    moving: Instant,
}

impl Watchdog {
    /// Stalled after this long.
    pub(super) fn new(patience: Duration, now: Instant) -> Self {
        Self { patience, moving: now }
    }

    /// Whether there has been lag, no record and no reason to pause, for too long.
    pub(super) fn stalled(&mut self, lag: i64, taken: usize, paused: bool, now: Instant) -> bool {
        if lag == 0 || taken > 0 || paused {
            self.moving = now;
        }
        now.duration_since(self.moving) >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_barks_at_lag_without_progress_only() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut watchdog = Watchdog::new(Duration::from_secs(30), start);
        assert!(!watchdog.stalled(0, 0, false, at(40)), "nothing to do");
        assert!(!watchdog.stalled(5, 0, false, at(60)));
        assert!(!watchdog.stalled(5, 1, false, at(69)), "progress");
        assert!(!watchdog.stalled(5, 0, true, at(98)), "the feed does not take it");
        assert!(!watchdog.stalled(5, 0, false, at(127)));
        assert!(watchdog.stalled(5, 0, false, at(128)));
    }
}
