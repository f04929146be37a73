//! Opening, settings, fields of trades, and holdings that are not there.

use super::*;
use crate::domain::asset::AssetDelisted;
use crate::domain::portfolio::command::ChangeAccounting;
use crate::domain::portfolio::event::{AccountingChanged, PortfolioOpened, Trade};

fn bought(events: Result<Vec<PortfolioEvent>, Rejection>) -> Trade {
    match events.as_deref() {
        Ok([PortfolioEvent::AssetBought(trade)]) => trade.clone(),
        other => panic!("{other:?} is not a buy"),
    }
}

fn insufficient(day: &str, held: &str) -> Result<Vec<PortfolioEvent>, Rejection> {
    Err(Rejection::InsufficientHolding { day: self::day(day), held: held.parse().unwrap() })
}

#[test]
fn a_portfolio_is_opened_in_utc_unless_told() {
    let events = Given::nothing().when(&PortfolioCommand::Open(open())).unwrap();
    let [PortfolioEvent::PortfolioOpened(PortfolioOpened { time_zone, name, .. })] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((time_zone.as_str(), name.as_str()), ("UTC", "Pension"));
}

#[test]
fn opening_tells_everything_that_is_wrong() {
    let zone = Some("Mars/Olympus".to_owned());
    let bad = OpenPortfolio { name: "x".repeat(201), time_zone: zone, ..open() };
    assert_eq!(Given::nothing().refused_fields(&PortfolioCommand::Open(bad)), ["name", "time_zone"]);
}

#[test]
fn a_portfolio_is_opened_once() {
    let again = Given::untracked([]).when(&PortfolioCommand::Open(open()));
    assert_eq!(again, Err(Rejection::AlreadyExists { kind: "portfolio" }));
}

#[test]
fn an_unknown_portfolio_is_not_found() {
    for command in [buy("1", "1", "2024-01-01"), deposit("1", "2024-01-01")] {
        assert_eq!(Given::nothing().when(&command), Err(Rejection::NotFound { kind: "portfolio" }));
    }
}

#[test]
fn only_what_is_new_of_the_settings_becomes_an_event() {
    let change = |basis| {
        PortfolioCommand::ChangeAccounting(ChangeAccounting {
            name: Some("Pension".to_owned()),
            cost_basis: Some(basis),
            fees_in_cost: None,
        })
    };
    let given = Given::untracked([]);
    assert_eq!(given.when(&change(CostBasis::Fifo)), Ok(vec![]));
    let expected = AccountingChanged { cost_basis: Some(CostBasis::Hifo), ..AccountingChanged::default() };
    assert_eq!(given.when(&change(CostBasis::Hifo)), Ok(vec![PortfolioEvent::AccountingChanged(expected)]));
    let given = given.after([change(CostBasis::Hifo)]);
    assert_eq!(given.when(&change(CostBasis::Hifo)), Ok(vec![]));
    let nameless = ChangeAccounting { name: Some(String::new()), ..ChangeAccounting::default() };
    assert_eq!(given.refused_fields(&PortfolioCommand::ChangeAccounting(nameless)), ["name"]);
}

#[test]
fn a_trade_carries_its_whole_effect() {
    let pence = asset(AssetClass::Equity, "GBP", "0.01");
    let given = Given::untracked([]).with_asset(Some(pence));
    let trade = bought(given.when(&buy("3", "250.5", "2024-02-29")));
    assert_eq!((trade.amount.to_string(), trade.currency.as_str()), ("7.515".to_owned(), "GBP"));
    assert_eq!((trade.cash, trade.trade_date), (None, day("2024-02-29")));
}

#[test]
fn the_trade_date_defaults_to_today_in_the_zone_of_the_portfolio() {
    let open = OpenPortfolio { time_zone: Some("America/New_York".to_owned()), ..open() };
    let given = Given::nothing().after([PortfolioCommand::Open(open)]).at("2024-03-01T02:00:00Z");
    let today = TradeCommand { trade_date: None, ..trade("1", "1", "2024-01-01") };
    assert_eq!(bought(given.when(&PortfolioCommand::Buy(today))).trade_date, day("2024-02-29"));
    assert_eq!(given.refused_fields(&buy("1", "1", "2024-03-01")), ["trade_date"]);
    assert_eq!(given.refused_fields(&buy("1", "1", "1899-12-31")), ["trade_date"]);
}

#[test]
fn every_impossible_field_of_a_trade_is_told() {
    let bad = TradeCommand {
        currency: Some("EUR".parse().unwrap()),
        fx_rate: Some("0".parse().unwrap()),
        note: Some("\u{0}".to_owned()),
        ..charged("0", "-1", "-0.01", "-5", "2024-03-02")
    };
    let given = Given::untracked([]);
    assert_eq!(
        given.refused_fields(&PortfolioCommand::Buy(bad.clone())),
        ["quantity", "price", "fee", "tax", "fx_rate", "note", "trade_date", "currency"]
    );
    let given = given.with_asset(None);
    assert!(given.refused_fields(&PortfolioCommand::Sell(bad)).contains(&"asset".to_owned()));
    assert_eq!(given.refused_fields(&buy("1", "1", "2024-01-01")), ["asset"]);
}

#[test]
fn settling_in_base_needs_a_rate_unless_the_asset_is_in_base() {
    let settle = |rate: Option<&str>| {
        PortfolioCommand::Buy(TradeCommand {
            settle: Settlement::Base,
            fx_rate: rate.map(|rate| rate.parse().unwrap()),
            ..trade("1", "1", "2024-01-01")
        })
    };
    let in_base = Given::untracked([]);
    assert!(in_base.when(&settle(None)).is_ok());
    assert!(in_base.when(&settle(Some("1"))).is_ok());
    assert_eq!(in_base.refused_fields(&settle(Some("1.1"))), ["fx_rate"]);
    let foreign = in_base.with_asset(Some(asset(AssetClass::Equity, "EUR", "1")));
    assert_eq!(foreign.refused_fields(&settle(None)), ["fx_rate"]);
    assert!(foreign.when(&settle(Some("1.1"))).is_ok());
}

#[test]
fn an_exchange_rate_is_not_traded() {
    let given = Given::untracked([]).with_asset(Some(asset(AssetClass::Fx, "USD", "1")));
    let rejection = given.when(&buy("1", "1", "2024-01-01"));
    assert_eq!(rejection, Err(Rejection::NotTradable { reason: "it is an exchange rate" }));
}

#[test]
fn a_delisted_asset_is_sold_but_not_bought_after_its_last_day() {
    let mut delisted = asset(AssetClass::Equity, "USD", "1");
    let date = day("2024-02-01");
    delisted.evolve(&AssetEvent::AssetDelisted(AssetDelisted { asset_id: ASSET, date, final_price: None }));
    let given = Given::untracked([]).with_asset(Some(delisted)).after([buy("1", "1", "2024-02-01")]);
    assert!(matches!(given.when(&buy("1", "1", "2024-02-02")), Err(Rejection::NotTradable { .. })));
    assert!(given.when(&sell("1", "1", "2024-02-02")).is_ok());
}

#[test]
fn selling_more_than_is_held_is_rejected() {
    let given = Given::untracked([buy("10", "1", "2024-01-02")]);
    assert!(given.when(&sell("10", "1", "2024-01-02")).is_ok());
    assert_eq!(given.when(&sell("10.0000000001", "1", "2024-01-02")), insufficient("2024-01-02", "10"));
    assert_eq!(given.when(&sell("1", "1", "2024-01-01")), insufficient("2024-01-01", "0"));
}

#[test]
fn a_backdated_sale_must_leave_enough_for_every_later_one() {
    let given = Given::untracked([
        buy("10", "1", "2024-01-02"),
        sell("7", "1", "2024-01-10"),
        buy("50", "1", "2024-01-20"),
    ]);
    assert!(given.when(&sell("3", "1", "2024-01-05")).is_ok());
    assert_eq!(given.when(&sell("4", "1", "2024-01-05")), insufficient("2024-01-10", "6"));
    assert!(given.when(&sell("53", "1", "2024-01-20")).is_ok());
}

#[test]
fn more_may_be_sold_than_held_where_shorts_are_allowed() {
    let open = OpenPortfolio { allow_short: true, ..open() };
    let given = Given::nothing().after([PortfolioCommand::Open(open), sell("5", "1", "2024-01-02")]);
    assert_eq!(given.portfolio.quantity(ASSET).to_string(), "-5");
}

#[test]
fn products_and_totals_stay_below_their_bound() {
    let given = Given::untracked([]);
    assert_eq!(given.refused_fields(&buy("999999999999999", "101", "2024-01-01")), ["quantity"]);
    let fee = TradeCommand { fee: "99999999999999999".parse().unwrap(), ..trade("1", "1", "2024-01-01") };
    assert_eq!(given.refused_fields(&PortfolioCommand::Buy(fee)), ["fee"]);
    // Two of 6·10¹⁶ are beyond 10¹⁷, also where one is bought and the other sold.
    let given = given.after([buy("600000000000000", "100", "2024-01-01")]);
    assert_eq!(given.refused_fields(&buy("600000000000000", "100", "2024-01-02")), ["quantity"]);
    assert_eq!(given.refused_fields(&sell("600000000000000", "100", "2024-01-02")), ["quantity"]);
    assert!(given.when(&sell("600000000000000", "10", "2024-01-02")).is_ok());
}

#[test]
fn units_alone_stay_below_their_bound() {
    // A hundred buys of 9.99·10¹⁴ units are 9.99·10¹⁶; one more is beyond 10¹⁷, however little they cost.
    let cheap = buy("999000000000000", "0.0000000001", "2024-01-01");
    let given = Given::untracked(std::iter::repeat_n(cheap.clone(), 100));
    assert_eq!(given.refused_fields(&cheap), ["quantity"]);
}
