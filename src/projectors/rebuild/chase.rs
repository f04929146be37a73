//! Whether a rebuild that follows the log comes nearer to its end.

use std::time::{Duration, Instant};

/// A look back goes so far.
const LOOKS_EVERY: Duration = Duration::from_secs(30);

/// How far it was behind at the last look.
#[derive(Debug)]
pub(super) struct Chase {
    last: Option<(Instant, i64)>,
}

impl Chase {
    pub(super) fn begin() -> Self {
        Self { last: None }
    }

    /// It is so many events behind now. Returns how many those were half a minute ago, if they were no more.
    pub(super) fn gains_nothing(&mut self, behind: i64, now: Instant) -> Option<i64> {
        let Some((looked, before)) = self.last else {
            self.last = Some((now, behind));
            return None;
        };
        if now.duration_since(looked) < LOOKS_EVERY {
            return None;
        }
        self.last = Some((now, behind));
        (behind >= before).then_some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_no_nearer_is_told_so_every_half_a_minute() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut chase = Chase::begin();
        assert_eq!(chase.gains_nothing(5_000, at(0)), None);
        assert_eq!(chase.gains_nothing(9_000, at(29)), None, "too soon to tell");
        assert_eq!(chase.gains_nothing(5_000, at(30)), Some(5_000));
        assert_eq!(chase.gains_nothing(7_000, at(45)), None);
        assert_eq!(chase.gains_nothing(4_999, at(60)), None, "it comes nearer");
        assert_eq!(chase.gains_nothing(6_000, at(95)), Some(4_999));
    }
}
