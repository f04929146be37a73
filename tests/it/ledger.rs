//! The write side over a test's database, and commands that tests send it.

use std::sync::Arc;
use std::time::Duration;

use insight::clock::Clock;
use insight::commands::{Answer, AssetRef, Command, Commands, Refusal, Request, Settings};
use insight::domain::asset::{AssetClass, ListAsset};
use insight::domain::ids::{AssetId, InvestorId, PortfolioId, Version};
use insight::domain::investor::{InvestorDetails, RegisterInvestor};
use insight::domain::money::Amount;
use insight::domain::portfolio::command::{CashCommand, OpenPortfolio, PortfolioCommand, TradeCommand};
use insight::domain::portfolio::event::{CashMode, CostBasis, Settlement};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::environment::TestDatabase;

/// A running write side. Stops when dropped.
pub struct Ledger {
    pub commands: Commands,
    _stop: DropGuard,
}

impl Ledger {
    pub fn start(database: &TestDatabase) -> Self {
        Self::with(database, Settings::default())
    }

    pub fn with(database: &TestDatabase, settings: Settings) -> Self {
        Self::over(database.options(), database.pool.clone(), settings)
    }

    pub fn over(options: PgConnectOptions, pool: PgPool, settings: Settings) -> Self {
        let cancel = CancellationToken::new();
        let (commands, running) = Commands::start(options, pool, Clock::System, settings, cancel.clone());
        tokio::spawn(running);
        Self { commands, _stop: cancel.drop_guard() }
    }

    pub async fn send(&self, command: Command) -> Result<Answer, Refusal> {
        self.commands.execute(request(command)).await
    }

    /// An investor, a listed asset and an open portfolio.
    pub async fn portfolio(&self, cash: CashMode) -> (PortfolioId, AssetRef) {
        let asset = self.asset().await;
        (self.portfolio_only(cash).await, asset)
    }

    pub async fn portfolio_only(&self, cash: CashMode) -> PortfolioId {
        let investor_id = InvestorId(Uuid::now_v7());
        self.send(register(investor_id, &format!("{}@example.invalid", Uuid::now_v7()))).await.unwrap();
        let portfolio_id = PortfolioId(Uuid::now_v7());
        self.send(open(portfolio_id, investor_id, cash)).await.unwrap();
        portfolio_id
    }

    pub async fn asset(&self) -> AssetRef {
        let asset_id = AssetId(Uuid::now_v7());
        let symbol = format!("T{}", &asset_id.0.simple().to_string().to_uppercase()[20..]);
        self.send(list(asset_id, &symbol)).await.unwrap();
        AssetRef::Id(asset_id)
    }
}

pub fn request(command: Command) -> Request {
    let hash = Sha256::digest(format!("{command:?}"));
    Request {
        command,
        command_id: Uuid::now_v7(),
        request_hash: Arc::from(&hash[..]),
        actor: "test".into(),
        correlation_id: Uuid::now_v7(),
        if_match: None,
        occurred_at: None,
        deadline: Instant::now() + Duration::from_secs(10),
    }
}

pub fn register(investor_id: InvestorId, email: &str) -> Command {
    let details = InvestorDetails { name: "Test Investor".into(), email: email.into() };
    Command::RegisterInvestor(RegisterInvestor {
        investor_id,
        details,
        risk_tolerance: None,
        experience_level: None,
    })
}

pub fn list(asset_id: AssetId, symbol: &str) -> Command {
    Command::ListAsset(ListAsset {
        asset_id,
        symbol: symbol.parse().unwrap(),
        name: "Test Asset".into(),
        class: AssetClass::Equity,
        currency: "USD".parse().unwrap(),
        quote_unit: None,
        isin: None,
        exchange: None,
    })
}

pub fn open(portfolio_id: PortfolioId, investor_id: InvestorId, cash: CashMode) -> Command {
    Command::Portfolio {
        portfolio_id,
        asset: None,
        command: PortfolioCommand::Open(OpenPortfolio {
            portfolio_id,
            investor_id,
            name: "Test Portfolio".into(),
            base_currency: "USD".parse().unwrap(),
            time_zone: None,
            cost_basis: CostBasis::Fifo,
            fees_in_cost: false,
            cash,
            allow_short: false,
        }),
    }
}

pub fn trade(asset: &AssetRef, quantity: &str, price: &str) -> (Option<AssetRef>, TradeCommand) {
    let trade = TradeCommand {
        asset_id: AssetId(Uuid::nil()),
        quantity: quantity.parse().unwrap(),
        price: price.parse().unwrap(),
        fee: Amount::ZERO,
        tax: Amount::ZERO,
        currency: None,
        fx_rate: None,
        settle: Settlement::Asset,
        trade_date: None,
        note: None,
    };
    (Some(asset.clone()), trade)
}

pub fn buy(portfolio_id: PortfolioId, asset: &AssetRef, quantity: &str, price: &str) -> Command {
    let (asset, trade) = trade(asset, quantity, price);
    Command::Portfolio { portfolio_id, asset, command: PortfolioCommand::Buy(trade) }
}

pub fn sell(portfolio_id: PortfolioId, asset: &AssetRef, quantity: &str, price: &str) -> Command {
    let (asset, trade) = trade(asset, quantity, price);
    Command::Portfolio { portfolio_id, asset, command: PortfolioCommand::Sell(trade) }
}

pub fn deposit(portfolio_id: PortfolioId, amount: &str) -> Command {
    let command =
        CashCommand { amount: amount.parse().unwrap(), currency: None, trade_date: None, note: None };
    Command::Portfolio { portfolio_id, asset: None, command: PortfolioCommand::Deposit(command) }
}

pub fn if_match(command: Command, version: i64) -> Request {
    Request { if_match: Some(Version(version)), ..request(command) }
}
