//! Properties: whatever is traded, in whatever order it is entered.

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::*;
use crate::domain::money::{Amount, Price, Quantity};
use crate::domain::portfolio::entry::EntryKind;
use crate::domain::portfolio::event::{CashEffect, CashMovement, Trade};
use crate::domain::portfolio::ledger::{Accounting, Ledger};

const ASSETS: u128 = 2;

fn decimal(range: std::ops::Range<i64>, scale: u32) -> impl Strategy<Value = Decimal> {
    range.prop_map(move |units| Decimal::new(units, scale))
}

fn accounting() -> impl Strategy<Value = Accounting> {
    let bases = [CostBasis::Fifo, CostBasis::Lifo, CostBasis::Hifo, CostBasis::Average];
    (proptest::sample::select(bases.to_vec()), any::<bool>())
        .prop_map(|(cost_basis, fees_in_cost)| Accounting { cost_basis, fees_in_cost })
}

fn any_day() -> impl Strategy<Value = NaiveDate> {
    (1..=9_u32).prop_map(|n| NaiveDate::from_ymd_opt(2024, 1, n).unwrap())
}

/// A trade of few units, so that holdings are often closed and often cross zero.
fn entry() -> impl Strategy<Value = Entry> {
    let sides = proptest::sample::select(vec![EntryKind::Buy, EntryKind::Sell]);
    let quantity = prop_oneof![decimal(1..6, 0), decimal(1..50_000, 4)];
    (sides, 1..=ASSETS, quantity, decimal(1..9_999_999, 5), decimal(0..300, 2), decimal(0..300, 2), any_day())
        .prop_map(|(kind, asset, quantity, price, fee, tax, trade_date)| {
            let (quantity, price) = (Quantity::from_decimal(quantity), Price::from_decimal(price));
            Entry {
                position: Position(0),
                trade_date,
                kind,
                asset_id: Some(AssetId(Uuid::from_u128(asset))),
                quantity,
                price: Some(price),
                amount: Amount::gross(quantity, price, Rate::ONE).unwrap(),
                fee: Amount::from_decimal(fee),
                tax: Amount::from_decimal(tax),
                currency: "USD".parse().unwrap(),
                fx_rate: None,
                cash: None,
            }
        })
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    proptest::collection::vec(entry(), 1..40).prop_map(|mut entries| {
        for (position, entry) in (1..).zip(&mut entries) {
            entry.position = Position(position);
        }
        entries
    })
}

/// What a trade brought in, less what of its charges is not booked apart.
fn received(entry: &Entry, fees_in_cost: bool) -> Decimal {
    let (amount, fee, tax) = (entry.amount.decimal(), entry.fee.decimal(), entry.tax.decimal());
    match (entry.kind, fees_in_cost) {
        (EntryKind::Buy, true) => -(amount + fee + tax),
        (EntryKind::Buy, false) => -amount,
        (_, true) => amount - fee,
        (_, false) => amount,
    }
}

fn check_holdings(ledger: &Ledger) {
    for holding in ledger.holdings() {
        let quantity: Decimal = holding.lots.iter().map(|lot| lot.quantity.decimal()).sum();
        let cost: Decimal = holding.lots.iter().map(|lot| lot.cost.decimal()).sum();
        assert_eq!(quantity, holding.quantity.decimal());
        assert_eq!(cost, holding.cost.decimal());
        let same_side = |negative| holding.lots.iter().all(|lot| lot.quantity.is_negative() == negative);
        assert!(same_side(true) || same_side(false), "{:?}", holding.lots);
        assert!(holding.lots.iter().all(|lot| !lot.quantity.is_zero()));
        assert!(!holding.quantity.is_zero() || (holding.cost.is_zero() && holding.lots.is_empty()));
    }
}

proptest! {
    #[test]
    fn lots_add_up_to_the_holding_after_every_entry(accounting in accounting(), entries in entries()) {
        let mut in_order = entries;
        in_order.sort_by_key(Entry::place);
        let mut ledger = Ledger::new(accounting);
        for entry in &in_order {
            prop_assert!(ledger.is_in_order(entry));
            ledger.apply(entry);
            check_holdings(&ledger);
        }
        prop_assert_eq!(&ledger, &Ledger::derive(accounting, &in_order));
    }

    #[test]
    fn gain_and_cost_account_for_all_money_to_the_last_digit(
        accounting in accounting(),
        entries in entries(),
    ) {
        for holding in Ledger::derive(accounting, &entries).holdings() {
            let ours = entries.iter().filter(|entry| entry.asset_id == Some(holding.asset_id));
            let received: Decimal = ours.map(|entry| received(entry, accounting.fees_in_cost)).sum();
            prop_assert_eq!(holding.realized_gain.decimal() - holding.cost.decimal(), received);
        }
    }

    #[test]
    fn the_order_of_entering_does_not_matter(
        accounting in accounting(),
        (entries, shuffled) in entries().prop_flat_map(|e| (Just(e.clone()), Just(e).prop_shuffle())),
    ) {
        prop_assert_eq!(Ledger::derive(accounting, &entries), Ledger::derive(accounting, &shuffled));
    }

    /// What a decision would refuse: sums far beyond every bound, and sales of what is not held.
    #[test]
    fn folds_take_the_impossible_without_panic(accounting in accounting(), seeds in entries()) {
        let most = |text: &str| text.parse().unwrap();
        let mut portfolio = Portfolio::initial();
        let mut ledger = Ledger::new(accounting);
        for seed in seeds {
            let entry = Entry {
                quantity: "999999999999999.9999999999".parse().unwrap(),
                amount: most("99999999999999999.9999999999"),
                fee: most("-99999999999999999.9999999999"),
                fx_rate: Some("999999999999999.9999999999".parse().unwrap()),
                cash: Some(CashEffect { currency: seed.currency.clone(), amount: most("99999999999999999") }),
                ..seed.clone()
            };
            ledger.apply(&entry);
            ledger.apply(&seed);
            let trade = naive_trade(&entry);
            portfolio.evolve(Version(entry.position.0), &PortfolioEvent::AssetBought(trade));
        }
    }

    #[test]
    fn a_restored_ledger_goes_on_like_the_one_that_was_stored(
        accounting in accounting(),
        entries in entries(),
        cut in 0..40_usize,
    ) {
        let mut in_order = entries;
        in_order.sort_by_key(Entry::place);
        let (before, after) = in_order.split_at(cut.min(in_order.len()));
        let stored = Ledger::derive(accounting, before);
        let cash = stored.cash().map(|(currency, amount)| (currency.clone(), amount));
        let mut restored = Ledger::restore(accounting, stored.holdings().cloned(), cash, stored.last());
        for entry in after {
            restored.apply(entry);
        }
        prop_assert_eq!(restored, Ledger::derive(accounting, &in_order));
    }

    /// The naive judge folds every fact in the order of (day, version) and looks at each total.
    #[test]
    fn a_command_is_refused_exactly_where_a_total_would_be_negative(
        commands in proptest::collection::vec(tracked_command(), 1..40),
    ) {
        let mut given = Given::tracked([]);
        for command in commands {
            let mut tried = given.entries.clone();
            let next = Position(given.version.0 + 1);
            tried.extend(naive_event(&command).and_then(|event| Entry::from_event(next, &event)));
            let decided = given.when(&command);
            prop_assert_eq!(decided.is_ok(), never_negative(&tried), "{:?} gave {:?}", command, decided);
            if let Ok(events) = decided {
                given.take_in(&events);
                prop_assert_eq!(&given.entries, &tried);
            }
        }
    }
}

/// Whole amounts, so that no rounding hides in the cash effects below.
fn tracked_command() -> impl Strategy<Value = PortfolioCommand> {
    (0..4_u8, 1..20_u32, 1..5_u32, any_day()).prop_map(|(kind, units, price, day)| {
        let (units, price, day) = (units.to_string(), price.to_string(), day.to_string());
        match kind {
            0 => buy(&units, &price, &day),
            1 => sell(&units, &price, &day),
            2 => deposit(&units, &day),
            _ => withdraw(&units, &day),
        }
    })
}

/// The event of an entry, as it is: nothing checked.
fn naive_trade(entry: &Entry) -> Trade {
    Trade {
        asset_id: entry.asset_id.unwrap(),
        quantity: entry.quantity,
        price: entry.price.unwrap(),
        currency: entry.currency.clone(),
        amount: entry.amount,
        fee: entry.fee,
        tax: entry.tax,
        fx_rate: entry.fx_rate,
        settle: Settlement::Asset,
        cash: entry.cash.clone(),
        trade_date: entry.trade_date,
        note: None,
    }
}

fn naive_event(command: &PortfolioCommand) -> Option<PortfolioEvent> {
    let usd = || "USD".parse().unwrap();
    let trade = |command: &TradeCommand, sign: Decimal| {
        let amount = command.quantity.decimal() * command.price.decimal();
        Trade {
            asset_id: command.asset_id,
            quantity: command.quantity,
            price: command.price,
            currency: usd(),
            amount: Amount::from_decimal(amount),
            fee: command.fee,
            tax: command.tax,
            fx_rate: None,
            settle: command.settle,
            cash: Some(CashEffect { currency: usd(), amount: Amount::from_decimal(sign * amount) }),
            trade_date: command.trade_date.unwrap(),
            note: None,
        }
    };
    let movement = |command: &CashCommand| CashMovement {
        amount: command.amount,
        currency: usd(),
        trade_date: command.trade_date.unwrap(),
        note: None,
    };
    match command {
        PortfolioCommand::Buy(command) => Some(PortfolioEvent::AssetBought(trade(command, -Decimal::ONE))),
        PortfolioCommand::Sell(command) => Some(PortfolioEvent::AssetSold(trade(command, Decimal::ONE))),
        PortfolioCommand::Deposit(command) => Some(PortfolioEvent::CashDeposited(movement(command))),
        PortfolioCommand::Withdraw(command) => Some(PortfolioEvent::CashWithdrawn(movement(command))),
        PortfolioCommand::Open(_) | PortfolioCommand::ChangeAccounting(_) => None,
    }
}

fn never_negative(entries: &[Entry]) -> bool {
    let mut in_order: Vec<&Entry> = entries.iter().collect();
    in_order.sort_by_key(|entry| entry.place());
    let (mut units, mut cash) = (Decimal::ZERO, Decimal::ZERO);
    in_order.into_iter().all(|entry| {
        units += match entry.kind {
            EntryKind::Buy => entry.quantity.decimal(),
            EntryKind::Sell => -entry.quantity.decimal(),
            EntryKind::Deposit | EntryKind::Withdraw => Decimal::ZERO,
        };
        cash += entry.cash.as_ref().map_or(Decimal::ZERO, |effect| effect.amount.decimal());
        units >= Decimal::ZERO && cash >= Decimal::ZERO
    })
}
