//! The ledger and the price table of the program against the reference, to the digit, over random histories.

use std::collections::BTreeMap;

use insight::domain::ids::{PortfolioId, Position};
use insight::domain::portfolio::command::{CashCommand, PortfolioCommand, TradeCommand};
use insight::domain::portfolio::entry::Entry;
use insight::domain::portfolio::event::PortfolioEvent;
use insight::domain::portfolio::ledger::{Accounting, Ledger};
use insight::domain::price_table::PriceTable;
use insight::event_store::read;
use insight::events::{Envelope, Event};
use insight::verify::ledger as reference;
use insight::verify::reference::{Happening, Reference};
use insight::verify::units::Units;
use sqlx::PgPool;

use crate::environment;
use crate::ledger::Ledger as Writing;
use crate::random_history::RandomHistory;

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_fold_as_the_reference_folds_them() {
    for seed in [1, 2, rand::random()] {
        println!("seed {seed}");
        let database = environment::database().await;
        let writing = Writing::start(&database);
        let mut history = RandomHistory::start(&writing.commands, seed).await;
        history.go_on(&writing.commands, 700).await;
        assert!(history.accepted > 2_000 && !history.insufficient.is_empty(), "{}", history.accepted);

        let log = log(&database.pool).await;
        let mut told = Reference::default();
        log.iter().for_each(|event| told.take(event).unwrap());
        let ledgers = ledgers(&log);
        assert_eq!(ledgers.len(), told.portfolios.len());
        for (id, ledger) in &ledgers {
            let expected = reference::Ledger::of(&told.portfolios[&id.to_string()]);
            assert_eq!(show(ledger), show_reference(&expected), "portfolio {id}");
            assert_eq!(expected.shortfalls, [""; 0], "portfolio {id}");
        }
        compare_markets(&log, &told);
    }
}

/// What is refused for want of units or cash is wanting, by the reference's own count.
#[tokio::test(flavor = "multi_thread")]
async fn no_sale_and_no_payment_is_refused_that_the_log_allows() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let database = environment::database().await;
    let writing = Writing::start(&database);
    let mut history = RandomHistory::start(&writing.commands, seed).await;
    let (mut told, mut last) = (Reference::default(), Position(0));
    let mut judged = 0;
    for _ in 0..300 {
        for event in read::after(&database.pool, last, 1_000).await.unwrap().events {
            last = event.position;
            told.take(&event).unwrap();
        }
        history.go_on(&writing.commands, 1).await;
        for (id, command, rejection) in history.insufficient.drain(..) {
            let mut portfolio = told.portfolios[&id.to_string()].clone();
            let settings = portfolio.settings().clone();
            let entry = as_if_accepted(&told, &settings, &command);
            portfolio.happenings.push(Happening { entry: Some(entry), ..portfolio.happenings[0].clone() });
            let ledger = reference::Ledger::of(&portfolio);
            assert!(!ledger.shortfalls.is_empty(), "{command:?} was refused in {id}: {rejection}");
            judged += 1;
        }
    }
    assert!(judged > 20, "{judged} refusals are too few to show anything");
}

async fn log(pool: &PgPool) -> Vec<Envelope> {
    read::after(pool, Position(0), 1_000_000).await.unwrap().events
}

/// The program's own fold.
fn ledgers(log: &[Envelope]) -> BTreeMap<PortfolioId, Ledger> {
    let mut portfolios: BTreeMap<PortfolioId, (Accounting, Vec<Entry>)> = BTreeMap::new();
    for envelope in log {
        let Event::Portfolio(event) = envelope.event().unwrap() else { continue };
        let id = envelope.stream_id.kind_and_rest().1.parse().unwrap();
        let (accounting, entries) = portfolios.entry(id).or_default();
        match &event {
            PortfolioEvent::PortfolioOpened(opened) => *accounting = Accounting::opened(opened),
            PortfolioEvent::AccountingChanged(change) => *accounting = accounting.changed(change),
            _ => {}
        }
        entries.extend(Entry::from_event(envelope.position, &event));
    }
    let derive =
        |(id, (accounting, entries)): (_, (_, Vec<Entry>))| (id, Ledger::derive(accounting, &entries));
    portfolios.into_iter().map(derive).collect()
}

fn show(ledger: &Ledger) -> Vec<String> {
    let mut lines = Vec::new();
    for it in ledger.holdings() {
        let (quantity, cost, gain) = (it.quantity, it.cost, it.realized_gain);
        lines.push(format!(
            "{} {} {quantity} {cost} {gain} {} {}",
            it.asset_id, it.currency, it.fees, it.taxes
        ));
        for lot in &it.lots {
            let rate = lot.fx_rate.map(|rate| rate.to_string()).unwrap_or_default();
            lines.push(format!("  {} {} {} {} {rate}", lot.opened, lot.position, lot.quantity, lot.cost));
        }
    }
    lines.extend(ledger.cash().map(|(currency, balance)| format!("{currency} {balance}")));
    lines.extend(ledger.last().map(|(day, position)| format!("{day} {position}")));
    lines
}

fn show_reference(ledger: &reference::Ledger) -> Vec<String> {
    let mut lines = Vec::new();
    for (asset_id, it) in &ledger.holdings {
        let (quantity, cost, gain) = (it.quantity(), it.cost(), it.realized_gain);
        lines.push(format!("{asset_id} {} {quantity} {cost} {gain} {} {}", it.currency, it.fees, it.taxes));
        for lot in &it.lots {
            let rate = lot.fx_rate.map(|rate| rate.to_string()).unwrap_or_default();
            lines.push(format!("  {} {} {} {} {rate}", lot.opened_on, lot.position, lot.quantity, lot.cost));
        }
    }
    lines.extend(ledger.cash.iter().map(|(currency, balance)| format!("{currency} {balance}")));
    lines.extend(ledger.last.iter().map(|(day, position)| format!("{day} {position}")));
    lines
}

/// Live prices and rates, as the price table has them and as the reference does.
fn compare_markets(log: &[Envelope], told: &Reference) {
    let mut table = PriceTable::new();
    for envelope in log {
        match envelope.event().unwrap() {
            Event::Asset(event) => drop(table.apply_asset(envelope.position, &event)),
            Event::Price(event) => drop(table.apply_prices(envelope.position, &event)),
            _ => {}
        }
    }
    for asset in table.assets() {
        let expected = &told.market.assets[&asset.asset_id.to_string()];
        let live = asset
            .live()
            .map(|live| (live.price.to_string(), live.at, live.source.to_string(), live.position.0));
        let position = expected.live_position;
        let expected = expected.live().map(|live| (live.price.to_string(), live.at, live.source, position));
        assert_eq!(live, expected, "live price of {}", asset.symbol);
    }
    const CURRENCIES: [&str; 5] = ["USD", "EUR", "GBP", "JPY", "CHF"];
    for (from, to) in CURRENCIES.into_iter().flat_map(|from| CURRENCIES.map(|to| (from, to))) {
        let rate = table.rate(&from.parse().unwrap(), &to.parse().unwrap());
        let rate = rate.map(|it| (it.rate.to_string(), it.path.as_str(), it.position.0));
        let expected = told.market.rate(from, to).map(|it| (it.rate.to_string(), it.path, it.position));
        assert_eq!(rate, expected, "{from} in {to}");
    }
}

/// The fact that a refused command would have been.
fn as_if_accepted(
    told: &Reference,
    settings: &insight::verify::reference::Settings,
    command: &PortfolioCommand,
) -> insight::verify::reference::Entry {
    let units = |value: &dyn ToString| Units::parse(&value.to_string()).unwrap();
    let (kind, trade, cash) = match command {
        PortfolioCommand::Buy(trade) => ("buy", Some(trade), None),
        PortfolioCommand::Sell(trade) => ("sell", Some(trade), None),
        PortfolioCommand::Withdraw(cash) => ("withdraw", None, Some(cash)),
        other => panic!("{other:?} needs neither units nor cash"),
    };
    let cents = |amount: Units, currency: &str| amount.to_decimals(if currency == "JPY" { 0 } else { 2 });
    let empty = insight::verify::reference::Entry {
        position: i64::MAX,
        trade_date: String::new(),
        kind,
        asset_id: None,
        quantity: Units::ZERO,
        price: None,
        amount: Units::ZERO,
        fee: Units::ZERO,
        tax: Units::ZERO,
        currency: settings.base_currency.clone(),
        fx_rate: None,
        settled_in_base: false,
        cash: None,
    };
    if let Some(CashCommand { amount, currency, trade_date, .. }) = cash {
        let currency = currency.as_ref().map_or(settings.base_currency.clone(), ToString::to_string);
        let change = -cents(units(amount), &currency);
        return insight::verify::reference::Entry {
            trade_date: trade_date.unwrap().to_string(),
            cash: Some((currency, change)),
            ..empty
        };
    }
    let TradeCommand { asset_id, quantity, price, fee, tax, fx_rate, settle, trade_date, .. } =
        trade.unwrap();
    let asset = &told.market.assets[&asset_id.to_string()];
    let amount = units(quantity).times(units(price)).unwrap().times(asset.quote_unit).unwrap();
    let charges = units(fee) + units(tax);
    let change = if kind == "buy" { -(amount + charges) } else { amount - charges };
    let (currency, change) = match (settle, fx_rate) {
        (insight::domain::portfolio::event::Settlement::Base, Some(rate)) => {
            (settings.base_currency.clone(), change.times(units(rate)).unwrap())
        }
        _ => (asset.currency.clone(), change),
    };
    insight::verify::reference::Entry {
        trade_date: trade_date.unwrap().to_string(),
        asset_id: Some(asset_id.to_string()),
        quantity: units(quantity),
        amount,
        fee: units(fee),
        tax: units(tax),
        cash: (settings.cash == "tracked").then(|| (currency.clone(), cents(change, &currency))),
        ..empty
    }
}
