//! Yahoo's chart: `GET /v8/finance/chart/{symbol}`.
//!
//! Nobody documents it officially; the shape is that of the public endpoint as its many clients describe it. `close` is
//! corrected for splits and not for dividends (`adjclose` is), so the closes are a series of their own. Numbers are binary
//! floats: `priceHint` says how many decimals are meant. A bar is of the day that its beginning has at the exchange; `gmtoffset`
//! is the offset of today only, and half of the year another one holds. The last bar may be of a day that is not over: it is no close yet.

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use chrono_tz::Tz;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::seen::{self, DECIMALS_MAX, Seen, Told, When};
use super::url::escape;

/// Decimals that are kept where fewer are meant: rates and pennies have them.
const DECIMALS_MIN: u32 = 4;

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    chart: Chart<'a>,
}

#[derive(Deserialize)]
struct Chart<'a> {
    #[serde(borrow)]
    result: Option<Vec<Series<'a>>>,
}

#[derive(Deserialize)]
struct Series<'a> {
    #[serde(borrow)]
    meta: Meta<'a>,
    #[serde(default)]
    timestamp: Vec<i64>,
    #[serde(borrow, default)]
    indicators: Indicators<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta<'a> {
    currency: Option<String>,
    symbol: Option<String>,
    #[serde(default)]
    gmtoffset: i32,
    exchange_timezone_name: Option<String>,
    regular_market_time: Option<i64>,
    #[serde(borrow)]
    regular_market_price: Option<&'a RawValue>,
    #[serde(borrow)]
    regular_market_volume: Option<&'a RawValue>,
    price_hint: Option<u32>,
    current_trading_period: Option<Periods>,
}

#[derive(Deserialize)]
struct Periods {
    regular: Option<Period>,
}

#[derive(Deserialize)]
struct Period {
    start: i64,
    end: i64,
}

#[derive(Deserialize, Default)]
struct Indicators<'a> {
    #[serde(borrow, default)]
    quote: Vec<Bars<'a>>,
}

#[derive(Deserialize)]
struct Bars<'a> {
    #[serde(borrow, default)]
    close: Vec<Option<&'a RawValue>>,
    #[serde(borrow, default)]
    volume: Vec<Option<&'a RawValue>>,
}

/// Where the latest price is.
pub fn quote_url(base: &str, symbol: &str) -> String {
    format!("{base}/v8/finance/chart/{}?interval=1d&range=1d", escape(symbol))
}

/// Where the closes of these days are.
pub fn history_url(base: &str, symbol: &str, since: NaiveDate, until: NaiveDate) -> String {
    let seconds = |day: NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
    let until = until.succ_opt().unwrap_or(until);
    format!(
        "{base}/v8/finance/chart/{}?interval=1d&period1={}&period2={}",
        escape(symbol),
        seconds(since),
        seconds(until)
    )
}

/// The latest price.
///
/// # Errors
/// Why nothing can be taken from it.
pub fn read_quote(body: &[u8]) -> Result<Told, String> {
    let series = series(body)?;
    let meta = &series.meta;
    let (Some(price), Some(at)) = (meta.regular_market_price, meta.regular_market_time) else {
        return Err("tells no price of today".to_owned());
    };
    let price = read_price(price, meta)?;
    let volume = meta.regular_market_volume.and_then(|it| seen::volume(it.get()));
    told(meta, vec![Seen { when: When::At(seen::unix_seconds(at)?), price, volume }])
}

/// The closes of days that are over.
///
/// # Errors
/// Why nothing can be taken from it.
pub fn read_history(body: &[u8], now: DateTime<Utc>) -> Result<Told, String> {
    let series = series(body)?;
    let meta = &series.meta;
    let none = Bars { close: Vec::new(), volume: Vec::new() };
    let bars = series.indicators.quote.first().unwrap_or(&none);
    if bars.close.len() != series.timestamp.len() {
        return Err("tells more days than prices, or fewer".to_owned());
    }
    let day_of = day_at_exchange(meta)?;
    let mut unfinished = false;
    let session = meta.current_trading_period.as_ref().and_then(|periods| periods.regular.as_ref());
    let goes_on =
        |bar: i64| session.is_some_and(|session| bar >= session.start && now.timestamp() < session.end);
    let mut closes: Vec<Seen> = Vec::with_capacity(bars.close.len());
    for (k, (bar, close)) in series.timestamp.iter().zip(&bars.close).enumerate() {
        // A day without trade has a null.
        let Some(close) = close else { continue };
        if goes_on(*bar) {
            unfinished = true;
            continue;
        }
        let day = day_of(seen::unix_seconds(*bar)?);
        let volume = bars.volume.get(k).copied().flatten().and_then(|it| seen::volume(it.get()));
        let seen = Seen { when: When::Day(day), price: read_price(close, meta)?, volume };
        match closes.last_mut() {
            // The newest day comes twice at times: as a day, and as it stands now.
            Some(last) if last.when == seen.when => *last = seen,
            _ => closes.push(seen),
        }
    }
    Ok(Told { unfinished, ..told(meta, closes)? })
}

/// How an instant becomes a day there.
fn day_at_exchange(meta: &Meta<'_>) -> Result<impl Fn(DateTime<Utc>) -> NaiveDate, String> {
    let unknown = || "is in a time zone that does not exist".to_owned();
    let zone: Option<Tz> =
        meta.exchange_timezone_name.as_deref().map(str::parse).transpose().map_err(|_| unknown())?;
    let offset = FixedOffset::east_opt(meta.gmtoffset).ok_or_else(unknown)?;
    Ok(move |at: DateTime<Utc>| match zone {
        Some(zone) => at.with_timezone(&zone).date_naive(),
        None => at.with_timezone(&offset).date_naive(),
    })
}

fn series(body: &[u8]) -> Result<Series<'_>, String> {
    let document: Document<'_> =
        serde_json::from_slice(body).map_err(|error| seen::not_json(body, &error))?;
    let first = document.chart.result.into_iter().flatten().next();
    first.ok_or_else(|| "knows no such symbol".to_owned())
}

fn read_price(raw: &RawValue, meta: &Meta<'_>) -> Result<crate::domain::money::Price, String> {
    // Where nothing is said, nothing is cut off: there are coins of millionths.
    seen::price(
        raw.get(),
        meta.price_hint.map_or(DECIMALS_MAX, |hint| hint.clamp(DECIMALS_MIN, DECIMALS_MAX)),
    )
}

fn told(meta: &Meta<'_>, seen: Vec<Seen>) -> Result<Told, String> {
    let Some(currency) = meta.currency.clone() else { return Err("tells no currency".to_owned()) };
    Ok(Told { currency: Some(currency), symbol: meta.symbol.clone(), seen, ..Told::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTE: &str = r#"{"chart":{"result":[{"meta":{"currency":"USD","symbol":"AAPL","exchangeName":"NMS",
        "gmtoffset":-18000,"regularMarketTime":1709326801,"regularMarketPrice":179.66,"regularMarketVolume":73563082,
        "priceHint":2},"timestamp":[1709303400],"indicators":{"quote":[{"close":[179.66000366210938]}]}}],"error":null}}"#;

    const HISTORY: &str = r#"{"chart":{"result":[{"meta":{"currency":"USD","symbol":"AAPL","gmtoffset":-18000,"priceHint":2,
        "currentTradingPeriod":{"regular":{"timezone":"EST","start":1709303400,"end":1709326800,"gmtoffset":-18000}}},
        "timestamp":[1709130600,1709217000,1709303400],
        "indicators":{"quote":[{"close":[181.4199981689453,null,179.66000366210938],"volume":[48953900,null,73488000]}],
        "adjclose":[{"adjclose":[180.2,null,178.4]}]}}],"error":null}}"#;

    fn now(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_quote_has_the_providers_own_time() {
        let told = read_quote(QUOTE.as_bytes()).unwrap();
        assert_eq!((told.currency.as_deref(), told.symbol.as_deref()), (Some("USD"), Some("AAPL")));
        assert_eq!(told.seen[0].when, When::At(now("2024-03-01T21:00:01Z")));
        assert_eq!(told.seen[0].price, "179.66".parse().unwrap());
    }

    #[test]
    fn closes_are_rounded_nulls_passed_over_and_a_day_that_goes_on_is_no_close() {
        let days = |now_text| {
            let told = read_history(HISTORY.as_bytes(), now(now_text)).unwrap();
            told.seen.iter().map(|seen| format!("{} {}", seen.when, seen.price)).collect::<Vec<_>>()
        };
        assert_eq!(days("2024-03-01T20:59:59Z"), ["2024-02-28 181.42"]);
        let is_unfinished = |at| read_history(HISTORY.as_bytes(), now(at)).unwrap().unfinished;
        assert!(is_unfinished("2024-03-01T20:59:59Z") && !is_unfinished("2024-03-01T21:00:00Z"));
        assert_eq!(days("2024-03-01T21:00:00Z"), ["2024-02-28 181.42", "2024-03-01 179.66"]);
    }

    #[test]
    fn a_close_is_of_the_day_that_its_own_offset_says() {
        let days = |zone: &str, offset: i32, bars: [&str; 2]| {
            let bars = bars.map(|bar| now(bar).timestamp());
            let body = format!(
                r#"{{"chart":{{"result":[{{"meta":{{"currency":"USD","symbol":"X","gmtoffset":{offset},{zone}"priceHint":2}},
                "timestamp":[{},{}],"indicators":{{"quote":[{{"close":[1,2]}}]}}}}]}}}}"#,
                bars[0], bars[1]
            );
            let told = read_history(body.as_bytes(), now("2024-12-01T00:00:00Z")).unwrap();
            told.seen.iter().map(|seen| seen.when.to_string()).collect::<Vec<_>>()
        };
        // Rates have bars that begin at midnight in London, and are asked for in winter.
        let midnights = ["2024-07-01T23:00:00Z", "2024-11-05T00:00:00Z"];
        let london = r#""exchangeTimezoneName":"Europe/London","#;
        assert_eq!(days(london, 0, midnights), ["2024-07-02", "2024-11-05"]);
        assert_eq!(
            days("", 0, midnights),
            ["2024-07-01", "2024-11-05"],
            "without a zone the offset is all there is"
        );
        let new_york = r#""exchangeTimezoneName":"America/New_York","#;
        let midnights = ["2024-07-02T04:00:00Z", "2024-11-05T05:00:00Z"];
        assert_eq!(days(new_york, -18_000, midnights), ["2024-07-02", "2024-11-05"]);
        let nowhere =
            HISTORY.replacen("\"gmtoffset\"", "\"exchangeTimezoneName\":\"Mars/Olympus\",\"gmtoffset\"", 1);
        assert!(
            read_history(nowhere.as_bytes(), now("2024-03-02T00:00:00Z")).unwrap_err().contains("time zone")
        );
    }

    #[test]
    fn without_a_hint_no_decimal_is_lost() {
        let quote = QUOTE.replacen("\n        \"priceHint\":2", "\"exchangeName\":\"CCC\"", 1);
        let quote = quote.replacen("\"exchangeName\":\"NMS\",", "", 1).replacen("179.66", "0.0000123456", 1);
        assert!(!quote.contains("priceHint"));
        assert_eq!(read_quote(quote.as_bytes()).unwrap().seen[0].price, "0.0000123456".parse().unwrap());
    }

    #[test]
    fn nonsense_is_refused() {
        let quote = |from: &str, to: &str| read_quote(QUOTE.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert_eq!(quote("179.66", "0"), "tells the price 0");
        assert_eq!(quote("179.66", "-1"), "tells a negative price: \"-1\"");
        assert!(quote("179.66", "\"179.66\"").contains("no number"));
        assert_eq!(quote("\"currency\":\"USD\",", ""), "tells no currency");
        assert_eq!(read_quote(&QUOTE.as_bytes()[..200]).unwrap_err(), "answers with half a document");
        assert_eq!(read_quote(b"<html></html>").unwrap_err(), "answers with a web page");
        let none = br#"{"chart":{"result":null,"error":{"code":"Not Found","description":"No data found"}}}"#;
        assert_eq!(read_quote(none).unwrap_err(), "knows no such symbol");
        let fewer = HISTORY.replacen("181.4199981689453,null,", "", 1);
        assert!(
            read_history(fewer.as_bytes(), now("2024-03-02T00:00:00Z")).unwrap_err().contains("more days")
        );
    }

    #[test]
    fn addresses_are_those_of_the_chart() {
        assert_eq!(quote_url("https://y", "BRK-B"), "https://y/v8/finance/chart/BRK-B?interval=1d&range=1d");
        let days = ["2024-01-01".parse().unwrap(), "2024-03-01".parse().unwrap()];
        assert_eq!(
            history_url("https://y", "^GSPC", days[0], days[1]),
            "https://y/v8/finance/chart/%5EGSPC?interval=1d&period1=1704067200&period2=1709337600"
        );
    }
}
