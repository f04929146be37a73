//! What a source has told, in a form that has nothing of the source any more; and how numbers and times are read.
//!
//! A text of a provider is repeated in a reason only in part: it may be megabytes, and it may name our own key.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::{Decimal, RoundingStrategy};

use crate::domain::money::{Price, Quantity};

/// Decimals of a price here.
pub const DECIMALS_MAX: u32 = 10;
/// Characters of a provider's text that are repeated.
const REPEATED_CHARS_MAX: usize = 40;

/// When a price was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum When {
    /// A tick: the provider's own time.
    At(DateTime<Utc>),
    /// A close: the exchange's calendar day.
    Day(NaiveDate),
}

/// A price that a source told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub when: When,
    /// Price of one unit, in the unit that the source says.
    pub price: Price,
    /// Units traded, if told.
    pub volume: Option<Quantity>,
}

/// What an answer says of one symbol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The currency, in the provider's spelling, if told.
    pub currency: Option<String>,
    /// The symbol that the answer is about, if told.
    pub symbol: Option<String>,
    /// The prices.
    pub seen: Vec<Seen>,
    /// It also tells of a day that is not over: the same answer has more to give later.
    pub unfinished: bool,
}

impl std::fmt::Display for When {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(at) => write!(f, "{}", at.format("%Y-%m-%dT%H:%M:%SZ")),
            Self::Day(day) => day.fmt(f),
        }
    }
}

/// Reads a price as a provider writes one, rounded to so many decimals.
///
/// # Errors
/// It is no number, or none that a price can be.
pub fn price(text: &str, decimals: u32) -> Result<Price, String> {
    let value = number(text).ok_or_else(|| format!("tells a price that is no number: {}", part(text)))?;
    if value.is_sign_negative() && !value.is_zero() {
        return Err(format!("tells a negative price: {}", part(text)));
    }
    let rounded = round(value, decimals.min(DECIMALS_MAX));
    if rounded.is_zero() {
        return Err("tells the price 0".to_owned());
    }
    // Through text, since that is where the bounds are checked.
    rounded.to_string().parse().map_err(|reason| format!("tells a price that {reason}"))
}

/// Reads a volume. What is no number of units is none: nobody's money hangs on it.
pub fn volume(text: &str) -> Option<Quantity> {
    let value = round(number(text)?, DECIMALS_MAX);
    value.to_string().parse().ok().filter(|volume: &Quantity| !volume.is_negative())
}

/// Reads a calendar day.
///
/// # Errors
/// It is none.
pub fn day(text: &str) -> Result<NaiveDate, String> {
    NaiveDate::from_str(text.trim()).map_err(|_| format!("tells a day that is none: {}", part(text)))
}

/// Reads seconds since 1970.
///
/// # Errors
/// They are beyond what a time can be.
pub fn unix_seconds(seconds: i64) -> Result<DateTime<Utc>, String> {
    DateTime::from_timestamp(seconds, 0).ok_or_else(|| "tells a time that is none".to_owned())
}

/// The beginning of a text, fit for a line.
pub fn part(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut part: String = text.chars().take(REPEATED_CHARS_MAX).map(clean).collect();
    if text.chars().nth(REPEATED_CHARS_MAX).is_some() {
        part.push('…');
    }
    format!("{:?}", part.trim())
}

/// Why this is not the JSON of an answer. A page for people is named as such.
pub fn not_json(body: &[u8], error: &serde_json::Error) -> String {
    if is_html(body) {
        return "answers with a web page".to_owned();
    }
    match error.classify() {
        serde_json::error::Category::Eof => "answers with half a document".to_owned(),
        serde_json::error::Category::Data => "answers with JSON of another shape".to_owned(),
        _ => "answers with what is no JSON".to_owned(),
    }
}

/// Whether this is a page for people.
pub fn is_html(body: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&body[..body.len().min(512)]).trim_start().to_ascii_lowercase();
    head.starts_with("<!doctype html") || head.starts_with("<html") || head.starts_with("<head")
}

fn number(text: &str) -> Option<Decimal> {
    let text = text.trim();
    // Providers write floats: more digits than a decimal holds are cut, as the rounding would.
    Decimal::from_str(text).or_else(|_| Decimal::from_scientific(text)).ok()
}

fn round(value: Decimal, decimals: u32) -> Decimal {
    value.round_dp_with_strategy(decimals, RoundingStrategy::MidpointAwayFromZero).normalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        price(text, 4).map(|price| price.to_string())
    }

    #[test]
    fn a_price_is_read_exactly_or_rounded_as_told() {
        assert_eq!(read("182.31").unwrap(), "182.31");
        assert_eq!(read("182.30999755859375").unwrap(), "182.31");
        assert_eq!(read("1.8231e2").unwrap(), "182.31");
        assert_eq!(price("0.0000012", DECIMALS_MAX).unwrap().to_string(), "0.0000012");
    }

    #[test]
    fn what_no_price_can_be_is_refused_in_our_words() {
        assert_eq!(read("0").unwrap_err(), "tells the price 0");
        assert_eq!(read("0.00001").unwrap_err(), "tells the price 0");
        assert_eq!(read("-3").unwrap_err(), "tells a negative price: \"-3\"");
        for bad in ["", "N/D", "NaN", "inf", "1,5", "1e400"] {
            assert!(read(bad).unwrap_err().starts_with("tells a price that"), "{bad}");
        }
        assert!(read("123456789012345678").unwrap_err().contains("too large"));
        let long = read(&"x".repeat(1_000_000)).unwrap_err();
        assert!(long.len() < 120, "{long}");
        assert_eq!(part("a\nb"), "\"a b\"");
    }

    #[test]
    fn a_page_for_people_is_named() {
        let error = serde_json::from_slice::<Vec<u8>>(b"<html>").unwrap_err();
        assert_eq!(not_json(b" <!DOCTYPE html><p>", &error), "answers with a web page");
        let error = serde_json::from_slice::<Vec<u8>>(b"[1,").unwrap_err();
        assert_eq!(not_json(b"[1,", &error), "answers with half a document");
    }
}
