//! A running total over days that may be written out of order: the units of an asset, or cash of a currency.
//!
//! A fact at the end costs O(1), a backdated one O(n): every total from its day on is looked at, because a sale
//! of last week may take what a sale of yesterday needed.

use chrono::NaiveDate;
use rust_decimal::Decimal;

use crate::domain::exact;
use crate::domain::ids::Version;

/// Changes in the order of (day, version), with their total.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Timeline {
    changes: Vec<Change>,
    total: Decimal,
    turnover: Decimal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    day: NaiveDate,
    version: Version,
    delta: Decimal,
}

/// The first place at which a total would be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shortfall {
    /// The day.
    pub day: NaiveDate,
    /// The total on that day before the change that fails.
    pub held: Decimal,
}

impl Timeline {
    /// Writes a change. Of one day, the later version comes later.
    pub fn insert(&mut self, day: NaiveDate, version: Version, delta: Decimal) {
        let at = self.changes.partition_point(|change| (change.day, change.version) <= (day, version));
        self.changes.insert(at, Change { day, version, delta });
        self.total = exact::saturating_sum(self.total, delta);
        self.turnover = exact::saturating_sum(self.turnover, delta.abs());
    }

    /// The total after every change.
    pub fn total(&self) -> Decimal {
        self.total
    }

    /// Whether every total stays below its bound with one more change, in whatever order: the sum of the
    /// changes without their signs does.
    pub fn has_room_for(&self, delta: Decimal) -> bool {
        exact::sum(self.turnover, delta.abs()).is_some()
    }

    /// Where the total would be negative if `delta` were the last change of `day`.
    pub fn shortfall(&self, day: NaiveDate, delta: Decimal) -> Option<Shortfall> {
        if delta >= Decimal::ZERO {
            return None;
        }
        let later = &self.changes[self.changes.partition_point(|change| change.day <= day)..];
        let later_total = later.iter().fold(Decimal::ZERO, |sum, c| exact::saturating_sum(sum, c.delta));
        let mut held = exact::saturating_sum(self.total, -later_total);

        let ours = std::iter::once((day, delta));
        for (day, delta) in ours.chain(later.iter().map(|change| (change.day, change.delta))) {
            let after = exact::saturating_sum(held, delta);
            if after < Decimal::ZERO {
                return Some(Shortfall { day, held });
            }
            held = after;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(n: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 1, n).unwrap()
    }

    fn timeline(changes: &[(u32, i64)]) -> Timeline {
        let mut timeline = Timeline::default();
        for (version, (n, delta)) in (1..).zip(changes) {
            timeline.insert(day(*n), Version(version), Decimal::from(*delta));
        }
        timeline
    }

    fn shortfall(timeline: &Timeline, n: u32, delta: i64) -> Option<(NaiveDate, Decimal)> {
        timeline.shortfall(day(n), Decimal::from(delta)).map(|s| (s.day, s.held))
    }

    #[test]
    fn the_end_needs_only_the_total() {
        let held = timeline(&[(1, 10), (2, -4)]);
        assert_eq!(shortfall(&held, 2, -6), None);
        assert_eq!(shortfall(&held, 3, -7), Some((day(3), Decimal::from(6))));
    }

    #[test]
    fn a_backdated_change_is_checked_on_every_day_after_it() {
        let held = timeline(&[(1, 10), (5, -8), (7, 20)]);
        assert_eq!(shortfall(&held, 3, -2), None);
        // 10 − 3 = 7 are left for the 8 of day 5.
        assert_eq!(shortfall(&held, 3, -3), Some((day(5), Decimal::from(7))));
        assert_eq!(shortfall(&held, 3, -11), Some((day(3), Decimal::from(10))));
    }

    #[test]
    fn of_one_day_the_later_written_comes_later() {
        let held = timeline(&[(2, 5), (1, 3), (2, -8)]);
        assert_eq!(held.total(), Decimal::ZERO);
        assert_eq!(shortfall(&held, 2, -1), Some((day(2), Decimal::ZERO)));
        assert_eq!(shortfall(&held, 1, -1), Some((day(2), Decimal::from(7))));
    }
}
