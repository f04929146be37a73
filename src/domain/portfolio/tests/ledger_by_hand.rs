//! Ledgers worked by hand: every cost basis, with fees apart and in cost.

use super::*;
use crate::domain::portfolio::ledger::{Accounting, Holding, Ledger};

/// Lots (units, cost), cost, gain, fees and taxes of the one holding.
type Figures = (Vec<(String, String)>, String, String, String, String);

fn figures(holding: &Holding) -> Figures {
    let lots = holding.lots.iter().map(|lot| (lot.quantity.to_string(), lot.cost.to_string())).collect();
    let text = |amount: crate::domain::money::Amount| amount.to_string();
    (lots, text(holding.cost), text(holding.realized_gain), text(holding.fees), text(holding.taxes))
}

fn expected(lots: &[(&str, &str)], cost: &str, gain: &str, fees: &str, taxes: &str) -> Figures {
    let lots = lots.iter().map(|(units, cost)| ((*units).to_owned(), (*cost).to_owned())).collect();
    (lots, cost.to_owned(), gain.to_owned(), fees.to_owned(), taxes.to_owned())
}

fn derive(cost_basis: CostBasis, fees_in_cost: bool, history: Vec<PortfolioCommand>) -> Holding {
    let open = OpenPortfolio { allow_short: true, ..open() };
    let given = Given::nothing().after([PortfolioCommand::Open(open)]).after(history);
    let ledger = Ledger::derive(Accounting { cost_basis, fees_in_cost }, &given.entries);
    ledger.holding(ASSET).unwrap().clone()
}

/// Three buys of 100 (fee 1, tax 0.5), 120 (fee 2) and 55 (fee 1), then a sale of 12 units for 156 (fee 3, tax 2).
fn history() -> Vec<PortfolioCommand> {
    vec![
        PortfolioCommand::Buy(charged("10", "10", "1", "0.5", "2024-01-02")),
        PortfolioCommand::Buy(charged("10", "12", "2", "0", "2024-01-03")),
        PortfolioCommand::Buy(charged("5", "11", "1", "0", "2024-01-04")),
        PortfolioCommand::Sell(charged("12", "13", "3", "2", "2024-01-05")),
    ]
}

#[test]
fn fees_apart() {
    // Fees 1 + 2 + 1 + 3 = 7 and taxes 0.5 + 2 = 2.5 touch neither cost nor gain.
    let figures = |basis| figures(&derive(basis, false, history()));

    // All of the first lot, 100, and 2/10 of the second, 24: gain 156 − 124.
    let fifo = expected(&[("8", "96"), ("5", "55")], "151", "32", "7", "2.5");
    assert_eq!(figures(CostBasis::Fifo), fifo);
    // All of the third, 55, and 7/10 of the second, 84: gain 156 − 139.
    let lifo = expected(&[("10", "100"), ("3", "36")], "136", "17", "7", "2.5");
    assert_eq!(figures(CostBasis::Lifo), lifo);
    // The units cost 10, 12, 11: all of the second, 120, and 2/5 of the third, 22: gain 156 − 142.
    let hifo = expected(&[("10", "100"), ("3", "33")], "133", "14", "7", "2.5");
    assert_eq!(figures(CostBasis::Hifo), hifo);
    // One pool of 25 units for 275, of which 12/25 are 132: gain 156 − 132.
    let average = expected(&[("13", "143")], "143", "24", "7", "2.5");
    assert_eq!(figures(CostBasis::Average), average);
}

#[test]
fn fees_in_cost() {
    // The lots cost 101.5, 122 and 56, the sale brings 153; only its tax is apart.
    let figures = |basis| figures(&derive(basis, true, history()));

    // 101.5 and 2/10 of 122 = 24.4: gain 153 − 125.9.
    let fifo = expected(&[("8", "97.6"), ("5", "56")], "153.6", "27.1", "0", "2");
    assert_eq!(figures(CostBasis::Fifo), fifo);
    // 56 and 7/10 of 122 = 85.4: gain 153 − 141.4.
    let lifo = expected(&[("10", "101.5"), ("3", "36.6")], "138.1", "11.6", "0", "2");
    assert_eq!(figures(CostBasis::Lifo), lifo);
    // The units cost 10.15, 12.2, 11.2: 122 and 2/5 of 56 = 22.4: gain 153 − 144.4.
    let hifo = expected(&[("10", "101.5"), ("3", "33.6")], "135.1", "8.6", "0", "2");
    assert_eq!(figures(CostBasis::Hifo), hifo);
    // 12/25 of 279.5 are 134.16: gain 153 − 134.16.
    let average = expected(&[("13", "145.34")], "145.34", "18.84", "0", "2");
    assert_eq!(figures(CostBasis::Average), average);
}

#[test]
fn the_last_part_of_a_lot_takes_what_rounding_left() {
    let sales = ["2024-01-03", "2024-01-04", "2024-01-05"];
    let mut history = vec![buy("3", "3.3333333333", "2024-01-02")];
    // 3 × 3.3333333333 = 9.9999999999, a third of which is 3.3333333333.
    history.push(sell("1", "5", sales[0]));
    let after_one = derive(CostBasis::Fifo, false, history.clone());
    assert_eq!(
        figures(&after_one),
        expected(&[("2", "6.6666666666")], "6.6666666666", "1.6666666667", "0", "0")
    );

    // A fee makes the lot cost 10: parts of 3.3333333333, 3.3333333334 (half to even), and 3.3333333333.
    history[0] = PortfolioCommand::Buy(charged("3", "3.3333333333", "0.0000000001", "0", "2024-01-02"));
    let rests = ["6.6666666667", "3.3333333333", "0"];
    for (i, rest) in rests.into_iter().enumerate() {
        history.truncate(1);
        history.extend(sales[..=i].iter().map(|day| sell("1", "5", day)));
        assert_eq!(derive(CostBasis::Fifo, true, history.clone()).cost.to_string(), rest);
    }
    let closed = derive(CostBasis::Fifo, true, history);
    assert_eq!(figures(&closed), expected(&[], "0", "5", "0", "0"));
}

#[test]
fn a_sale_through_zero_closes_what_is_held_and_opens_a_short_lot_with_the_rest() {
    let mut history = vec![
        buy("5", "10", "2024-01-02"),
        PortfolioCommand::Sell(charged("8", "12", "4", "1", "2024-01-03")),
    ];
    // It brings 96 − 4 = 92: 5/8 are 57.5, a gain of 7.5; the short lot takes the other 34.5.
    let short = derive(CostBasis::Fifo, true, history.clone());
    assert_eq!(figures(&short), expected(&[("-3", "-34.5")], "-34.5", "7.5", "0", "1"));

    // The cover costs 40 + 1 + 1 = 42: 3/4 are 31.5, a gain of 34.5 − 31.5 = 3; the long lot takes 10.5.
    history.push(PortfolioCommand::Buy(charged("4", "10", "1", "1", "2024-01-04")));
    let covered = derive(CostBasis::Fifo, true, history);
    assert_eq!(figures(&covered), expected(&[("1", "10.5")], "10.5", "10.5", "0", "1"));
}

#[test]
fn the_short_lot_with_the_smallest_gain_is_covered_first() {
    let history = vec![
        sell("1", "12", "2024-01-02"),
        sell("1", "10", "2024-01-03"),
        sell("1", "10", "2024-01-04"),
        buy("1", "9", "2024-01-05"),
    ];
    let holding = derive(CostBasis::Hifo, false, history);
    assert_eq!(figures(&holding), expected(&[("-1", "-12"), ("-1", "-10")], "-22", "1", "0", "0"));
    assert_eq!(holding.lots[1].opened, day("2024-01-04"), "of equal ones the oldest went");
}

#[test]
fn a_pool_has_the_average_rate_weighted_by_cost() {
    let at_rate = |quantity, price, rate: &str| {
        let fx_rate = Some(rate.parse().unwrap());
        PortfolioCommand::Buy(TradeCommand { fx_rate, ..trade(quantity, price, "2024-01-02") })
    };
    let given = Given::untracked([])
        .with_asset(Some(asset(AssetClass::Equity, "EUR", "1")))
        .after([at_rate("10", "10", "1.2"), at_rate("10", "30", "1")]);
    let accounting = Accounting { cost_basis: CostBasis::Average, fees_in_cost: false };
    let pool = Ledger::derive(accounting, &given.entries).holding(ASSET).unwrap().lots[0].clone();
    // (100 × 1.2 + 300 × 1) / 400
    assert_eq!(pool.fx_rate, Some("1.05".parse().unwrap()));
    let unknown = given.after([buy("1", "1", "2024-01-03")]);
    let pool = Ledger::derive(accounting, &unknown.entries).holding(ASSET).unwrap().lots[0].clone();
    assert_eq!(pool.fx_rate, None);
}

#[test]
fn cash_is_the_sum_of_its_effects() {
    let given = Given::tracked([
        deposit("100", "2024-01-01"),
        buy("2", "10", "2024-01-02"),
        withdraw("30", "2024-01-03"),
    ]);
    let ledger = Ledger::derive(Accounting::default(), &given.entries);
    let cash: Vec<_> = ledger.cash().map(|(c, amount)| (c.to_string(), amount.to_string())).collect();
    assert_eq!(cash, [("USD".to_owned(), "50".to_owned())]);
}
