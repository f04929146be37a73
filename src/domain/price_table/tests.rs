//! Given market events, then live prices and rates.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::*;
use crate::domain::asset::{Adjustment, AssetListed, AssetRenamed, PriceSourcesRanked, RankedSource};
use crate::domain::money::Rate;
use crate::domain::price::{ClosesObserved, PriceVoided, PricesObserved, Tick};

const APPLE: AssetId = AssetId(Uuid::from_u128(1));

/// Applies events at positions 1, 2, 3, … and remembers what each changed.
#[derive(Default)]
struct Market {
    table: PriceTable,
    position: i64,
}

impl Market {
    fn with_apple() -> Self {
        let mut market = Self::default();
        market.list(1, "AAPL", AssetClass::Equity, "USD", "1");
        market
    }

    fn next(&mut self) -> Position {
        self.position += 1;
        Position(self.position)
    }

    fn list(&mut self, id: u128, symbol: &str, class: AssetClass, currency: &str, quote_unit: &str) {
        let listed = AssetListed {
            asset_id: AssetId(Uuid::from_u128(id)),
            symbol: symbol.parse().unwrap(),
            name: symbol.to_owned(),
            class,
            currency: currency.parse().unwrap(),
            quote_unit: quote_unit.parse().unwrap(),
            isin: None,
            exchange: None,
        };
        let position = self.next();
        self.table.apply_asset(position, &AssetEvent::AssetListed(listed));
    }

    fn rank(&mut self, sources: &[&str]) -> bool {
        let ranked = |s: &&str| RankedSource { source: (*s).to_owned(), adjustment: Adjustment::None };
        let sources = sources.iter().map(ranked).collect();
        let event = AssetEvent::PriceSourcesRanked(PriceSourcesRanked { asset_id: APPLE, sources });
        let position = self.next();
        self.table.apply_asset(position, &event).live
    }

    fn ticks(&mut self, source: &str, ticks: &[(&str, &str)]) -> bool {
        let tick =
            |(at, price): &(&str, &str)| Tick { at: clock(at), price: price.parse().unwrap(), volume: None };
        let event = PriceEvent::PricesObserved(PricesObserved {
            asset_id: APPLE,
            source: source.to_owned(),
            currency: Currency::usd(),
            ticks: ticks.iter().map(tick).collect(),
        });
        let position = self.next();
        self.table.apply_prices(position, &event).live
    }

    fn closes(&mut self, id: u128, source: &str, closes: &[(&str, &str)]) -> Changed {
        let close = |(day, price): &(&str, &str)| Close {
            day: day.parse().unwrap(),
            price: price.parse().unwrap(),
            volume: None,
        };
        let event = PriceEvent::ClosesObserved(ClosesObserved {
            asset_id: AssetId(Uuid::from_u128(id)),
            source: source.to_owned(),
            currency: Currency::usd(),
            closes: closes.iter().map(close).collect(),
        });
        let position = self.next();
        self.table.apply_prices(position, &event)
    }

    fn void(&mut self, source: &str, at: Option<&str>, day: Option<&str>) -> bool {
        let event = PriceEvent::PriceVoided(PriceVoided {
            asset_id: APPLE,
            source: source.to_owned(),
            at: at.map(clock),
            day: day.map(|day| day.parse().unwrap()),
            reason: "a typing error".to_owned(),
        });
        let position = self.next();
        self.table.apply_prices(position, &event).live
    }

    /// Price, source and position of what is believed.
    fn live(&self) -> Option<(String, String, i64)> {
        let live = self.table.live(APPLE)?;
        Some((live.price.to_string(), live.source.to_string(), live.position.0))
    }

    fn rate(&self, from: &str, to: &str) -> Option<(String, RatePath, i64)> {
        let rate = self.table.rate(&from.parse().unwrap(), &to.parse().unwrap())?;
        Some((rate.rate.to_string(), rate.path, rate.position.0))
    }
}

/// A time of day of 2024-03-01, UTC.
fn clock(time: &str) -> DateTime<Utc> {
    format!("2024-03-01T{time}:00Z").parse().unwrap()
}

fn believed(price: &str, source: &str, position: i64) -> Option<(String, String, i64)> {
    Some((price.to_owned(), source.to_owned(), position))
}

#[test]
fn the_newest_tick_is_the_one_with_the_greatest_instant_then_position() {
    let mut market = Market::with_apple();
    assert_eq!(market.live(), None);
    assert!(market.ticks("a", &[("10:00", "1"), ("10:05", "2"), ("10:02", "3")]));
    assert_eq!(market.live(), believed("2", "a", 2));
    assert!(!market.ticks("a", &[("10:04", "9")]));
    assert!(!market.ticks("a", &[("10:05", "2")]));
    assert_eq!(market.live(), believed("2", "a", 2));
    assert!(market.ticks("a", &[("10:05", "4")]));
    assert_eq!(market.live(), believed("4", "a", 5));
}

#[test]
fn the_best_source_speaks_until_it_is_stale() {
    let mut market = Market::with_apple();
    assert!(!market.rank(&["best", "good"]));
    market.ticks("good", &[("10:00", "1")]);
    assert!(market.ticks("best", &[("09:50", "2")]));
    assert_eq!(market.live(), believed("2", "best", 4));
    assert!(!market.ticks("good", &[("10:05", "3")]), "15 minutes behind is not stale");
    assert_eq!(market.live(), believed("2", "best", 4));
    assert!(market.ticks("good", &[("10:06", "4")]), "16 minutes behind is");
    assert_eq!(market.live(), believed("4", "good", 6));
    assert!(!market.rank(&["good", "best"]));
    assert!(!market.ticks("best", &[("10:07", "5")]));
    assert!(market.rank(&["best"]), "what is not ranked comes after what is");
    assert_eq!(market.live(), believed("5", "best", 9));
}

#[test]
fn sources_that_are_not_ranked_are_believed_in_order_of_first_use() {
    let mut market = Market::with_apple();
    market.ticks("zeta", &[("10:00", "1")]);
    assert!(!market.ticks("alpha", &[("10:01", "2")]));
    assert_eq!(market.live(), believed("1", "zeta", 2));
}

#[test]
fn a_close_lies_at_the_end_of_its_day() {
    let mut market = Market::with_apple();
    market.ticks("a", &[("23:59", "1")]);
    assert!(market.closes(1, "b", &[("2024-03-01", "2")]).live);
    let live = market.table.live(APPLE).unwrap();
    assert_eq!((live.kind, live.at.to_rfc3339()), (PriceKind::Close, "2024-03-02T00:00:00+00:00".to_owned()));
    let mut market = Market::with_apple();
    market.ticks("a", &[("00:00", "1")]);
    assert!(!market.closes(1, "b", &[("2024-02-29", "2")]).live, "the close is not later than the tick");
}

#[test]
fn closes_are_written_once_a_day_and_only_if_they_are_news() {
    let mut market = Market::with_apple();
    let days = |changed: Changed| -> Vec<String> {
        changed.closes.iter().map(|close| format!("{} {}", close.day, close.price)).collect()
    };
    let first = market.closes(1, "a", &[("2024-02-02", "2"), ("2024-02-01", "1"), ("2024-02-02", "3")]);
    assert_eq!(days(first), ["2024-02-01 1", "2024-02-02 3"]);
    let again = market.closes(1, "a", &[("2024-02-02", "3")]);
    assert_eq!(again, Changed::default());
    assert_eq!(market.live(), believed("3", "a", 2));
    let corrected = market.closes(1, "a", &[("2024-02-02", "4")]);
    assert!(corrected.live);
    assert_eq!(days(corrected), ["2024-02-02 4"]);
    let older = market.closes(1, "a", &[("2024-02-01", "1")]);
    assert!(!older.live, "an older close changes no live price");
}

#[test]
fn a_price_taken_back_leaves_what_the_other_sources_say() {
    let mut market = Market::with_apple();
    market.closes(1, "b", &[("2024-02-29", "1")]);
    market.ticks("a", &[("10:00", "2")]);
    assert!(!market.void("a", Some("10:01"), None), "another instant");
    assert!(!market.void("c", Some("10:00"), None), "another source");
    assert!(market.void("a", Some("10:00"), None));
    assert_eq!(market.live(), believed("1", "b", 6));
    assert!(market.void("b", None, Some("2024-02-29")));
    assert_eq!(market.live(), None);
}

#[test]
fn prices_of_an_unknown_asset_change_nothing() {
    let mut market = Market::default();
    assert!(!market.ticks("a", &[("10:00", "1")]));
    assert!(!market.rank(&["a"]));
    assert_eq!(market.table, PriceTable::new());
}

#[test]
fn a_rate_is_looked_for_directly_then_inversely_then_through_dollars_and_euros() {
    let mut market = Market::default();
    market.list(1, "EURUSD", AssetClass::Fx, "USD", "1");
    market.list(2, "GBPUSD", AssetClass::Fx, "USD", "1");
    market.list(3, "EURCHF", AssetClass::Fx, "CHF", "1");
    market.list(4, "EURNOK", AssetClass::Fx, "NOK", "1");
    market.list(5, "JPYUSD", AssetClass::Fx, "USD", "0.01");
    assert_eq!(market.rate("EUR", "USD"), None, "no price yet");
    for (id, price) in [(1, "1.25"), (2, "1.5"), (3, "0.95"), (4, "11.4"), (5, "0.66")] {
        market.closes(id, "ecb", &[("2024-03-01", price)]);
    }
    let found = |rate: &str, path, position| Some((rate.to_owned(), path, position));
    assert_eq!(market.rate("EUR", "EUR"), found("1", RatePath::Same, 0));
    assert_eq!(market.rate("EUR", "USD"), found("1.25", RatePath::Direct, 6));
    assert_eq!(market.rate("USD", "EUR"), found("0.8", RatePath::Inverse, 6));
    // 1.5 USD for a pound, at 0.8 EUR for a dollar.
    assert_eq!(market.rate("GBP", "EUR"), found("1.2", RatePath::ThroughUsd, 7));
    // 1 / 0.95 = 1.0526315789 EUR for a franc, at 11.4 NOK for a euro: 11.99999999946, rounded.
    assert_eq!(market.rate("CHF", "NOK"), found("11.9999999995", RatePath::ThroughEur, 9));
    // 0.66 hundredths of a dollar for a yen.
    assert_eq!(market.rate("JPY", "USD"), found("0.0066", RatePath::Direct, 10));
    assert_eq!(market.rate("CHF", "BTC"), None);
}

#[test]
fn a_rate_through_another_is_as_old_as_the_older_of_both() {
    let mut market = Market::default();
    market.list(1, "EURUSD", AssetClass::Fx, "USD", "1");
    market.list(2, "GBPUSD", AssetClass::Fx, "USD", "1");
    market.closes(1, "ecb", &[("2024-02-28", "1.25")]);
    market.closes(2, "ecb", &[("2024-02-29", "1.5")]);
    let rate = market.table.rate(&"GBP".parse().unwrap(), &Currency::eur()).unwrap();
    assert_eq!(rate.at, Some("2024-02-29T00:00:00Z".parse().unwrap()));
}

#[test]
fn a_renamed_pair_prices_other_currencies() {
    let mut market = Market::default();
    market.list(1, "EURUSD", AssetClass::Fx, "USD", "1");
    market.closes(1, "ecb", &[("2024-03-01", "1.25")]);
    let renamed = AssetRenamed { asset_id: APPLE, symbol: "GBPUSD".parse().unwrap() };
    assert!(market.table.apply_asset(Position(3), &AssetEvent::AssetRenamed(renamed)).live);
    assert_eq!(market.rate("EUR", "USD"), None);
    assert_eq!(market.rate("GBP", "USD"), Some(("1.25".to_owned(), RatePath::Direct, 3)));
}

#[test]
fn a_restored_table_is_the_same_table() {
    let mut market = Market::with_apple();
    market.list(2, "EURUSD", AssetClass::Fx, "USD", "1");
    market.rank(&["best"]);
    market.ticks("zeta", &[("10:00", "1")]);
    market.ticks("alpha", &[("10:00", "2")]);
    market.ticks("best", &[("10:00", "3")]);
    market.closes(2, "ecb", &[("2024-03-01", "1.25")]);
    let mut stored: Vec<AssetPrices> = market.table.assets().cloned().collect();
    for asset in &mut stored {
        asset.sources.reverse();
    }
    assert_eq!(PriceTable::restore(stored), market.table);
    assert_eq!(market.table.asset(APPLE).unwrap().quote_unit, Rate::ONE);
}
