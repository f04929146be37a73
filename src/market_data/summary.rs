//! What is to be fetched, and what came of it.

use std::fmt;
use std::time::Duration;

use chrono::NaiveDate;

/// What is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// The latest price of each asset, as ticks.
    Quotes,
    /// Closes of past days.
    History,
    /// Closes of exchange rates.
    Rates,
}

impl What {
    /// As it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quotes => "quotes",
            Self::History => "history",
            Self::Rates => "rates",
        }
    }
}

/// A wish to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What.
    pub what: What,
    /// Of these assets, by symbol or id; if there are none, of every asset that somebody holds (rates: of every pair).
    pub symbols: Vec<String>,
    /// From this source instead of the one that the asset ranks or the settings name.
    pub source: Option<String>,
    /// History and rates: from this day on; if not told, from a few days before the latest known one. A series that is
    /// corrected is never asked for from a later day than that.
    pub since: Option<NaiveDate>,
    /// Ask and judge, but append nothing.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What was fetched.
    pub what: What,
    /// Nothing was appended because nobody wanted it.
    pub dry_run: bool,
    /// Assets that were asked for.
    pub asked: u64,
    /// Assets that something new came of.
    pub fetched: u64,
    /// Prices that were appended.
    pub prices: u64,
    /// Assets whose answer held nothing new.
    pub unchanged: u64,
    /// Requests that were sent again.
    pub retried: u64,
    /// Assets with a price that waits for somebody to confirm it.
    pub held: u64,
    /// Their symbols.
    pub waiting: Vec<String>,
    /// What was refused, and why; in the order of the symbols.
    pub refused: Vec<Refused>,
    /// How long it took.
    pub took: Duration,
}

/// An asset that nothing was taken for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// As it was asked for.
    pub symbol: String,
    /// The source, if it came to that.
    pub source: String,
    /// Why, in a sentence.
    pub reason: String,
}

impl Summary {
    /// Whether the answers of all assets are in.
    pub fn is_complete(&self) -> bool {
        self.refused.is_empty() && self.held == 0
    }

    /// The assets of which another answer may bring more: what was refused, and what waits.
    pub fn open(&self) -> Vec<String> {
        self.refused.iter().map(|refused| &refused.symbol).chain(&self.waiting).cloned().collect()
    }
}

/// A sentence: for a log, or as the result of a run.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, asked, fetched, prices, unchanged, retried, held, refused, took, dry_run, .. } =
            self;
        let (what, refused_count, seconds) = (what.as_str(), refused.len(), took.as_secs_f64());
        write!(
            f,
            "{what} of {asked} assets in {seconds:.1} s: {fetched} fetched ({prices} prices), {unchanged} unchanged, \
             {retried} retried, {refused_count} refused, {held} held"
        )?;
        if *dry_run {
            f.write_str(", nothing appended")?;
        }
        match refused.first() {
            Some(first) => write!(f, "; {}: {}", first.symbol, first.reason),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_a_sentence_that_names_the_first_refusal() {
        let refused = Refused { symbol: "X".into(), source: "demo".into(), reason: "price 0".into() };
        let mut summary = Summary {
            what: What::Quotes,
            dry_run: false,
            asked: 3,
            fetched: 1,
            prices: 1,
            unchanged: 1,
            retried: 2,
            held: 0,
            waiting: Vec::new(),
            refused: vec![refused],
            took: Duration::from_millis(1_250),
        };
        assert_eq!(
            summary.to_string(),
            "quotes of 3 assets in 1.2 s: 1 fetched (1 prices), 1 unchanged, 2 retried, 1 refused, 0 held; X: price 0"
        );
        assert!(!summary.is_complete());
        summary.refused.clear();
        assert!(summary.is_complete());
    }
}
