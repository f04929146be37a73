//! Returns between model dates, without inventing any.
//!
//! The return of a date is the last close on or before it over the last close on or before the date before it,
//! less one: a weekend's move falls into Monday, a local holiday is 0 and caught up the next day. Such a date
//! without a close of its own is a *fill* and counted, because many of them would pass for calm.

use chrono::NaiveDate;

use super::figures::Exclusion;
use super::inputs::Close;

/// The returns there are, up to the last date, and how many are fills.
#[derive(Debug, Clone, PartialEq)]
pub struct Returns {
    /// Oldest first; one fewer than dates if the first date has a close on or before it.
    pub values: Vec<f64>,
    /// Dates without a close since the date before.
    pub fills: usize,
}

/// Simple returns of `closes` along ascending `dates`.
pub fn along(dates: &[NaiveDate], closes: &[Close]) -> Returns {
    let mut returns = Returns { values: Vec::with_capacity(dates.len()), fills: 0 };
    let mut read = 0;
    let mut before: Option<f64> = None;
    for date in dates {
        let new = closes[read..].iter().take_while(|close| close.0 <= *date).count();
        read += new;
        let close = read.checked_sub(1).map(|last| closes[last].1);
        if let (Some(before), Some(close)) = (before, close) {
            returns.values.push(close / before - 1.0);
            returns.fills += usize::from(new == 0);
        }
        before = close;
    }
    returns
}

/// The returns of a whole window, or why there are none.
pub fn of_window(window: usize, dates: &[NaiveDate], closes: &[Close]) -> Result<Vec<f64>, Exclusion> {
    if closes.is_empty() {
        return Err(Exclusion::NoCloses);
    }
    let Returns { values, fills } = along(dates, closes);
    let too_many_fills = fills * 20 > window;
    if values.len() < window || too_many_fills {
        return Err(Exclusion::ShortHistory { returns: values.len(), fills });
    }
    Ok(values)
}

/// (1 + r)(1 + r_fx) − 1: an asset's return in the numeraire. Written so that an unmoved rate changes no bit.
pub fn folded(own: &[f64], rate: &[f64]) -> Vec<f64> {
    own.iter().zip(rate).map(|(r, fx)| r + (fx + r * fx)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(n: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 1, n).unwrap()
    }

    /// Friday 5th, weekend, Monday 8th: crypto's closes of Saturday and Sunday fall into Monday.
    #[test]
    fn a_weekend_move_falls_into_monday() {
        let closes = [(day(5), 100.0), (day(6), 150.0), (day(7), 120.0), (day(8), 125.0)];
        assert_eq!(along(&[day(5), day(8)], &closes), Returns { values: vec![0.25], fills: 0 });
    }

    #[test]
    fn a_local_holiday_is_zero_and_caught_up_the_next_day() {
        let closes = [(day(2), 100.0), (day(4), 150.0)];
        assert_eq!(along(&[day(2), day(3), day(4)], &closes), Returns { values: vec![0.0, 0.5], fills: 1 });
    }

    #[test]
    fn nothing_is_invented_before_the_first_close() {
        let closes = [(day(3), 100.0), (day(4), 110.0)];
        assert_eq!(along(&[day(1), day(2), day(3), day(4)], &closes).values.len(), 1);
        assert!(along(&[], &closes).values.is_empty());
    }

    #[test]
    fn short_and_sparse_histories_are_named() {
        let dates: Vec<_> = (1..=21).map(day).collect();
        let without = |missing: &[u32]| -> Vec<Close> {
            (1..=21).filter(|n| !missing.contains(n)).map(|n| (day(n), 1.0)).collect()
        };
        assert_eq!(of_window(20, &dates, &without(&[9])).unwrap().len(), 20, "5 % fills are allowed");
        let sparse = of_window(20, &dates, &without(&[9, 12]));
        assert_eq!(sparse, Err(Exclusion::ShortHistory { returns: 20, fills: 2 }));
        let short = of_window(20, &dates, &without(&[1]));
        assert_eq!(short, Err(Exclusion::ShortHistory { returns: 19, fills: 0 }));
        assert_eq!(of_window(20, &dates, &[]), Err(Exclusion::NoCloses));
    }

    #[test]
    fn the_rate_is_folded_in() {
        let folded = folded(&[0.1, 0.25], &[0.2, 0.0]);
        assert!((folded[0] - 0.32).abs() < 1e-15);
        assert_eq!(folded[1], 0.25);
    }
}
