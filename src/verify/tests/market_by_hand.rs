//! Which price is live, which close stands, and how a rate is found.

use serde_json::{Value, json};

use super::{ASSET, Told, id, u};
use crate::verify::market::{Asset, Live};

impl Told {
    fn list(&mut self, n: u128, symbol: &str, class: &str, currency: &str, quote_unit: &str) {
        let payload = json!({"asset_id": id(n), "symbol": symbol, "name": symbol, "class": class,
            "currency": currency, "quote_unit": quote_unit});
        self.tell(&format!("asset-{}", id(n)), "AssetListed", payload);
    }

    fn tick(&mut self, n: u128, source: &str, at: &str, price: &str) {
        let currency = self.reference.market.assets[&id(n)].currency.clone();
        let payload = json!({"asset_id": id(n), "source": source, "currency": currency,
            "ticks": [{"at": format!("2024-03-01T{at}Z"), "price": price}]});
        self.tell(&format!("price-{}", id(n)), "PricesObserved", payload);
    }

    fn closes(&mut self, source: &str, closes: Value) {
        let payload = json!({"asset_id": id(ASSET), "source": source, "currency": "USD", "closes": closes});
        self.tell(&format!("price-{}", id(ASSET)), "ClosesObserved", payload);
    }

    fn asset(&self) -> &Asset {
        &self.reference.market.assets[&id(ASSET)]
    }

    fn live(&self) -> Option<(String, String)> {
        self.asset().live().map(|Live { price, source, .. }| (price.to_string(), source))
    }
}

fn listed() -> Told {
    let mut told = Told::default();
    told.list(ASSET, "AAPL", "equity", "USD", "1");
    told
}

fn from(price: &str, source: &str) -> Option<(String, String)> {
    Some((price.to_owned(), source.to_owned()))
}

#[test]
fn the_newest_tick_is_live_and_an_equal_one_changes_nothing() {
    let mut told = listed();
    assert_eq!((told.live(), told.asset().live_position), (None, 1));
    told.tick(ASSET, "a", "10:00:00", "5");
    told.tick(ASSET, "a", "09:59:59", "4");
    told.tick(ASSET, "a", "10:00:00", "5");
    assert_eq!((told.live(), told.asset().live_position), (from("5", "a"), 2));
    told.tick(ASSET, "a", "10:00:00", "6");
    assert_eq!((told.live(), told.asset().live_position), (from("6", "a"), 5));
}

#[test]
fn a_source_more_than_a_quarter_of_an_hour_behind_is_passed_over() {
    let mut told = listed();
    told.tick(ASSET, "a", "10:00:00", "1");
    told.tick(ASSET, "b", "10:15:00", "2");
    assert_eq!(told.live(), from("1", "a"));
    told.tick(ASSET, "b", "10:15:00.000001", "2");
    assert_eq!(told.live(), from("2", "b"));
    told.tick(ASSET, "a", "10:01:00", "3");
    assert_eq!(told.live(), from("3", "a"));
    let ranking = json!({"asset_id": id(ASSET), "sources": [{"source": "b", "adjustment": "none"}]});
    told.tell(&format!("asset-{}", id(ASSET)), "PriceSourcesRanked", ranking);
    assert_eq!(told.live(), from("2", "b"));
}

#[test]
fn a_close_is_live_once_its_day_ends_after_the_last_tick() {
    let mut told = listed();
    told.tick(ASSET, "a", "10:00:00", "1");
    told.closes("b", json!([{"day": "2024-02-29", "price": "7"}]));
    assert_eq!(told.live(), from("1", "a"), "the day ended at midnight, before the tick");
    told.closes("b", json!([{"day": "2024-03-01", "price": "8"}, {"day": "2024-03-01", "price": "9"}]));
    assert_eq!(told.live(), from("9", "b"));
}

#[test]
fn of_a_day_the_last_close_stands_and_an_equal_one_changes_nothing() {
    let mut told = listed();
    told.closes("a", json!([{"day": "2024-02-29", "price": "7"}]));
    told.closes("a", json!([{"day": "2024-02-29", "price": "7.0"}]));
    assert_eq!(told.asset().sources["a"].closes["2024-02-29"].position, 2);
    told.closes("a", json!([{"day": "2024-02-29", "price": "8"}]));
    assert_eq!(told.asset().sources["a"].closes["2024-02-29"].price, u("8"));
    let void = json!({"asset_id": id(ASSET), "source": "a", "day": "2024-02-29", "reason": "wrong"});
    told.tell(&format!("price-{}", id(ASSET)), "PriceVoided", void);
    assert!(told.asset().sources["a"].closes.is_empty());
}

#[test]
fn rates_are_direct_inverse_or_through_a_third_currency() {
    let mut told = Told::default();
    told.list(1, "EURUSD", "fx", "USD", "1");
    told.list(2, "GBPUSD", "fx", "USD", "0.01");
    told.list(3, "AAPLUSD", "equity", "USD", "1");
    told.tick(1, "a", "10:00:00", "1.1");
    told.tick(2, "a", "10:00:00", "125");
    let rate = |from: &str, to: &str| {
        let found = told.reference.market.rate(from, to)?;
        Some((found.rate.to_string(), found.path, found.position))
    };
    assert_eq!(rate("EUR", "EUR"), Some(("1".to_owned(), "same", 0)));
    assert_eq!(rate("EUR", "USD"), Some(("1.1".to_owned(), "direct", 4)));
    // 125 hundredths.
    assert_eq!(rate("GBP", "USD"), Some(("1.25".to_owned(), "direct", 5)));
    // 1 / 1.1 = 0.90909090909…
    assert_eq!(rate("USD", "EUR"), Some(("0.9090909091".to_owned(), "inverse", 4)));
    // 1.25 × 0.9090909091 = 1.136363636375.
    assert_eq!(rate("GBP", "EUR"), Some(("1.1363636364".to_owned(), "through_usd", 5)));
    assert_eq!(rate("AAPL", "USD"), None);
    assert_eq!(rate("CHF", "USD"), None);
}
