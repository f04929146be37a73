//! Which closes are asked for today: all of them once, and what was refused or waits again and again, after a growing pause.
//!
//! A source that is away when a day begins costs minutes and not the day; a symbol that it will never know costs a question an
//! hour. What waits for a word is fetched soon after somebody has said it.

use std::time::Duration;

use chrono::NaiveDate;
use tokio::time::Instant;

use super::summary::Summary;

/// Pauses double up to this.
const PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// How far a day's closes are.
#[derive(Debug)]
pub struct Daily {
    /// The day that was asked about last.
    day: Option<NaiveDate>,
    /// Of which nothing came yet.
    open: Vec<String>,
    again_at: Option<Instant>,
    pause_first: Duration,
    pause: Duration,
}

impl Daily {
    /// Nobody was asked yet. What is open is asked for again after this pause, then after twice as long.
    #[must_use]
    pub fn new(pause_first: Duration) -> Self {
        Self { day: None, open: Vec::new(), again_at: None, pause_first, pause: pause_first }
    }

    /// The symbols to ask for now; an empty list is all.
    #[must_use]
    pub fn due(&self, today: NaiveDate, now: Instant) -> Option<Vec<String>> {
        if self.day != Some(today) {
            return Some(Vec::new());
        }
        self.again_at.is_some_and(|at| now >= at).then(|| self.open.clone())
    }

    /// Takes in what came of asking. A fetch that could not even begin is none.
    pub fn asked(&mut self, today: NaiveDate, now: Instant, summary: &Summary) {
        let is_again = self.day == Some(today);
        self.pause = if is_again { (self.pause * 2).min(PAUSE_MAX) } else { self.pause_first };
        self.day = Some(today);
        self.open = summary.open();
        self.again_at = (!self.open.is_empty()).then(|| now + self.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market_data::{Refused, What};

    fn summary(refused: &[&str], waiting: &[&str]) -> Summary {
        let refused = refused.iter().map(|symbol| Refused {
            symbol: (*symbol).to_owned(),
            source: "yahoo".into(),
            reason: "cannot be reached".into(),
        });
        Summary {
            what: What::History,
            dry_run: false,
            asked: 3,
            fetched: 0,
            prices: 0,
            unchanged: 0,
            retried: 0,
            held: waiting.len() as u64,
            waiting: waiting.iter().map(ToString::to_string).collect(),
            refused: refused.collect(),
            took: Duration::ZERO,
        }
    }

    #[test]
    fn what_did_not_come_is_asked_for_again_after_a_growing_pause_until_the_day_ends() {
        let today: NaiveDate = "2024-03-01".parse().unwrap();
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let (began, mut daily) = (Instant::now(), Daily::new(minutes(5)));
        assert_eq!(daily.due(today, began), Some(Vec::new()), "all");
        daily.asked(today, began, &summary(&["KO", "PEP"], &["SPLIT"]));
        let (mut at, mut pauses) = (began, Vec::new());
        for _ in 0..6 {
            let again = at + (1..100).map(minutes).find(|it| daily.due(today, at + *it).is_some()).unwrap();
            assert_eq!(daily.due(today, again).unwrap(), ["KO", "PEP", "SPLIT"]);
            pauses.push((again - at).as_secs() / 60);
            daily.asked(today, again, &summary(&["KO", "PEP"], &["SPLIT"]));
            at = again;
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        daily.asked(today, at, &summary(&[], &[]));
        assert_eq!(daily.due(today, at + minutes(600)), None, "all came");
        let tomorrow = today.succ_opt().unwrap();
        assert_eq!(daily.due(tomorrow, at), Some(Vec::new()));
        daily.asked(tomorrow, at, &summary(&["KO"], &[]));
        assert_eq!(daily.due(tomorrow, at + minutes(5)).unwrap(), ["KO"], "and from the first pause on");
    }
}
