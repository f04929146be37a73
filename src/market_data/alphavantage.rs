//! Alpha Vantage: `GLOBAL_QUOTE` and `TIME_SERIES_DAILY`, as <https://www.alphavantage.co/documentation/> shows them.
//!
//! Closes are as traded, corrected for nothing. Answers name no currency: the settings do. A quote has a day and no time,
//! so it stands at the beginning of that day. What is wrong comes with status 200, and the text may repeat our key: it is
//! never repeated here.

use std::collections::BTreeMap;

use chrono::{NaiveDate, NaiveTime};
use serde::Deserialize;

use super::seen::{self, DECIMALS_MAX, Seen, Told, When};
use super::url::escape;

/// The compact answer has the latest hundred days of trading, which span at least so many calendar days.
const COMPACT_DAYS: i64 = 130;

/// What says so is a sentence, and no answer with prices is read twice.
const LIMIT_BYTES_MAX: usize = 4 << 10;

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "Global Quote")]
    quote: Option<Quote>,
    #[serde(rename = "Time Series (Daily)")]
    days: Option<BTreeMap<String, Day>>,
    #[serde(rename = "Meta Data")]
    about: Option<About>,
    #[serde(rename = "Error Message")]
    error: Option<serde::de::IgnoredAny>,
    /// Why there is nothing else in it.
    #[serde(rename = "Note")]
    note: Option<serde::de::IgnoredAny>,
    #[serde(rename = "Information")]
    information: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct About {
    #[serde(rename = "2. Symbol")]
    symbol: Option<String>,
}

#[derive(Deserialize)]
struct Quote {
    #[serde(rename = "01. symbol")]
    symbol: Option<String>,
    #[serde(rename = "05. price")]
    price: Option<String>,
    #[serde(rename = "06. volume")]
    volume: Option<String>,
    #[serde(rename = "07. latest trading day")]
    day: Option<String>,
}

#[derive(Deserialize)]
struct Day {
    #[serde(rename = "4. close")]
    close: String,
    #[serde(rename = "5. volume")]
    volume: Option<String>,
}

/// Where the latest price is.
pub fn quote_url(base: &str, symbol: &str, key: &str) -> String {
    format!("{base}/query?function=GLOBAL_QUOTE&symbol={}&apikey={}", escape(symbol), escape(key))
}

/// Where the closes from a day on are.
pub fn history_url(base: &str, symbol: &str, key: &str, since: NaiveDate, today: NaiveDate) -> String {
    let size = if (today - since).num_days() <= COMPACT_DAYS { "compact" } else { "full" };
    format!(
        "{base}/query?function=TIME_SERIES_DAILY&symbol={}&outputsize={size}&apikey={}",
        escape(symbol),
        escape(key)
    )
}

/// The latest price.
///
/// # Errors
/// Why nothing can be taken from it.
pub fn read_quote(body: &[u8]) -> Result<Told, String> {
    let quote = document(body)?.quote.ok_or("answers with JSON of another shape")?;
    // An unknown symbol is an empty quote.
    let (Some(price), Some(day)) = (quote.price, quote.day) else {
        return Err("knows no such symbol".to_owned());
    };
    let at = seen::day(&day)?.and_time(NaiveTime::MIN).and_utc();
    let volume = quote.volume.as_deref().and_then(seen::volume);
    let seen = Seen { when: When::At(at), price: seen::price(&price, DECIMALS_MAX)?, volume };
    Ok(Told { currency: None, symbol: quote.symbol, seen: vec![seen], ..Told::default() })
}

/// The closes from a day on.
///
/// # Errors
/// Why nothing can be taken from it.
pub fn read_history(body: &[u8], since: NaiveDate) -> Result<Told, String> {
    let document = document(body)?;
    let days = document.days.ok_or("answers with JSON of another shape")?;
    let mut closes = Vec::new();
    for (text, day) in &days {
        let date = seen::day(text)?;
        if date >= since {
            let volume = day.volume.as_deref().and_then(seen::volume);
            let price = seen::price(&day.close, DECIMALS_MAX)?;
            closes.push(Seen { when: When::Day(date), price, volume });
        }
    }
    Ok(Told {
        currency: None,
        symbol: document.about.and_then(|about| about.symbol),
        seen: closes,
        ..Told::default()
    })
}

/// Whether this says, with status 200, that no more is answered for now.
pub fn is_limit(body: &[u8]) -> bool {
    body.len() <= LIMIT_BYTES_MAX
        && serde_json::from_slice::<Document>(body)
            .is_ok_and(|it| it.note.is_some() || it.information.is_some())
}

fn document(body: &[u8]) -> Result<Document, String> {
    let document: Document = serde_json::from_slice(body).map_err(|error| seen::not_json(body, &error))?;
    if document.error.is_some() {
        return Err("knows no such symbol, or does not take the key".to_owned());
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTE: &str = r#"{"Global Quote":{"01. symbol":"IBM","02. open":"185.4900","03. high":"188.3800",
        "04. low":"185.1800","05. price":"188.2000","06. volume":"4028373","07. latest trading day":"2024-03-01",
        "08. previous close":"185.0300","09. change":"3.1700","10. change percent":"1.7132%"}}"#;

    const HISTORY: &str = r#"{"Meta Data":{"1. Information":"Daily Prices (open, high, low, close) and Volumes",
        "2. Symbol":"IBM","3. Last Refreshed":"2024-03-01","4. Output Size":"Compact","5. Time Zone":"US/Eastern"},
        "Time Series (Daily)":{"2024-03-01":{"1. open":"185.49","2. high":"188.38","3. low":"185.18","4. close":"188.20",
        "5. volume":"4028373"},"2024-02-29":{"1. open":"186.15","2. high":"186.84","3. low":"184.69","4. close":"185.03",
        "5. volume":"6458546"}}}"#;

    #[test]
    fn a_quote_and_closes_are_read() {
        let told = read_quote(QUOTE.as_bytes()).unwrap();
        assert_eq!(told.seen[0].when, When::At("2024-03-01T00:00:00Z".parse().unwrap()));
        assert_eq!(told.seen[0].price, "188.2".parse().unwrap());
        let told = read_history(HISTORY.as_bytes(), "2024-03-01".parse().unwrap()).unwrap();
        assert_eq!((told.seen.len(), told.symbol.as_deref()), (1, Some("IBM")));
        assert_eq!(told.seen[0].volume, Some("4028373".parse().unwrap()));
    }

    #[test]
    fn what_is_wrong_is_told_without_our_key() {
        let limit = br#"{"Information":"We have detected your API key as SECRET and our standard API rate limit is 25"}"#;
        assert!(!read_quote(limit).unwrap_err().contains("SECRET"));
        assert!(is_limit(limit) && is_limit(br#"{"Note":"5 calls per minute"}"#));
        assert!(!is_limit(QUOTE.as_bytes()) && !is_limit(HISTORY.as_bytes()) && !is_limit(b"{}"));
        let error = br#"{"Error Message":"Invalid API call for SECRET."}"#;
        assert!(read_history(error, NaiveDate::MIN).unwrap_err().starts_with("knows no such symbol"));
        assert_eq!(read_quote(br#"{"Global Quote":{}}"#).unwrap_err(), "knows no such symbol");
        assert!(read_quote(b"{}").unwrap_err().contains("another shape"));
        let text = QUOTE.replacen("188.2000", "soon", 1);
        assert!(read_quote(text.as_bytes()).unwrap_err().contains("no number"));
    }

    #[test]
    fn many_days_need_the_full_answer() {
        let today = "2024-03-01".parse().unwrap();
        let url = |since: &str| history_url("https://a", "IBM", "k", since.parse().unwrap(), today);
        assert!(url("2024-01-01").contains("outputsize=compact"));
        assert!(url("2020-01-01").contains("outputsize=full"));
    }
}
