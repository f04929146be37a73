//! Tracked cash: what is booked, in which currency, and what cannot be paid.

use super::*;
use crate::domain::money::Amount;
use crate::domain::portfolio::event::CashEffect;

fn effect(events: Result<Vec<PortfolioEvent>, Rejection>) -> CashEffect {
    match events.as_deref() {
        Ok([PortfolioEvent::AssetBought(trade) | PortfolioEvent::AssetSold(trade)]) => {
            trade.cash.clone().unwrap()
        }
        other => panic!("{other:?} is not a trade"),
    }
}

fn booked(amount: &str, currency: &str) -> CashEffect {
    CashEffect { currency: currency.parse().unwrap(), amount: amount.parse().unwrap() }
}

fn insufficient(day: &str, currency: &str, available: &str) -> Result<Vec<PortfolioEvent>, Rejection> {
    Err(Rejection::InsufficientCash {
        day: self::day(day),
        currency: currency.to_owned(),
        available: available.parse().unwrap(),
    })
}

#[test]
fn a_portfolio_without_a_cash_ledger_moves_no_cash() {
    let given = Given::untracked([]);
    assert_eq!(given.when(&deposit("1", "2024-01-01")), Err(Rejection::CashUntracked));
    assert_eq!(given.when(&withdraw("1", "2024-01-01")), Err(Rejection::CashUntracked));
}

#[test]
fn a_buy_pays_amount_fee_and_tax_and_a_sale_brings_what_is_left_after_them() {
    let given = Given::tracked([deposit("1000", "2024-01-01")]);
    let bought = PortfolioCommand::Buy(charged("10", "10.5", "1.5", "0.5", "2024-01-02"));
    assert_eq!(effect(given.when(&bought)), booked("-107", "USD"));
    let given = given.after([bought]);
    let sold = PortfolioCommand::Sell(charged("10", "11", "1.5", "2", "2024-01-03"));
    assert_eq!(effect(given.when(&sold)), booked("106.5", "USD"));
    let given = given.after([sold]);
    assert_eq!(given.portfolio.cash(&"USD".parse().unwrap()), "999.5".parse::<Amount>().unwrap());
}

#[test]
fn cash_is_rounded_half_even_to_the_minor_unit_where_it_is_booked() {
    let given = Given::tracked([deposit("100.005", "2024-01-01")]);
    assert_eq!(given.portfolio.cash(&"USD".parse().unwrap()).to_string(), "100");
    assert_eq!(effect(given.when(&buy("1", "1.015", "2024-01-01"))), booked("-1.02", "USD"));
    assert_eq!(effect(given.when(&buy("1", "1.025", "2024-01-01"))), booked("-1.02", "USD"));
    assert_eq!(given.refused_fields(&deposit("0.005", "2024-01-01")), ["amount"]);
    assert_eq!(given.refused_fields(&deposit("0", "2024-01-01")), ["amount"]);
    assert_eq!(given.refused_fields(&withdraw("-1", "2024-01-01")), ["amount"]);
}

#[test]
fn a_trade_is_paid_in_the_currency_of_the_asset_or_in_base_at_its_rate() {
    let euros = CashCommand { currency: Some("EUR".parse().unwrap()), ..movement("50", "2024-01-01") };
    let given = Given::tracked([deposit("1000", "2024-01-01"), PortfolioCommand::Deposit(euros)])
        .with_asset(Some(asset(AssetClass::Equity, "EUR", "1")));
    assert_eq!(effect(given.when(&buy("1", "50", "2024-01-01"))), booked("-50", "EUR"));
    assert_eq!(given.when(&buy("1", "51", "2024-01-01")), insufficient("2024-01-01", "EUR", "50"));
    let in_base = TradeCommand {
        settle: Settlement::Base,
        fx_rate: Some("1.0803".parse().unwrap()),
        ..trade("1", "51", "2024-01-01")
    };
    // 51 × 1.0803 = 55.0953
    assert_eq!(effect(given.when(&PortfolioCommand::Buy(in_base))), booked("-55.1", "USD"));
}

#[test]
fn what_cannot_be_paid_on_some_day_is_rejected() {
    let given = Given::tracked([
        deposit("100", "2024-01-02"),
        withdraw("70", "2024-01-10"),
        deposit("500", "2024-01-20"),
    ]);
    assert!(given.when(&buy("3", "10", "2024-01-05")).is_ok());
    assert_eq!(given.when(&buy("4", "10", "2024-01-05")), insufficient("2024-01-10", "USD", "60"));
    assert_eq!(given.when(&buy("1", "10", "2024-01-01")), insufficient("2024-01-01", "USD", "0"));
    assert_eq!(given.when(&withdraw("530.01", "2024-01-20")), insufficient("2024-01-20", "USD", "530"));
}

#[test]
fn a_sale_whose_charges_exceed_its_proceeds_must_be_paid_too() {
    let given = Given::tracked([deposit("10", "2024-01-01"), buy("1", "10", "2024-01-01")]);
    let worthless = PortfolioCommand::Sell(charged("1", "0.01", "5", "0", "2024-01-02"));
    assert_eq!(given.when(&worthless), insufficient("2024-01-02", "USD", "0"));
}

#[test]
fn cash_totals_stay_below_their_bound() {
    let given = Given::tracked([deposit("60000000000000000", "2024-01-01")]);
    assert_eq!(given.refused_fields(&deposit("40000000000000000", "2024-01-01")), ["amount"]);
}
