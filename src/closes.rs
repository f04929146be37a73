//! The real closes that travel inside the program: 20 stocks, 1990–2022. See `demo/data/README.md` for where they are from.
//!
//! The file is the original, compressed; prices have three decimals, so integers of thousandths hold them exactly.

use std::io::Read;

use chrono::NaiveDate;
use flate2::read::GzDecoder;

/// The notice that the licence of the prices asks every copy to carry.
pub const LICENCE: &str = include_str!("demo/data/LICENSE-skfolio.txt");
/// Where the prices are from and what they are not, in a line.
pub const CREDIT: &str =
    "Prices: skfolio 1.12.2 (BSD-3-Clause), adjusted daily closes 1990–2022, for demos and tests only.";

const COMPRESSED: &[u8] = include_bytes!("demo/data/closes.csv.gz");

/// Symbol and name of each column, in the order of the file.
const STOCKS: [(&str, &str); 20] = [
    ("AAPL", "Apple"),
    ("AMD", "Advanced Micro Devices"),
    ("BAC", "Bank of America"),
    ("BBY", "Best Buy"),
    ("CVX", "Chevron"),
    ("GE", "General Electric"),
    ("HD", "Home Depot"),
    ("JNJ", "Johnson & Johnson"),
    ("JPM", "JPMorgan Chase"),
    ("KO", "Coca-Cola"),
    ("LLY", "Eli Lilly"),
    ("MRK", "Merck & Co."),
    ("MSFT", "Microsoft"),
    ("PEP", "PepsiCo"),
    ("PFE", "Pfizer"),
    ("PG", "Procter & Gamble"),
    ("RRC", "Range Resources"),
    ("UNH", "UnitedHealth Group"),
    ("WMT", "Walmart"),
    ("XOM", "Exxon Mobil"),
];

/// Number of stocks in the file.
pub const STOCK_COUNT: usize = STOCKS.len();

/// Closes of all stocks over the same days.
pub struct Closes {
    /// The trading days, ascending.
    pub days: Vec<NaiveDate>,
    /// The stocks, in the order of the file.
    pub stocks: Vec<Stock>,
}

/// One column of the file.
pub struct Stock {
    /// Its symbol.
    pub symbol: &'static str,
    /// The company.
    pub name: &'static str,
    /// Its close on each day, in thousandths of a dollar.
    pub thousandths: Vec<u32>,
}

/// Unpacks the prices, which takes some tens of milliseconds.
pub fn shipped() -> Closes {
    let mut text = String::new();
    GzDecoder::new(COMPRESSED)
        .read_to_string(&mut text)
        .expect("the file is part of the program, and a test unpacks it");
    parse(&text).expect("the file is part of the program, and a test reads it")
}

/// Reads `Date,AAPL,…` and a row a day; `None` if it is anything else.
fn parse(text: &str) -> Option<Closes> {
    let mut lines = text.lines();
    if !lines.next()?.split(',').skip(1).eq(STOCKS.iter().map(|(symbol, _)| *symbol)) {
        return None;
    }
    let column = |(symbol, name)| Stock { symbol, name, thousandths: Vec::new() };
    let mut closes = Closes { days: Vec::new(), stocks: STOCKS.map(column).into() };
    for line in lines {
        let mut cells = line.split(',');
        closes.days.push(cells.next()?.parse().ok()?);
        for stock in &mut closes.stocks {
            stock.thousandths.push(thousandths(cells.next()?)?);
        }
    }
    Some(closes)
}

/// `"4.125"` is 4125; `None` unless it is a positive number with at most three decimals.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let scale = 10_u32.pow(3_u32.checked_sub(u32::try_from(fraction.len()).ok()?)?);
    let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<u32>().ok()? * scale };
    let value = whole.parse::<u32>().ok()?.checked_mul(1_000)?.checked_add(fraction)?;
    (value > 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_stocks_have_a_close_on_each_of_8313_ascending_days() {
        let closes = shipped();
        assert_eq!(closes.days.len(), 8_313);
        assert!(closes.days.is_sorted_by(|a, b| a < b));
        assert_eq!(closes.stocks.len(), STOCK_COUNT);
        assert!(closes.stocks.iter().all(|stock| stock.thousandths.len() == 8_313));
    }

    #[test]
    fn closes_are_what_the_file_says_to_the_digit() {
        let closes = shipped();
        let close = |symbol: &str, day: &str| {
            let row = closes.days.binary_search(&day.parse().unwrap()).unwrap();
            closes.stocks.iter().find(|stock| stock.symbol == symbol).unwrap().thousandths[row]
        };
        assert_eq!(close("AAPL", "1990-01-02"), 264);
        assert_eq!(close("AMD", "2000-01-03"), 15_500);
        assert_eq!(close("GE", "2000-01-03"), 164_647);
        assert_eq!(close("XOM", "2008-10-15"), 36_205);
        assert_eq!(close("UNH", "2022-12-28"), 524_422);
    }

    #[test]
    fn a_price_is_read_exactly_or_not_at_all() {
        assert_eq!(thousandths("4.125"), Some(4_125));
        assert_eq!(thousandths("4.0"), Some(4_000));
        assert_eq!(thousandths("12"), Some(12_000));
        for bad in ["", "0.0", "1.2345", "-1.0", "1e3", "nan"] {
            assert_eq!(thousandths(bad), None, "{bad:?}");
        }
    }
}
