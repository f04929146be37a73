//! Lots, gains and charges, each with the arithmetic beside it.

use serde_json::{Value, json};

use super::{ASSET, PORTFOLIO, Told, id, u};
use crate::verify::ledger::Holding;

const NOTHING: Value = Value::Null;

fn held(told: &Told) -> Holding {
    told.ledger().holdings[&id(ASSET)].clone()
}

/// Position, quantity and cost of each lot.
fn lots(holding: &Holding) -> Vec<(i64, String, String)> {
    holding.lots.iter().map(|lot| (lot.position, lot.quantity.to_string(), lot.cost.to_string())).collect()
}

fn lot(position: i64, quantity: &str, cost: &str) -> (i64, String, String) {
    (position, quantity.to_owned(), cost.to_owned())
}

/// 10 for 100 (position 2), 10 for 130 (3), 10 for 90 (4); then 15 are sold for 240 (5).
fn three_buys_and_a_sale(cost_basis: &str) -> Holding {
    let told = Told::portfolio(cost_basis, false)
        .trade("buy", 1, "10", "100", NOTHING)
        .trade("buy", 2, "10", "130", NOTHING)
        .trade("buy", 3, "10", "90", NOTHING)
        .trade("sell", 4, "15", "240", NOTHING);
    held(&told)
}

#[test]
fn fifo_takes_the_oldest() {
    // Cost 100 + 5/10 × 130 = 165, gain 240 − 165 = 75.
    let holding = three_buys_and_a_sale("fifo");
    assert_eq!(holding.realized_gain, u("75"));
    assert_eq!(lots(&holding), [lot(3, "5", "65"), lot(4, "10", "90")]);
}

#[test]
fn lifo_takes_the_newest() {
    // Cost 90 + 5/10 × 130 = 155, gain 85.
    let holding = three_buys_and_a_sale("lifo");
    assert_eq!(holding.realized_gain, u("85"));
    assert_eq!(lots(&holding), [lot(2, "10", "100"), lot(3, "5", "65")]);
}

#[test]
fn hifo_takes_the_dearest_and_of_equals_the_oldest() {
    // 13 a unit, then 10 a unit: 130 + 5/10 × 100 = 180, gain 60.
    let holding = three_buys_and_a_sale("hifo");
    assert_eq!(holding.realized_gain, u("60"));
    assert_eq!(lots(&holding), [lot(2, "5", "50"), lot(4, "10", "90")]);

    // 20 for 200 and 10 for 100 are equally dear; the older goes.
    let told = Told::portfolio("hifo", false)
        .trade("buy", 1, "20", "200", NOTHING)
        .trade("buy", 2, "10", "100", NOTHING)
        .trade("sell", 3, "5", "60", NOTHING);
    assert_eq!(lots(&held(&told)), [lot(2, "15", "150"), lot(3, "10", "100")]);
}

#[test]
fn average_keeps_one_pool_and_rounds_what_leaves_it() {
    // 320 for 30; 15 leave with 160, gain 80.
    let holding = three_buys_and_a_sale("average");
    assert_eq!(holding.realized_gain, u("80"));
    assert_eq!(lots(&holding), [lot(2, "15", "160")]);

    // 100 for 3: one leaves with 33.3333333333, the next two with the rest, so that the pool is empty to the digit.
    let told = Told::portfolio("average", false)
        .trade("buy", 1, "3", "100", NOTHING)
        .trade("sell", 2, "1", "40", NOTHING);
    assert_eq!(held(&told).realized_gain, u("6.6666666667"));
    assert_eq!(lots(&held(&told)), [lot(2, "2", "66.6666666667")]);
    let told = told.trade("sell", 3, "2", "70", NOTHING).trade("buy", 4, "1", "8", NOTHING);
    // 6.6666666667 + 70 − 66.6666666667 = 10; a new pool begins.
    assert_eq!(held(&told).realized_gain, u("10"));
    assert_eq!(lots(&held(&told)), [lot(5, "1", "8")]);
}

#[test]
fn charges_are_in_cost_or_apart() {
    let history = |fees_in_cost| {
        let told = Told::portfolio("fifo", fees_in_cost)
            .trade("buy", 1, "10", "100", json!({"fee": "2", "tax": "1"}))
            .trade("sell", 2, "5", "80", json!({"fee": "3", "tax": "4"}));
        held(&told)
    };
    // In cost: 103 for 10, so 51.5 for 5; 80 − 3 − 51.5 = 25.5; only the sale's tax is apart.
    let holding = history(true);
    assert_eq!((holding.realized_gain, holding.fees, holding.taxes), (u("25.5"), u("0"), u("4")));
    assert_eq!(lots(&holding), [lot(2, "5", "51.5")]);
    // Apart: 80 − 50 = 30; fees 2 + 3, taxes 1 + 4.
    let holding = history(false);
    assert_eq!((holding.realized_gain, holding.fees, holding.taxes), (u("30"), u("5"), u("5")));
}

#[test]
fn a_sale_through_zero_closes_and_opens_in_proportion() {
    // 3 held for 30. 10 sold for 99.99 less a fee of 0.99 = 99: 3/10 close, 29.7 − 30 = −0.3; 7 open short for 69.3.
    let told = Told::portfolio("fifo", true).trade("buy", 1, "3", "30", NOTHING).trade(
        "sell",
        2,
        "10",
        "99.99",
        json!({"fee": "0.99"}),
    );
    assert_eq!(held(&told).realized_gain, u("-0.3"));
    assert_eq!(lots(&held(&told)), [lot(3, "-7", "-69.3")]);
    // 2 covered for 15: their proceeds are 2/7 × 69.3 = 19.8, gain 4.8.
    let told = told.trade("buy", 3, "2", "15", NOTHING);
    assert_eq!(held(&told).realized_gain, u("4.5"));
    assert_eq!(lots(&held(&told)), [lot(3, "-5", "-49.5")]);
    // 6 bought for 40: 5/6 × 40 = 33.3333333333 cover 49.5 (gain 16.1666666667), one opens for 6.6666666667.
    let told = told.trade("buy", 4, "6", "40", NOTHING);
    assert_eq!(held(&told).realized_gain, u("20.6666666667"));
    assert_eq!(lots(&held(&told)), [lot(5, "1", "6.6666666667")]);
}

#[test]
fn the_dearest_short_lot_is_the_one_with_the_least_proceeds() {
    // 10 short for 100, 10 short for 90; covering 10 for 80 gains least on the second: 90 − 80.
    let told = Told::portfolio("hifo", false)
        .trade("sell", 1, "10", "100", NOTHING)
        .trade("sell", 2, "10", "90", NOTHING)
        .trade("buy", 3, "10", "80", NOTHING);
    assert_eq!(held(&told).realized_gain, u("10"));
    assert_eq!(lots(&held(&told)), [lot(2, "-10", "-100")]);
}

#[test]
fn a_backdated_fact_takes_its_place_in_time() {
    // The buy for 50 is told last but comes first: fifo sells it. 5 of 10: 60 − 25.
    let told = Told::portfolio("fifo", false)
        .trade("buy", 3, "10", "100", NOTHING)
        .trade("sell", 4, "5", "60", NOTHING)
        .trade("buy", 1, "10", "50", NOTHING);
    assert_eq!(held(&told).realized_gain, u("35"));
    assert_eq!(lots(&held(&told)), [lot(4, "5", "25"), lot(2, "10", "100")]);
    assert_eq!(told.ledger().last, Some(("2024-01-04".to_owned(), 3)));
}

#[test]
fn another_cost_basis_applies_to_the_whole_history() {
    let mut told = Told::portfolio("fifo", false)
        .trade("buy", 1, "10", "100", NOTHING)
        .trade("buy", 2, "10", "130", NOTHING)
        .trade("sell", 3, "10", "140", NOTHING);
    assert_eq!(held(&told).realized_gain, u("40"));
    told.tell(&format!("portfolio-{}", id(PORTFOLIO)), "AccountingChanged", json!({"cost_basis": "lifo"}));
    assert_eq!(held(&told).realized_gain, u("10"));
}

#[test]
fn a_pool_weighs_its_rate_by_cost() {
    // 100 at 0.9 and 300 at 0.8: (90 + 240) / 400 = 0.825. An unknown rate makes it unknown.
    let told = Told::portfolio("average", false)
        .trade("buy", 1, "1", "100", json!({"fx_rate": "0.9"}))
        .trade("buy", 2, "1", "300", json!({"fx_rate": "0.8"}));
    assert_eq!(held(&told).lots[0].fx_rate, Some(u("0.825")));
    let told = told.trade("buy", 3, "1", "100", NOTHING);
    assert_eq!(held(&told).lots[0].fx_rate, None);
}

#[test]
fn cash_is_what_was_booked_and_a_shortfall_is_told() {
    let mut told = Told::portfolio("fifo", false);
    let stream = format!("portfolio-{}", id(PORTFOLIO));
    let cash = |amount: &str| json!({"amount": amount, "currency": "EUR", "trade_date": "2024-01-02"});
    told.tell(&stream, "CashDeposited", cash("100"));
    told.tell(&stream, "CashWithdrawn", cash("30.01"));
    let booked = json!({"cash": {"currency": "EUR", "amount": "-19.99"}});
    let told = told.trade("buy", 3, "1", "22", booked.clone());
    assert_eq!(told.ledger().cash["EUR"], u("50"));
    assert!(told.ledger().shortfalls.is_empty());
    // The same payment a day before the deposit.
    let told = told.trade("buy", 1, "1", "22", booked);
    assert_eq!(told.ledger().shortfalls, ["-19.99 EUR on 2024-01-01 after position 5"]);
}

#[test]
fn an_impossible_event_is_unreadable() {
    let mut told = Told::portfolio("fifo", false);
    let stream = format!("portfolio-{}", id(PORTFOLIO));
    let cash = json!({"amount": "-5", "currency": "EUR", "trade_date": "2024-01-02"});
    for (stream, event_type, payload) in [
        (stream.as_str(), "CashDeposited", cash),
        (stream.as_str(), "PortfolioOpened", json!({})),
        (stream.as_str(), "AssetListed", json!({})),
        ("portfolio-other", "CashDeposited", json!({})),
        ("cash-1", "CashDeposited", json!({})),
    ] {
        let event = told.event(stream, event_type, &payload);
        assert!(told.reference.take(&event).is_err(), "{event_type} {payload} in {stream}");
    }
}
