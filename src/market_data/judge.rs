//! What is believed of an answer, decided without I/O.
//!
//! | an observation | becomes |
//! | --- | --- |
//! | known at its time with the same price, or a tick before the newest | unchanged |
//! | of a day that goes on | passed over: it is no close yet |
//! | in the future; the same time told with two prices; the last price [`Bounds::refuse_times`] over, or below | the whole answer is refused |
//! | further from the last price than [`Bounds::jump_percent`] | held, once; what agrees with it afterwards waits behind it |
//! | anything else | taken |
//!
//! Far means: the larger price is so many percent above the smaller one. That is the same up and down. Prices wander with the
//! square root of time, so the bound grows with it when the last price is older than a week.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rust_decimal::Decimal;

use super::seen::{Seen, When};
use crate::domain::dates;
use crate::domain::ids::Position;
use crate::domain::money::Price;

/// How long a last price is as good as yesterday's.
const FRESH_DAYS: f64 = 7.0;

/// How far from the last price is too far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Beyond it a price is held.
    pub jump_percent: u32,
    /// From it on an answer is refused.
    pub refuse_times: u32,
}

/// A price that stands, and the event that brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The price.
    pub price: Price,
    /// The event.
    pub position: Position,
}

/// What became of a price that was held before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBefore {
    /// When it was.
    pub when: When,
    /// The price.
    pub price: Price,
    /// Nobody has said a word about it yet.
    pub waits: bool,
}

/// What is known of an asset and a series before the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The newest tick of the series.
    pub tick: Option<(DateTime<Utc>, Standing)>,
    /// The closes of the series, as far back as the answer goes and one further.
    pub closes: BTreeMap<NaiveDate, Standing>,
    /// What a first tick is compared with: the asset's price of any source.
    pub live: Option<(DateTime<Utc>, Price)>,
    /// Prices of the series that were held back, in the order in which that happened.
    pub held: Vec<HeldBefore>,
}

/// What is to be done about an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// To be appended, with the event that each replaces.
    pub take: Vec<(Seen, Position)>,
    /// To be held, with the price that each is far from and why.
    pub hold: Vec<(Seen, Price, String)>,
    /// Held before or behind a held one: somebody has to say a word first.
    pub waiting: usize,
    /// Known already.
    pub unchanged: usize,
}

/// Judges the prices of an answer. With `settled`, closes of today are final.
///
/// # Errors
/// Why nothing of it is taken.
pub fn judge(
    bounds: Bounds,
    now: DateTime<Utc>,
    settled: bool,
    known: &Known,
    seen: Vec<Seen>,
) -> Result<Judged, String> {
    let mut court =
        Court { bounds, known, closes: known.closes.clone(), open: Vec::new(), judged: Judged::default() };
    for seen in in_order(seen, now, settled)? {
        let verdict = match seen.when {
            When::At(at) => court.tick(at, seen.price),
            When::Day(day) => court.close(day, seen.price),
        };
        court.pronounce(seen, verdict)?;
    }
    Ok(court.judged)
}

/// By time, each once. What lies ahead, or is told twice with two prices, makes all of it doubtful.
fn in_order(mut seen: Vec<Seen>, now: DateTime<Utc>, settled: bool) -> Result<Vec<Seen>, String> {
    for it in &seen {
        let checked = match it.when {
            When::At(at) => dates::check_instant(at, now),
            When::Day(day) => dates::check_day(day, dates::latest_day(now)),
        };
        checked.map_err(|reason| format!("tells a price of {}, which {reason}", it.when))?;
    }
    seen.sort_by_key(|it| it.when);
    if let Some(pair) =
        seen.windows(2).find(|pair| pair[0].when == pair[1].when && pair[0].price != pair[1].price)
    {
        return Err(format!("tells two prices of {}", pair[0].when));
    }
    seen.dedup_by_key(|it| it.when);
    let is_over = |it: &Seen| match it.when {
        When::Day(day) => settled || day < now.date_naive(),
        When::At(_) => true,
    };
    seen.retain(is_over);
    Ok(seen)
}

enum Verdict {
    Unchanged,
    /// To be compared with the last price, as old as this; replaces the event.
    Compare(Option<(Price, TimeDelta)>, Position),
}

struct Court<'a> {
    bounds: Bounds,
    known: &'a Known,
    /// Known ones and those that were taken.
    closes: BTreeMap<NaiveDate, Standing>,
    /// Held in this answer.
    open: Vec<(When, Price)>,
    judged: Judged,
}

impl Court<'_> {
    fn tick(&self, at: DateTime<Utc>, price: Price) -> Verdict {
        let Some((last, standing)) = self.known.tick else {
            let live = self.known.live.map(|(last, price)| (price, (at - last).abs()));
            return Verdict::Compare(live, Position(0));
        };
        if at < last || (at == last && price == standing.price) {
            return Verdict::Unchanged;
        }
        let replaced = if at == last { standing.position } else { Position(0) };
        Verdict::Compare(Some((standing.price, at - last)), replaced)
    }

    fn close(&self, day: NaiveDate, price: Price) -> Verdict {
        if let Some(standing) = self.closes.get(&day) {
            if standing.price == price {
                return Verdict::Unchanged;
            }
            // A correction.
            return Verdict::Compare(Some((standing.price, TimeDelta::zero())), standing.position);
        }
        let before = self.closes.range(..day).next_back();
        Verdict::Compare(before.map(|(last, standing)| (standing.price, day - *last)), Position(0))
    }

    fn pronounce(&mut self, seen: Seen, verdict: Verdict) -> Result<(), String> {
        let Verdict::Compare(last, replaced) = verdict else {
            self.judged.unchanged += 1;
            return Ok(());
        };
        let Some((last, age)) = last else {
            self.take(seen, replaced);
            return Ok(());
        };
        let bound = bound(self.bounds.jump_percent, age);
        if is_far(seen.price, last, Decimal::from(self.bounds.refuse_times)) {
            return Err(format!(
                "tells {} of {}, and the last price is {last}: {} times as much, or as little, is no price",
                seen.price, seen.when, self.bounds.refuse_times
            ));
        }
        if !is_beyond(seen.price, last, bound) {
            self.take(seen, replaced);
            return Ok(());
        }
        let before = self.known.held.iter().rev().find(|it| it.when == seen.when && it.price == seen.price);
        let waiting = self.known.held.iter().filter(|it| it.waits).map(|it| (it.when, it.price));
        let mut ahead = waiting.chain(self.open.iter().copied());
        match before {
            Some(before) if !before.waits => self.judged.unchanged += 1,
            Some(_) => self.judged.waiting += 1,
            None if ahead.any(|(when, held)| when < seen.when && !is_beyond(seen.price, held, bound)) => {
                self.judged.waiting += 1;
            }
            None => {
                let reason = format!("is more than {} % away from the last price, {last}", percent(bound));
                self.open.push((seen.when, seen.price));
                self.judged.hold.push((seen, last, reason));
            }
        }
        Ok(())
    }

    fn take(&mut self, seen: Seen, replaced: Position) {
        if let When::Day(day) = seen.when {
            self.closes.insert(day, Standing { price: seen.price, position: Position(0) });
        }
        self.judged.take.push((seen, replaced));
    }
}

/// How much larger the larger of two prices may be, as a share: 0.5 for 50 %.
fn bound(percent: u32, age: TimeDelta) -> Decimal {
    let weeks = (age.num_hours() as f64 / 24.0 / FRESH_DAYS).max(1.0);
    let grown = f64::from(percent) / 100.0 * weeks.sqrt();
    Decimal::from_f64_retain(grown).unwrap_or(Decimal::ONE).round_dp(4)
}

fn percent(bound: Decimal) -> Decimal {
    (bound * Decimal::ONE_HUNDRED).round().normalize()
}

fn is_beyond(price: Price, last: Price, bound: Decimal) -> bool {
    let (larger, smaller) = (price.max(last).decimal(), price.min(last).decimal());
    // Prices end at 10¹⁷ and the bound at a few thousand: a product that is too large is a bound that nothing exceeds.
    smaller.checked_mul(Decimal::ONE + bound).is_some_and(|most| larger > most)
}

fn is_far(price: Price, last: Price, times: Decimal) -> bool {
    let (larger, smaller) = (price.max(last).decimal(), price.min(last).decimal());
    smaller.checked_mul(times).is_some_and(|most| larger >= most)
}

#[cfg(test)]
mod tests;
