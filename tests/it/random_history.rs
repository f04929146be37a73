//! A history drawn from a seed: every cost basis and treatment of fees, tracked cash and none, shorts, three base
//! currencies, trades out of order, ticks and closes from several sources, and jobs. The same seed draws the same commands.
//!
//! Many of them are refused, as they should be: what is drawn does not look at what is held.

use std::time::Duration;

use chrono::{Days, NaiveDate, TimeDelta};
use insight::clock::Clock;
use insight::commands::prices::{BodyFormat, PriceBulk};
use insight::commands::{AssetRef, Command, Commands, Refusal};
use insight::domain::asset::{Adjustment, AssetClass, ListAsset, RankSources, RankedSource, ReportEarnings};
use insight::domain::ids::{AssetId, InvestorId, PortfolioId};
use insight::domain::portfolio::command::{
    CashCommand, ChangeAccounting, OpenPortfolio, PortfolioCommand, TradeCommand,
};
use insight::domain::portfolio::event::{CashMode, CostBasis, Settlement};
use insight::domain::rejection::Rejection;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;
use uuid::Uuid;

use crate::ledger::{register, request};
use crate::random_jobs::RandomJobs;

const COST_BASES: [CostBasis; 4] = [CostBasis::Fifo, CostBasis::Lifo, CostBasis::Hifo, CostBasis::Average];
const BASES: [&str; 3] = ["USD", "EUR", "GBP"];
const SOURCES: [&str; 3] = ["exchange", "broker", "manual"];
/// Symbol, class, currency, quote unit. Pence, a currency without decimals, and one that no rate leads to.
const ASSETS: [(&str, AssetClass, &str, &str); 9] = [
    ("ALPHA", AssetClass::Equity, "USD", "1"),
    ("BRAVO", AssetClass::Etf, "USD", "1"),
    ("CHARLIE", AssetClass::Equity, "GBP", "0.01"),
    ("DELTA", AssetClass::Equity, "JPY", "1"),
    ("ECHO", AssetClass::Bond, "EUR", "1"),
    ("FOXTROT", AssetClass::Crypto, "CHF", "1"),
    ("EURUSD", AssetClass::Fx, "USD", "1"),
    ("GBPUSD", AssetClass::Fx, "USD", "1"),
    ("USDJPY", AssetClass::Fx, "JPY", "1"),
];
/// The first of them that cannot be bought.
const PAIRS_FROM: usize = 6;

/// Draws commands and sends them.
pub struct RandomHistory {
    random: StdRng,
    /// Drawn from a sequence of their own.
    jobs: RandomJobs,
    /// For what came later, so that a seed still draws the rest that it always drew.
    apart: StdRng,
    today: NaiveDate,
    assets: Vec<AssetId>,
    portfolios: Vec<PortfolioId>,
    /// What was answered.
    pub accepted: u64,
    /// Sales and payments that were refused for want of units or cash.
    pub insufficient: Vec<(PortfolioId, PortfolioCommand, Rejection)>,
}

impl RandomHistory {
    /// Investors, assets and one portfolio of every kind.
    pub async fn start(commands: &Commands, seed: u64) -> Self {
        let mut history = Self {
            random: StdRng::seed_from_u64(seed),
            jobs: RandomJobs::new(seed),
            apart: StdRng::seed_from_u64(!seed),
            today: Clock::System.now().date_naive(),
            assets: Vec::new(),
            portfolios: Vec::new(),
            accepted: 0,
            insufficient: Vec::new(),
        };
        for (symbol, class, currency, quote_unit) in ASSETS {
            let asset_id = AssetId(history.id());
            history.assets.push(asset_id);
            let command = ListAsset {
                asset_id,
                symbol: symbol.parse().unwrap(),
                name: symbol.to_lowercase(),
                class,
                currency: currency.parse().unwrap(),
                quote_unit: Some(quote_unit.parse().unwrap()),
                isin: None,
                exchange: None,
            };
            history.send(commands, Command::ListAsset(command)).await;
        }
        for (n, cost_basis) in COST_BASES.into_iter().cycle().take(16).enumerate() {
            let investor_id = InvestorId(history.id());
            history.send(commands, register(investor_id, &format!("{investor_id}@example.invalid"))).await;
            let open = OpenPortfolio {
                portfolio_id: PortfolioId(history.id()),
                investor_id,
                name: format!("Portfolio {n}"),
                base_currency: BASES[n % 3].parse().unwrap(),
                time_zone: None,
                cost_basis,
                fees_in_cost: n & 4 != 0,
                cash: if n & 8 != 0 { CashMode::Tracked } else { CashMode::Untracked },
                allow_short: n % 5 < 2,
            };
            history.portfolios.push(open.portfolio_id);
            history.portfolio(commands, open.portfolio_id, None, PortfolioCommand::Open(open)).await;
        }
        history.past_closes(commands).await;
        history
    }

    /// Sends so many more commands.
    pub async fn go_on(&mut self, commands: &Commands, count: usize) {
        for n in 0..count {
            if n % 4 == 3 {
                self.jobs.go_on(commands).await;
            }
            let drawn = self.below(self.portfolios.len());
            let portfolio_id = self.portfolios[drawn];
            match self.below(100) {
                0..=59 => {
                    let asset = self.asset(PAIRS_FROM);
                    let trade = self.trade(asset);
                    let command = match self.below(9) {
                        0..=4 => PortfolioCommand::Buy(trade),
                        _ => PortfolioCommand::Sell(trade),
                    };
                    self.portfolio(commands, portfolio_id, Some(AssetRef::Id(asset)), command).await;
                }
                60..=76 => {
                    let cash = self.cash();
                    let command = match self.below(4) {
                        0 => PortfolioCommand::Withdraw(cash),
                        _ => PortfolioCommand::Deposit(cash),
                    };
                    self.portfolio(commands, portfolio_id, None, command).await;
                }
                77 | 78 => {
                    let change = ChangeAccounting {
                        name: self.maybe(4).then(|| "Renamed".to_owned()),
                        cost_basis: self.maybe(2).then(|| COST_BASES[self.below(4)]),
                        fees_in_cost: self.maybe(2).then(|| self.maybe(2)),
                    };
                    let command = PortfolioCommand::ChangeAccounting(change);
                    self.portfolio(commands, portfolio_id, None, command).await;
                }
                79 => {
                    let asset = AssetRef::Id(self.asset(ASSETS.len()));
                    let first = self.below(3);
                    let ranked = [first, (first + 1) % 3].map(|n| RankedSource {
                        source: SOURCES[n].to_owned(),
                        adjustment: Adjustment::None,
                    });
                    let command = RankSources { sources: ranked.to_vec() };
                    self.send(commands, Command::RankSources { asset, command }).await;
                }
                drawn => {
                    self.prices(commands).await;
                    if drawn == 80 {
                        self.earnings(commands).await;
                    }
                }
            }
        }
    }

    /// One more fact, and not of the market.
    pub async fn deposit(&mut self, commands: &Commands) {
        let cash = CashCommand { currency: Some("USD".parse().unwrap()), ..self.cash() };
        let tracked = self.portfolios[8];
        self.portfolio(commands, tracked, None, PortfolioCommand::Deposit(cash)).await;
    }

    fn id(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random.random()).into_uuid()
    }

    fn below(&mut self, n: usize) -> usize {
        self.random.random_range(0..n)
    }

    /// One of the first so many.
    fn asset(&mut self, count: usize) -> AssetId {
        let drawn = self.below(count);
        self.assets[drawn]
    }

    /// Once in `n` times.
    fn maybe(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A decimal below `whole` with up to `decimals` places, greater than zero.
    fn decimal(&mut self, whole: usize, decimals: usize) -> String {
        let places = self.below(decimals + 1);
        let fraction = self.below(10_usize.pow(u32::try_from(places).unwrap()));
        let whole = self.below(whole);
        if whole == 0 && fraction == 0 {
            "1".into()
        } else {
            format!("{whole}.{fraction:0places$}").trim_end_matches('.').to_owned()
        }
    }

    /// Mostly recent and rising, sometimes far back.
    fn day(&mut self) -> NaiveDate {
        let back = if self.maybe(4) { self.below(300) } else { self.below(10) };
        self.today - Days::new(u64::try_from(back).unwrap())
    }

    fn trade(&mut self, asset_id: AssetId) -> TradeCommand {
        let charge = |history: &mut Self| if history.maybe(2) { history.decimal(20, 4) } else { "0".into() };
        TradeCommand {
            asset_id,
            quantity: self.decimal(50, 10).parse().unwrap(),
            price: self.decimal(500, 6).parse().unwrap(),
            fee: charge(self).parse().unwrap(),
            tax: charge(self).parse().unwrap(),
            currency: None,
            fx_rate: self.maybe(2).then(|| self.decimal(9, 9).parse().unwrap()),
            settle: if self.maybe(3) { Settlement::Base } else { Settlement::Asset },
            trade_date: Some(self.day()),
            note: self.maybe(5).then(|| "a remark".to_owned()),
        }
    }

    fn cash(&mut self) -> CashCommand {
        const CURRENCIES: [&str; 5] = ["USD", "EUR", "GBP", "JPY", "CHF"];
        CashCommand {
            amount: self.decimal(20_000, 4).parse().unwrap(),
            currency: Some(CURRENCIES[self.below(5)].parse().unwrap()),
            trade_date: Some(self.day()),
            note: None,
        }
    }

    /// A body of ticks and closes, some of them known, late or twice.
    /// Of one of a few quarters, so that reports replace each other.
    async fn earnings(&mut self, commands: &Commands) {
        const SHARES: [usize; 3] = [0, 2, 3];
        let mut below = |n: u32| self.apart.random_range(0..n);
        let asset = AssetRef::Id(self.assets[SHARES[below(3) as usize]]);
        let mut amount = |n: u32| format!("{}.{:04}", below(n), below(10_000)).parse().unwrap();
        let (earnings_per_share, estimate, revenue) = (amount(9), amount(9), amount(1_000_000));
        let command = ReportEarnings {
            quarter: format!("2024-Q{}", 1 + below(4)).parse().unwrap(),
            earnings_per_share,
            estimate: (below(2) == 0).then_some(estimate),
            revenue: (below(2) == 0).then_some(revenue),
            currency: (below(3) == 0).then(|| "CHF".parse().unwrap()),
            reported_on: (below(2) == 0).then_some(self.today),
        };
        self.send(commands, Command::ReportEarnings { asset, command }).await;
    }

    async fn prices(&mut self, commands: &Commands) {
        let now = Clock::System.now();
        let mut lines = String::new();
        for _ in 0..=self.below(8) {
            let asset = self.asset(ASSETS.len());
            let source = SOURCES[self.below(3)];
            let price = self.decimal(5, 3);
            let time = if self.maybe(3) {
                format!(r#""day":"{}""#, self.day())
            } else {
                let back = TimeDelta::seconds(i64::try_from(self.below(90) * 30).unwrap());
                format!(r#""at":"{}""#, (now - back).format("%Y-%m-%dT%H:%M:00Z"))
            };
            lines.push_str(&format!(
                "{{\"asset\":\"{asset}\",\"price\":\"{price}\",{time},\"source\":\"{source}\"}}\n"
            ));
        }
        self.post(commands, lines).await;
    }

    /// A walk of closes, so that there are past rates and something to measure risk by. One asset is too young for that.
    async fn past_closes(&mut self, commands: &Commands) {
        let mut lines = String::new();
        for (n, asset) in self.assets.clone().into_iter().enumerate() {
            let mut price = 2_000_000;
            for back in (1..if n == 4 { 30 } else { 250 }).rev() {
                price += price * self.random.random_range(-30..=30) / 1_000;
                let (day, price) =
                    (self.today - Days::new(back), format!("{}.{:06}", price / 1_000_000, price % 1_000_000));
                lines.push_str(&format!("{{\"asset\":\"{asset}\",\"price\":\"{price}\",\"day\":\"{day}\",\"source\":\"exchange\"}}\n"));
            }
        }
        self.post(commands, lines).await;
    }

    async fn post(&mut self, commands: &Commands, lines: String) {
        let bulk = PriceBulk {
            command_id: self.id(),
            actor: "test".into(),
            correlation_id: Uuid::nil(),
            deadline: Instant::now() + Duration::from_secs(10),
            body: lines.into(),
            format: BodyFormat::Ndjson,
        };
        self.accepted += commands.post_prices(&bulk).await.unwrap().accepted;
    }

    async fn portfolio(
        &mut self,
        commands: &Commands,
        portfolio_id: PortfolioId,
        asset: Option<AssetRef>,
        command: PortfolioCommand,
    ) {
        let sent = Command::Portfolio { portfolio_id, asset, command: command.clone() };
        if let Some(rejection) = self.send(commands, sent).await {
            match rejection {
                Rejection::InsufficientHolding { .. } | Rejection::InsufficientCash { .. } => {
                    self.insufficient.push((portfolio_id, command, rejection));
                }
                Rejection::CashUntracked | Rejection::InvalidFields(_) => {}
                other => panic!("{command:?}: {other}"),
            }
        }
    }

    async fn send(&mut self, commands: &Commands, command: Command) -> Option<Rejection> {
        match commands.execute(request(command)).await {
            Ok(_) => self.accepted += 1,
            Err(Refusal::Rejected(rejection)) => return Some(rejection),
            Err(other) => panic!("{other}"),
        }
        None
    }
}
