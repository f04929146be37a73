//! A series that its source tells anew: after a dividend or a split, one that is corrected for it has other prices for all
//! days before. Decided without I/O.
//!
//! Known and new prices of such a series never stand side by side: where they meet there would be a return that nobody had. So
//! when a known close comes back different, the whole series is asked for, and judged as one:
//!
//! | its known closes | it |
//! | --- | --- |
//! | are all told, and near what is known | is taken (a dividend, a correction) |
//! | are all higher or lower by one and the same factor, up to some day, and one of them beyond the bound of a jump (a split) | waits for one word, about its first close; then it is taken |
//! | are not all told, and it cannot be known whether what is missing has changed | is refused |
//! | differ in any other way | is refused |
//!
//! The word brings no price by itself: one new close beside old ones is the return that nobody had.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::judge::{
    Bounds, Court, Doubt, HeldBefore, Judged, Known, Standing, Word, bound, in_order, is_beyond, is_far,
};
use super::seen::{Seen, When};
use crate::domain::money::Price;

/// How far two factors are apart that are the same one: prices are rounded, and a dividend may hide in a split.
const SAME_FACTOR: Decimal = Decimal::from_parts(2, 0, 0, false, 2);

/// Whether a known close comes back different.
pub fn differs(known: &Known, seen: &[Seen]) -> bool {
    let is_other = |it: &Seen| match it.when {
        When::Day(day) => known.closes.get(&day).is_some_and(|standing| standing.price != it.price),
        When::At(_) => false,
    };
    seen.iter().any(is_other)
}

/// Judges a series from its first known day on.
///
/// # Errors
/// Why nothing of it is taken.
pub fn judge_whole(
    bounds: Bounds,
    now: DateTime<Utc>,
    settles: Option<Tz>,
    known: &Known,
    seen: Vec<Seen>,
) -> Result<Judged, String> {
    let (seen, passed_over) = in_order(seen, now, settles)?;
    let told = told_again(known, &seen)?;
    let mut court = Court::of(bounds, known);
    let bound = bound(bounds.jump_percent, TimeDelta::zero());
    let is_jump = |it: &Told| is_beyond(it.seen.price, it.standing.price, bound);
    let Some(last_jump) = told.iter().rposition(is_jump) else {
        court.hear(seen)?;
        return Ok(court.judged(passed_over));
    };
    let times = Decimal::from(bounds.refuse_times);
    if told.iter().any(|it| is_far(it.seen.price, it.standing.price, times)) {
        return Err(format!("tells its closes anew, {times} times as high or as low: that is no price"));
    }
    let first = &told[0];
    let held = known.held_before(first.seen.when, first.seen.price);
    // What was taken before a crash stands already; what is left stands since before the word.
    let left = told.iter().position(Told::is_changed).unwrap_or(last_jump);
    let is_word_about_it = |it: &&HeldBefore| told[left].standing.position < it.position;
    let is_accepted = held.filter(is_word_about_it).is_some_and(|it| it.word == Word::Accepted);
    let anew = if is_accepted { left..=last_jump } else { 0..=last_jump };
    // Not only jumps: where the factor is the bound itself (3:2), it is how each close was rounded that makes it one.
    if !is_one_factor(&told[anew]) {
        let jumps = told.iter().filter(|it| is_jump(it)).count();
        // One wrong close among good ones is a question for itself.
        if jumps == 1 {
            court.hear(seen)?;
            return Ok(court.judged(passed_over));
        }
        return Err(format!(
            "tells {jumps} of its closes anew, and not by one factor: name another series in the settings"
        ));
    }
    if is_accepted {
        for it in told.iter().filter(|it| it.is_changed()) {
            court.take(it.seen, it.standing.position);
        }
        court.hear(seen)?;
        return Ok(court.judged(passed_over));
    }
    let mut judged = Judged { passed_over, waiting: seen.len(), ..Judged::default() };
    match held.map(|it| it.word) {
        Some(Word::Waits) => {}
        Some(Word::Dismissed) => {
            return Err(
                "tells its closes anew, which was dismissed: name another series in the settings".to_owned()
            );
        }
        _ => {
            let reason = format!(
                "is told anew, like {} closes in all that are {} times as high as they were; once this one is accepted the \
                 next fetch takes them all",
                told.iter().filter(|it| it.is_changed()).count(),
                factor(first).round_dp(4).normalize()
            );
            let (seen, last) = (first.seen, first.standing.price);
            let after = held.map_or(first.standing.position, |it| it.position.max(first.standing.position));
            judged.waiting -= 1;
            judged.hold.push(Doubt { seen, last, reason, after, told_anew: true });
        }
    }
    Ok(judged)
}

/// A known close as it is told now.
struct Told {
    seen: Seen,
    standing: Standing,
}

impl Told {
    fn is_changed(&self) -> bool {
        self.seen.price != self.standing.price
    }
}

/// The known closes that are told again, by day.
///
/// # Errors
/// One is missing beside one that has changed, so that nobody knows what it would be now.
fn told_again(known: &Known, seen: &[Seen]) -> Result<Vec<Told>, String> {
    let prices: BTreeMap<NaiveDate, &Seen> = seen
        .iter()
        .filter_map(|it| match it.when {
            When::Day(day) => Some((day, it)),
            When::At(_) => None,
        })
        .collect();
    let mut told = Vec::with_capacity(known.closes.len());
    let (mut missing, mut has_changed) = (None, false);
    let lost = |day: NaiveDate| {
        Err(format!(
            "tells its closes anew and not the one of {day}: void that one, or name another series in the settings"
        ))
    };
    for (day, standing) in &known.closes {
        let Some(seen) = prices.get(day) else {
            missing = missing.or(Some(*day));
            continue;
        };
        let again = Told { seen: **seen, standing: *standing };
        if let Some(day) = missing.take().filter(|_| again.is_changed() || has_changed) {
            return lost(day);
        }
        has_changed = again.is_changed();
        told.push(again);
    }
    match missing.filter(|_| has_changed) {
        Some(day) => lost(day),
        None => Ok(told),
    }
}

fn factor(told: &Told) -> Decimal {
    quotient(told.seen.price, told.standing.price)
}

/// Rounded as decimals are; nobody's money hangs on it.
fn quotient(new: Price, old: Price) -> Decimal {
    new.decimal().checked_div(old.decimal()).unwrap_or(Decimal::ZERO)
}

fn is_one_factor(told: &[Told]) -> bool {
    let factors = || told.iter().map(factor);
    let (Some(least), Some(most)) = (factors().min(), factors().max()) else { return false };
    least > Decimal::ZERO && most <= least * (Decimal::ONE + SAME_FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{HeldId, Position};
    use uuid::Uuid;

    const BOUNDS: Bounds = Bounds { jump_percent: 50, refuse_times: 1_000 };

    fn day(day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 2, day).unwrap()
    }

    fn known(closes: &[(u32, &str)]) -> Known {
        let standing = |price: &str| Standing { price: price.parse().unwrap(), position: Position(7) };
        Known {
            closes: closes.iter().map(|(on, price)| (day(*on), standing(price))).collect(),
            ..Known::default()
        }
    }

    fn seen(closes: &[(u32, &str)]) -> Vec<Seen> {
        let seen = |(on, price): &(u32, &str)| Seen {
            when: When::Day(day(*on)),
            price: price.parse().unwrap(),
            volume: None,
        };
        closes.iter().map(seen).collect()
    }

    fn judged(known: &Known, closes: &[(u32, &str)]) -> Result<Judged, String> {
        judge_whole(BOUNDS, "2024-03-01T12:00:00Z".parse().unwrap(), None, known, seen(closes))
    }

    #[test]
    fn after_a_dividend_the_whole_series_is_taken() {
        let known = known(&[(1, "100"), (2, "101"), (5, "102")]);
        let told = [(1, "99"), (2, "99.99"), (5, "100.98"), (6, "101")];
        assert!(differs(&known, &seen(&told)) && !differs(&known, &seen(&[(5, "102"), (6, "101")])));
        let judged = judged(&known, &told).unwrap();
        let taken: Vec<_> = judged.take.iter().map(|(seen, replaced)| (seen.when, replaced.0)).collect();
        let expected = [(1, 7), (2, 7), (5, 7), (6, 0)].map(|(on, replaced)| (When::Day(day(on)), replaced));
        assert_eq!((taken, judged.hold.len()), (expected.to_vec(), 0));
    }

    #[test]
    fn a_split_is_one_question_and_its_answer_takes_all() {
        let mut known = known(&[(1, "100"), (2, "102"), (5, "104")]);
        let told = [(1, "5"), (2, "5.1"), (5, "5.2"), (6, "5.3")];
        let held = judged(&known, &told).unwrap();
        assert_eq!((held.take.len(), held.hold.len(), held.waiting), (0, 1, 3));
        let question = &held.hold[0];
        assert_eq!((question.seen.when, question.last), (When::Day(day(1)), "100".parse().unwrap()));
        assert!(question.told_anew);
        assert!(question.reason.contains("3 closes in all that are 0.05 times"), "{}", question.reason);

        let before = |word| HeldBefore {
            when: question.seen.when,
            price: question.seen.price,
            held_id: HeldId(Uuid::from_u128(1)),
            position: Position(9),
            word,
        };
        known.held = vec![before(Word::Waits)];
        let again = judged(&known, &told).unwrap();
        assert_eq!((again.take.len(), again.hold.len(), again.waiting), (0, 0, 4));
        known.held = vec![before(Word::Dismissed)];
        assert!(judged(&known, &told).unwrap_err().contains("was dismissed"));
        known.held = vec![before(Word::Accepted)];
        let accepted = judged(&known, &told).unwrap();
        let days: Vec<_> = accepted.take.iter().map(|(seen, _)| seen.when).collect();
        assert_eq!(days, [1, 2, 5, 6].map(|on| When::Day(day(on))));
        assert_eq!(accepted.waiting + accepted.hold.len(), 0);
        // What came after the word is another question.
        known.closes.values_mut().for_each(|it| it.position = Position(12));
        let again = judged(&known, &told).unwrap();
        assert_eq!((again.take.len(), again.hold.len(), again.hold[0].after), (0, 1, Position(12)));
    }

    /// After the word about the first close, of which these were taken.
    fn accepted(closes: &[(u32, &str)], taken: &[(u32, &str)], position: i64) -> Known {
        let mut known = known(closes);
        for (on, price) in taken {
            let price = price.parse().unwrap();
            known.closes.insert(day(*on), Standing { price, position: Position(10) });
        }
        let first = "5".parse().unwrap();
        let (held_id, position) = (HeldId(Uuid::from_u128(1)), Position(position));
        known.held = vec![HeldBefore {
            when: When::Day(day(1)),
            price: first,
            held_id,
            position,
            word: Word::Accepted,
        }];
        known
    }

    #[test]
    fn what_a_crash_has_left_of_an_accepted_split_is_taken_later() {
        let closes = [(1, "100"), (2, "102"), (5, "104"), (6, "105")];
        let told = [(1, "5"), (2, "5.1"), (5, "5.2"), (6, "5.25"), (7, "5.3")];
        // An older version of this program appended the first with the word.
        for taken in 0..4 {
            let known = accepted(&closes, &told[..taken], 9);
            let left = judged(&known, &told).unwrap();
            let days: Vec<_> = left.take.iter().map(|(seen, _)| seen.when).collect();
            let expected: Vec<_> = told[taken..].iter().map(|(on, _)| When::Day(day(*on))).collect();
            assert_eq!((days, left.hold.len(), left.waiting), (expected, 0, 0));
        }
        // The word was about what stood then, and not about what came after it.
        let old = judged(&accepted(&closes, &told[..2], 6), &told);
        assert!(old.unwrap_err().contains("not by one factor"));
    }

    #[test]
    fn a_split_that_is_told_late_leaves_the_days_after_it() {
        let known = known(&[(1, "100"), (2, "102"), (5, "5.2")]);
        let held = judged(&known, &[(1, "5"), (2, "5.1"), (5, "5.2")]).unwrap();
        assert_eq!((held.hold.len(), held.waiting), (1, 2));
    }

    #[test]
    fn a_split_by_the_bound_itself_is_one_question_however_its_closes_are_rounded() {
        // 3:2, to four decimals: of these the second and the fourth are more than 50 % away, by a hair.
        let known =
            known(&[(1, "10.02"), (2, "10.01"), (5, "10.03"), (6, "10.04"), (7, "10.03"), (8, "6.7")]);
        let told = [(1, "6.68"), (2, "6.6733"), (5, "6.6867"), (6, "6.6933"), (7, "6.6867"), (8, "6.7")];
        let held = judged(&known, &told).unwrap();
        assert_eq!((held.take.len(), held.hold.len(), held.waiting), (0, 1, 5));
        assert!(held.hold[0].reason.contains("5 closes in all that are 0.6667 times"), "{held:?}");
    }

    #[test]
    fn a_dividend_after_a_split_is_part_of_the_same_question() {
        let known = known(&[(1, "100"), (2, "102"), (5, "51.5"), (6, "52")]);
        let held = judged(&known, &[(1, "49.5"), (2, "50.49"), (5, "50.985"), (6, "52")]).unwrap();
        assert_eq!((held.take.len(), held.hold.len(), held.waiting), (0, 1, 3));
    }

    #[test]
    fn what_has_changed_in_another_way_is_refused() {
        let known = known(&[(1, "100"), (2, "102"), (5, "104"), (6, "105")]);
        let mixed = judged(&known, &[(1, "5"), (2, "10"), (5, "104"), (6, "105")]);
        assert!(mixed.unwrap_err().contains("2 of its closes anew, and not by one factor"));
        let seam = judged(&known, &[(1, "100"), (2, "5.1"), (5, "5.2"), (6, "105")]);
        assert!(seam.unwrap_err().contains("not by one factor"));
        let far = judged(&known, &[(1, "0.1"), (2, "0.1"), (5, "0.1"), (6, "0.1")]);
        assert!(far.unwrap_err().contains("no price"));
        // One wrong close is a question for itself.
        let spike = judged(&known, &[(1, "100"), (2, "102"), (5, "10.4"), (6, "105.5")]).unwrap();
        assert_eq!((spike.take.len(), spike.hold.len()), (1, 1));
    }

    #[test]
    fn a_close_that_is_missing_beside_a_changed_one_is_a_reason_to_refuse() {
        let known = known(&[(1, "100"), (2, "102"), (5, "104"), (6, "105")]);
        let lost = judged(&known, &[(1, "99"), (5, "102.96"), (6, "105")]).unwrap_err();
        assert!(lost.contains("not the one of 2024-02-02"), "{lost}");
        assert!(judged(&known, &[(2, "101"), (5, "104"), (6, "105")]).unwrap_err().contains("2024-02-01"));
        let newest = judged(&known, &[(1, "100"), (2, "102"), (5, "103")]).unwrap_err();
        assert!(newest.contains("2024-02-06"), "{newest}");
        // It is no part of what has changed.
        assert_eq!(judged(&known, &[(1, "99"), (2, "102"), (6, "105")]).unwrap().take.len(), 1);
    }
}
