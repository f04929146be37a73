//! Prices without the internet: the closes that travel inside the program, and from their end on a walk.
//!
//! A price is a function of symbol and day alone, so every machine is told the same, however often it asks. Each day's step is
//! a real one of the same stock, drawn by a hash; a symbol that is none of the real ones follows one of them at a price of
//! its own. The real closes are corrected for splits and dividends, and so the series says.

use std::sync::LazyLock;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, Utc, Weekday};
use rust_decimal::Decimal;

use super::seen::{Seen, Told, When};
use crate::closes::{self, Closes, Stock};
use crate::domain::money::Price;

/// What a price of the walk lies between, in thousandths.
const LEAST: f64 = 100.0;
const MOST: f64 = 1e12;

/// Unpacked by whoever asks first.
static SHIPPED: LazyLock<Closes> = LazyLock::new(closes::shipped);

/// The latest price: the walk's of the last weekday, at its beginning.
///
/// # Errors
/// There is none before the first day.
pub fn quote(symbol: &str, now: DateTime<Utc>) -> Result<Told, String> {
    let today = now.date_naive();
    let walk = walk(symbol, today, today);
    let (day, price) = walk.last().copied().ok_or("has no prices that old")?;
    let at = When::At(day.and_time(NaiveTime::MIN).and_utc());
    Ok(told(vec![Seen { when: at, price: exact(price), volume: None }]))
}

/// The closes of these days.
pub fn history(symbol: &str, since: NaiveDate, until: NaiveDate) -> Told {
    let days = walk(symbol, since, until).into_iter().filter(|(day, _)| *day >= since);
    told(days.map(|(day, price)| Seen { when: When::Day(day), price: exact(price), volume: None }).collect())
}

fn told(seen: Vec<Seen>) -> Told {
    Told { currency: Some("USD".to_owned()), seen, ..Told::default() }
}

/// Days of trading with their prices in thousandths, up to a day: from `since` on, and at least the last one.
fn walk(symbol: &str, since: NaiveDate, until: NaiveDate) -> Vec<(NaiveDate, f64)> {
    let seed = hash(symbol.bytes());
    let real = SHIPPED.stocks.iter().find(|stock| stock.symbol == symbol);
    let (stock, scale) = match real {
        Some(stock) => (stock, 1.0),
        None => {
            (&SHIPPED.stocks[seed as usize % SHIPPED.stocks.len()], 0.5 + (seed >> 40) as f64 / 16_777_216.0)
        }
    };
    let at = |row: usize| (f64::from(stock.thousandths[row]) * scale).round().clamp(LEAST, MOST);
    let last = SHIPPED.days.partition_point(|day| *day <= until);
    let first = SHIPPED.days.partition_point(|day| *day < since).min(last.saturating_sub(1));
    let mut walked: Vec<(NaiveDate, f64)> = (first..last).map(|row| (SHIPPED.days[row], at(row))).collect();
    let Some(&(mut day, mut price)) = walked.last() else { return walked };
    if last < SHIPPED.days.len() {
        return walked;
    }
    while let Some(next) = next_weekday(day).filter(|next| *next <= until) {
        price = (price * step(stock, seed, next)).round().clamp(LEAST, MOST);
        day = next;
        if day < since {
            walked.clear();
        }
        walked.push((day, price));
    }
    walked
}

/// A real step of the stock, from one day to the next.
fn step(stock: &Stock, seed: u64, day: NaiveDate) -> f64 {
    let drawn = hash(seed.to_le_bytes().into_iter().chain(day.num_days_from_ce().to_le_bytes()));
    let row = 1 + drawn as usize % (stock.thousandths.len() - 1);
    // The earliest prices are of a few thousandths: their steps are mostly rounding.
    let (before, after) = (f64::from(stock.thousandths[row - 1]), f64::from(stock.thousandths[row]));
    (after / before).clamp(0.9, 1.1)
}

fn next_weekday(day: NaiveDate) -> Option<NaiveDate> {
    let days = match day.weekday() {
        Weekday::Fri => 3,
        Weekday::Sat => 2,
        _ => 1,
    };
    day.checked_add_days(Days::new(days))
}

/// FNV-1a, mixed once more: the same on every machine.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let hashed = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hashed ^ (hashed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

fn exact(thousandths: f64) -> Price {
    Price::from_decimal(Decimal::new(thousandths as i64, 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn real_closes_are_told_to_the_digit_and_the_walk_begins_where_they_end() {
        let told = history("UNH", day("2022-12-26"), day("2023-01-03"));
        let told: Vec<String> = told.seen.iter().map(|it| format!("{} {}", it.when, it.price)).collect();
        assert!(told.contains(&"2022-12-28 524.422".to_owned()), "{told:?}");
        assert!(told.last().unwrap().starts_with("2023-01-03 "), "{told:?}");
        assert!(!told.iter().any(|it| it.starts_with("2022-12-31")), "a Saturday: {told:?}");
    }

    #[test]
    fn a_price_depends_on_symbol_and_day_alone() {
        let whole = history("SYN021", day("2022-01-03"), day("2024-03-01"));
        let part = history("SYN021", day("2024-02-26"), day("2024-03-01"));
        assert_eq!(part.seen.len(), 5);
        assert!(whole.seen.ends_with(&part.seen));
        let quote = quote("SYN021", "2024-03-02T10:00:00Z".parse().unwrap()).unwrap();
        assert_eq!(quote.seen[0].price, part.seen[4].price);
        assert_eq!(quote.seen[0].when, When::At("2024-03-01T00:00:00Z".parse().unwrap()));
        assert_ne!(history("SYN022", day("2024-02-26"), day("2024-03-01")), part);
        assert!(super::quote("AAPL", "1989-01-01T00:00:00Z".parse().unwrap()).is_err());
    }

    #[test]
    fn steps_are_those_of_a_stock() {
        let told = history("XOM", day("2022-12-28"), day("2026-11-20"));
        let prices: Vec<f64> = told.seen.iter().map(|it| it.price.to_string().parse().unwrap()).collect();
        let largest = prices.windows(2).map(|pair| (pair[1] / pair[0] - 1.0).abs()).fold(0.0, f64::max);
        assert!((0.02..=0.11).contains(&largest), "{largest}");
    }
}
