//! Given, when, then: facts, a command, and what is decided.

mod cash;
mod decisions;
mod ledger_by_hand;
mod properties;

use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

use super::command::{CashCommand, OpenPortfolio, PortfolioCommand, TradeCommand};
use super::entry::Entry;
use super::event::{CashMode, CostBasis, PortfolioEvent, Settlement};
use super::{Portfolio, decide};
use crate::domain::asset::{Asset, AssetClass, AssetEvent, AssetListed};
use crate::domain::ids::{AssetId, InvestorId, PortfolioId, Position, Version};
use crate::domain::money::Rate;
use crate::domain::rejection::Rejection;

const ASSET: AssetId = AssetId(Uuid::from_u128(1));
const NOW: &str = "2024-03-01T12:00:00Z";

/// A portfolio with a history, and the asset that the next command names.
struct Given {
    portfolio: Portfolio,
    version: Version,
    asset: Option<Asset>,
    entries: Vec<Entry>,
    now: DateTime<Utc>,
}

impl Given {
    /// No portfolio; an asset in US dollars.
    fn nothing() -> Self {
        Self {
            portfolio: Portfolio::initial(),
            version: Version(0),
            asset: Some(asset(AssetClass::Equity, "USD", "1")),
            entries: Vec::new(),
            now: NOW.parse().unwrap(),
        }
    }

    /// A portfolio in US dollars that tracks no cash, after these commands.
    fn untracked(history: impl IntoIterator<Item = PortfolioCommand>) -> Self {
        Self::nothing().after([PortfolioCommand::Open(open())]).after(history)
    }

    /// A portfolio in US dollars that tracks cash, after these commands.
    fn tracked(history: impl IntoIterator<Item = PortfolioCommand>) -> Self {
        let open = OpenPortfolio { cash: CashMode::Tracked, ..open() };
        Self::nothing().after([PortfolioCommand::Open(open)]).after(history)
    }

    fn with_asset(self, asset: Option<Asset>) -> Self {
        Self { asset, ..self }
    }

    fn at(self, now: &str) -> Self {
        Self { now: now.parse().unwrap(), ..self }
    }

    fn after(mut self, commands: impl IntoIterator<Item = PortfolioCommand>) -> Self {
        for command in commands {
            let events = self.when(&command).expect("history must be possible");
            self.take_in(&events);
        }
        self
    }

    fn take_in(&mut self, events: &[PortfolioEvent]) {
        for event in events {
            self.version = self.version.next();
            self.portfolio.evolve(self.version, event);
            self.entries.extend(Entry::from_event(Position(self.version.0), event));
        }
    }

    fn when(&self, command: &PortfolioCommand) -> Result<Vec<PortfolioEvent>, Rejection> {
        decide(&self.portfolio, self.asset.as_ref(), command, self.now)
    }

    /// The fields that are refused.
    fn refused_fields(&self, command: &PortfolioCommand) -> Vec<String> {
        match self.when(command) {
            Err(Rejection::InvalidFields(errors)) => errors.into_iter().map(|e| e.field).collect(),
            other => panic!("{other:?} is not about fields"),
        }
    }
}

fn open() -> OpenPortfolio {
    OpenPortfolio {
        portfolio_id: PortfolioId(Uuid::from_u128(7)),
        investor_id: InvestorId(Uuid::from_u128(8)),
        name: "Pension".to_owned(),
        base_currency: "USD".parse().unwrap(),
        time_zone: None,
        cost_basis: CostBasis::Fifo,
        fees_in_cost: false,
        cash: CashMode::Untracked,
        allow_short: false,
    }
}

fn asset(class: AssetClass, currency: &str, quote_unit: &str) -> Asset {
    let mut asset = Asset::initial();
    asset.evolve(&AssetEvent::AssetListed(AssetListed {
        asset_id: ASSET,
        symbol: "X".parse().unwrap(),
        name: "X".to_owned(),
        class,
        currency: currency.parse().unwrap(),
        quote_unit: quote_unit.parse::<Rate>().unwrap(),
        isin: None,
        exchange: None,
    }));
    asset
}

/// A trade of `quantity` at `price` on that day, without charges.
fn trade(quantity: &str, price: &str, day: &str) -> TradeCommand {
    TradeCommand {
        asset_id: ASSET,
        quantity: quantity.parse().unwrap(),
        price: price.parse().unwrap(),
        fee: "0".parse().unwrap(),
        tax: "0".parse().unwrap(),
        currency: None,
        fx_rate: None,
        settle: Settlement::Asset,
        trade_date: Some(self::day(day)),
        note: None,
    }
}

fn charged(quantity: &str, price: &str, fee: &str, tax: &str, day: &str) -> TradeCommand {
    TradeCommand { fee: fee.parse().unwrap(), tax: tax.parse().unwrap(), ..trade(quantity, price, day) }
}

fn buy(quantity: &str, price: &str, day: &str) -> PortfolioCommand {
    PortfolioCommand::Buy(trade(quantity, price, day))
}

fn sell(quantity: &str, price: &str, day: &str) -> PortfolioCommand {
    PortfolioCommand::Sell(trade(quantity, price, day))
}

fn movement(amount: &str, day: &str) -> CashCommand {
    let trade_date = Some(self::day(day));
    CashCommand { amount: amount.parse().unwrap(), currency: None, trade_date, note: None }
}

fn deposit(amount: &str, day: &str) -> PortfolioCommand {
    PortfolioCommand::Deposit(movement(amount, day))
}

fn withdraw(amount: &str, day: &str) -> PortfolioCommand {
    PortfolioCommand::Withdraw(movement(amount, day))
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}
