//! Stooq's CSV: `GET /q/l/` for the latest price and `GET /q/d/l/` for closes, as the site's own download links ask for them.
//!
//! Closes are corrected for splits and dividends, so they are a series of their own. Times are Warsaw's. No currency is
//! named: the settings do.

use chrono::{NaiveDate, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Europe::Warsaw;

use super::seen::{self, DECIMALS_MAX, Seen, Told, When};
use super::table;
use super::url::escape;

/// Where the latest price is.
pub fn quote_url(base: &str, symbol: &str) -> String {
    format!("{base}/q/l/?s={}&f=sd2t2ohlcv&h&e=csv", escape(&symbol.to_lowercase()))
}

/// Where the closes of these days are.
pub fn history_url(base: &str, symbol: &str, since: NaiveDate, until: NaiveDate) -> String {
    let day = |day: NaiveDate| day.format("%Y%m%d");
    let symbol = escape(&symbol.to_lowercase());
    format!("{base}/q/d/l/?s={symbol}&d1={}&d2={}&i=d", day(since), day(until))
}

/// The latest price.
///
/// # Errors
/// Why nothing can be taken from it.
pub fn read_quote(body: &[u8]) -> Result<Told, String> {
    let rows = table::read(body, &["Symbol", "Date", "Time", "Close"], &["Volume"])?;
    let [row] = &rows[..] else { return Err("answers with more than one line, or none".to_owned()) };
    let [symbol, day, time, close] = &row.cells[..] else {
        return Err("answers with a table of another shape".to_owned());
    };
    if close == "N/D" || day == "N/D" {
        return Err("knows no such symbol".to_owned());
    }
    let told = NaiveDateTime::parse_from_str(&format!("{day} {time}"), "%Y-%m-%d %H:%M:%S");
    let told =
        told.map_err(|_| format!("tells a time that is none: {}", seen::part(&format!("{day} {time}"))))?;
    // Of an hour that comes twice the first; one that never was is refused.
    let at = Warsaw.from_local_datetime(&told).earliest().ok_or("tells a time that never was")?;
    let (price, volume) =
        (seen::price(close, DECIMALS_MAX)?, row.optional[0].as_deref().and_then(seen::volume));
    let seen = Seen { when: When::At(at.with_timezone(&Utc)), price, volume };
    Ok(Told { currency: None, symbol: Some(symbol.clone()), seen: vec![seen], ..Told::default() })
}

/// Closes.
///
/// # Errors
/// Why nothing can be taken from it.
pub fn read_history(body: &[u8]) -> Result<Told, String> {
    if body.trim_ascii().eq_ignore_ascii_case(b"no data") {
        return Err("knows no such symbol, or no prices of these days".to_owned());
    }
    let rows = table::read(body, &["Date", "Close"], &["Volume"])?;
    let closes: Result<Vec<Seen>, String> = rows
        .iter()
        .map(|row| {
            Ok(Seen {
                when: When::Day(seen::day(&row.cells[0])?),
                price: seen::price(&row.cells[1], DECIMALS_MAX)?,
                volume: row.optional[0].as_deref().and_then(seen::volume),
            })
        })
        .collect();
    Ok(Told { currency: None, symbol: None, seen: closes?, ..Told::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_has_warsaws_time() {
        let body = b"Symbol,Date,Time,Open,High,Low,Close,Volume\r\nAAPL.US,2024-03-01,22:00:09,179.55,180.53,177.38,179.66,73563082\r\n";
        let told = read_quote(body).unwrap();
        assert_eq!(told.symbol.as_deref(), Some("AAPL.US"));
        assert_eq!(told.seen[0].when, When::At("2024-03-01T21:00:09Z".parse().unwrap()));
        assert_eq!(told.seen[0].price, "179.66".parse().unwrap());
    }

    #[test]
    fn closes_are_read_and_an_unknown_symbol_is_named() {
        let body = b"Date,Open,High,Low,Close,Volume\n2024-02-29,181.27,182.57,179.53,180.75,136682600\n2024-03-01,179.55,180.53,177.38,179.66,73563082\n";
        assert_eq!(read_history(body).unwrap().seen.len(), 2);
        assert!(read_history(b"No data").unwrap_err().starts_with("knows no such symbol"));
        let unknown = b"Symbol,Date,Time,Open,High,Low,Close,Volume\nX.US,N/D,N/D,N/D,N/D,N/D,N/D,N/D\n";
        assert_eq!(read_quote(unknown).unwrap_err(), "knows no such symbol");
    }

    #[test]
    fn half_a_line_and_a_page_are_refused() {
        let half = b"Date,Open,High,Low,Close,Volume\n2024-02-29,181.27,18";
        assert_eq!(read_history(half).unwrap_err(), "answers with half a table");
        assert_eq!(
            read_history(b"<html>Exceeded the daily hits limit</html>").unwrap_err(),
            "answers with a web page"
        );
        let zero = b"Date,Close\n2024-02-29,0\n";
        assert_eq!(read_history(zero).unwrap_err(), "tells the price 0");
    }
}
