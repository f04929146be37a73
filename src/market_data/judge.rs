//! What is believed of an answer, decided without I/O.
//!
//! | an observation | becomes |
//! | --- | --- |
//! | known at its time with the same price, or a tick before the newest | unchanged |
//! | of a day that goes on | passed over: it is no close yet, and an answer with nothing else is refused |
//! | of a day that has begun nowhere, or not yet where the source settles its closes; in the future; the same time told with two prices; the last price [`Bounds::refuse_times`] over, or below | the whole answer is refused |
//! | further from the last price than [`Bounds::jump_percent`] | held, once; what agrees with it afterwards waits behind it |
//! | anything else | taken; what waited for the same time is dismissed |
//!
//! The last price is the close before. Closes before the first known one are judged backwards, each by the one after it; of a
//! series without closes the newest is compared with the asset's price of any source.
//!
//! Far means: the larger price is so many percent above the smaller one. That is the same up and down. Prices wander with the
//! square root of time, so the bound grows with it when the last price is older than a week.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::seen::{Seen, When};
use crate::domain::dates;
use crate::domain::ids::{HeldId, Position};
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
    /// Its id.
    pub held_id: HeldId,
    /// The event that says what became of it.
    pub position: Position,
    /// What became of it.
    pub word: Word,
}

/// What somebody has said about a held price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Nothing yet.
    Waits,
    /// It is right.
    Accepted,
    /// It is wrong.
    Dismissed,
}

/// What is known of an asset and a series before the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The newest tick of the series.
    pub tick: Option<(DateTime<Utc>, Standing)>,
    /// The closes of the series, as far back as the answer goes and one further.
    pub closes: BTreeMap<NaiveDate, Standing>,
    /// What the first tick and the first close are compared with: the asset's price of any source.
    pub live: Option<(DateTime<Utc>, Price)>,
    /// Prices of the series that were held back, in the order in which that happened.
    pub held: Vec<HeldBefore>,
}

/// What is to be done about an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// To be appended, with the event that each replaces.
    pub take: Vec<(Seen, Position)>,
    /// To be held.
    pub hold: Vec<Doubt>,
    /// Held before, and wait for nothing any more: another price stands at their time.
    pub dismiss: Vec<HeldId>,
    /// Held before or behind a held one: somebody has to say a word first.
    pub waiting: usize,
    /// Known already.
    pub unchanged: usize,
    /// Of days that go on: there will be a close, in an answer that may be the same.
    pub passed_over: usize,
}

impl Judged {
    /// Whether nothing of the answer counts: all of it was passed over.
    pub fn is_empty(&self) -> bool {
        self.take.is_empty() && self.hold.is_empty() && self.waiting + self.unchanged == 0
    }
}

/// A price that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// It.
    pub seen: Seen,
    /// The price that it is far from.
    pub last: Price,
    /// Why.
    pub reason: String,
    /// The event that it would replace, or that settled the same price before: after it this is another question.
    pub after: Position,
    /// It stands for a series that is told anew.
    pub told_anew: bool,
}

/// Judges the prices of an answer. Where the source `settles` its closes, those of today are final.
///
/// # Errors
/// Why nothing of it is taken.
pub fn judge(
    bounds: Bounds,
    now: DateTime<Utc>,
    settles: Option<Tz>,
    known: &Known,
    seen: Vec<Seen>,
) -> Result<Judged, String> {
    let (seen, passed_over) = in_order(seen, now, settles)?;
    let mut court = Court::of(bounds, known);
    court.hear(seen)?;
    Ok(court.judged(passed_over))
}

/// By time, each once, and how many were of days that go on. What lies ahead, or is told twice with two prices, makes all of
/// it doubtful.
pub(super) fn in_order(
    mut seen: Vec<Seen>,
    now: DateTime<Utc>,
    settles: Option<Tz>,
) -> Result<(Vec<Seen>, usize), String> {
    // The last day that may have a price, and the last whose close is one.
    let (latest, over) = match settles {
        Some(zone) => (dates::today(now, zone), dates::today(now, zone)),
        None => (dates::latest_day(now), now.date_naive() - TimeDelta::days(1)),
    };
    for it in &seen {
        let checked = match it.when {
            When::At(at) => dates::check_instant(at, now),
            When::Day(day) => dates::check_day(day, latest),
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
        When::Day(day) => day <= over,
        When::At(_) => true,
    };
    let told = seen.len();
    seen.retain(is_over);
    let passed_over = told - seen.len();
    Ok((seen, passed_over))
}

enum Verdict {
    Unchanged,
    /// To be compared with the last price, as old as this; replaces the event.
    Compare(Option<(Price, TimeDelta)>, Position),
}

/// Which way prices are judged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    Backward,
}

pub(super) struct Court<'a> {
    bounds: Bounds,
    known: &'a Known,
    /// Known ones and those that were taken.
    closes: BTreeMap<NaiveDate, Standing>,
    /// Held in this answer.
    open: Vec<Price>,
    /// What stands now, of what was told.
    stands: HashMap<When, Price>,
    judged: Judged,
}

impl<'a> Court<'a> {
    pub(super) fn of(bounds: Bounds, known: &'a Known) -> Self {
        let (open, stands, judged) = Default::default();
        Self { bounds, known, closes: known.closes.clone(), open, stands, judged }
    }

    /// Judges prices that come by time.
    pub(super) fn hear(&mut self, seen: Vec<Seen>) -> Result<(), String> {
        // With nothing to compare with, the first is believed and those after it are judged by it.
        let live = self.known.live.map(|_| NaiveDate::MAX);
        let first = self.closes.keys().next().copied().or(live);
        let is_before =
            |it: &Seen| matches!(it.when, When::Day(day) if first.is_some_and(|first| day < first));
        let (before, after): (Vec<Seen>, Vec<Seen>) = seen.into_iter().partition(is_before);
        for seen in after {
            let verdict = match seen.when {
                When::At(at) => self.tick(at, seen.price),
                When::Day(day) => self.close(day, seen.price),
            };
            self.pronounce(seen, verdict, Way::Forward)?;
        }
        self.open.clear();
        for seen in before.into_iter().rev() {
            let When::Day(day) = seen.when else { continue };
            let verdict = self.close(day, seen.price);
            self.pronounce(seen, verdict, Way::Backward)?;
        }
        Ok(())
    }

    /// What came of it. What is taken comes by time, so that what a crash leaves undone is the newest, which is asked for again.
    pub(super) fn judged(self, passed_over: usize) -> Judged {
        let mut judged = self.judged;
        judged.take.sort_by_key(|(seen, _)| seen.when);
        let is_over = |held: &&HeldBefore| {
            held.word == Word::Waits && self.stands.get(&held.when).is_some_and(|price| *price != held.price)
        };
        judged.dismiss = self.known.held.iter().filter(is_over).map(|held| held.held_id).collect();
        judged.passed_over = passed_over;
        judged
    }

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
        let next = before.or_else(|| self.closes.range(day..).next());
        let next = next.map(|(other, standing)| (standing.price, (day - *other).abs()));
        let live = || self.known.live.map(|(at, price)| (price, (day - at.date_naive()).abs()));
        Verdict::Compare(next.or_else(live), Position(0))
    }

    fn pronounce(&mut self, seen: Seen, verdict: Verdict, way: Way) -> Result<(), String> {
        let Verdict::Compare(last, replaced) = verdict else {
            // An older tick is passed over; anything else that is known stands.
            if matches!(seen.when, When::Day(_))
                || self.known.tick.is_some_and(|(at, _)| When::At(at) == seen.when)
            {
                self.stands.insert(seen.when, seen.price);
            }
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
        let before = self.known.held_before(seen.when, seen.price);
        let is_ahead = |when: When| if way == Way::Forward { when < seen.when } else { when > seen.when };
        let waiting = self.known.held.iter().filter(|it| it.word == Word::Waits && is_ahead(it.when));
        let mut ahead = waiting.map(|it| it.price).chain(self.open.iter().copied());
        match before.map(|before| before.word) {
            Some(Word::Dismissed) => self.judged.unchanged += 1,
            Some(Word::Waits) => self.judged.waiting += 1,
            _ if ahead.any(|held| !is_beyond(seen.price, held, bound)) => self.judged.waiting += 1,
            // What was accepted and does not stand any more is asked again.
            _ => {
                let reason = format!("is more than {} % away from the last price, {last}", percent(bound));
                self.open.push(seen.price);
                let after = before.map_or(replaced, |before| before.position.max(replaced));
                self.judged.hold.push(Doubt { seen, last, reason, after, told_anew: false });
            }
        }
        Ok(())
    }

    pub(super) fn take(&mut self, seen: Seen, replaced: Position) {
        if let When::Day(day) = seen.when {
            self.closes.insert(day, Standing { price: seen.price, position: Position(0) });
        }
        self.stands.insert(seen.when, seen.price);
        self.judged.take.push((seen, replaced));
    }
}

impl Known {
    /// The latest time that this price was held back.
    pub(super) fn held_before(&self, when: When, price: Price) -> Option<&HeldBefore> {
        self.held.iter().rev().find(|it| it.when == when && it.price == price)
    }
}

/// How much larger the larger of two prices may be, as a share: 0.5 for 50 %.
pub(super) fn bound(percent: u32, age: TimeDelta) -> Decimal {
    let weeks = (age.num_hours() as f64 / 24.0 / FRESH_DAYS).max(1.0);
    let grown = f64::from(percent) / 100.0 * weeks.sqrt();
    Decimal::from_f64_retain(grown).unwrap_or(Decimal::ONE).round_dp(4)
}

fn percent(bound: Decimal) -> Decimal {
    (bound * Decimal::ONE_HUNDRED).round().normalize()
}

pub(super) fn is_beyond(price: Price, last: Price, bound: Decimal) -> bool {
    let (larger, smaller) = (price.max(last).decimal(), price.min(last).decimal());
    // Prices end at 10¹⁷ and the bound at a few thousand: a product that is too large is a bound that nothing exceeds.
    smaller.checked_mul(Decimal::ONE + bound).is_some_and(|most| larger > most)
}

pub(super) fn is_far(price: Price, last: Price, times: Decimal) -> bool {
    let (larger, smaller) = (price.max(last).decimal(), price.min(last).decimal());
    smaller.checked_mul(times).is_some_and(|most| larger >= most)
}

#[cfg(test)]
mod tests;
