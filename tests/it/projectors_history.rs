//! A history to project: events straight into the log, with the versions kept here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use insight::domain::asset::{AssetClass, AssetEvent, AssetListed, EarningsReported, SymbolClaimed};
use insight::domain::ids::{AssetId, InvestorId, JobId, PortfolioId, Position, StreamId, Version};
use insight::domain::investor::{InvestorEvent, InvestorRegistered};
use insight::domain::job::event::{
    JobChanged, JobDefined, JobEvent, JobKind, JobSettings, Overlap, Schedule,
};
use insight::domain::money::{Amount, Rate};
use insight::domain::portfolio::event::{
    AccountingChanged, CashEffect, CashMode, CashMovement, CostBasis, PortfolioEvent, PortfolioOpened,
    Settlement, Trade,
};
use insight::domain::price::{Close, ClosesObserved, PriceEvent, PricesObserved, Tick};
use insight::event_store::{Append, Appender, Details, Outcome, Part};
use insight::events::{Event, NewEvent};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgPool, Row};
use uuid::Uuid;

/// Writes a history.
pub struct History {
    appender: Appender,
    versions: HashMap<StreamId, i64>,
    waiting: Vec<Append>,
    ids: u128,
}

/// The day with this number in January 2024.
pub fn january(day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2024, 1, day).unwrap()
}

/// Noon of that day.
pub fn noon(day: u32) -> DateTime<Utc> {
    january(day).and_hms_opt(12, 0, 0).unwrap().and_utc()
}

impl History {
    pub fn new(options: PgConnectOptions) -> Self {
        Self { appender: Appender::new(options), versions: HashMap::new(), waiting: Vec::new(), ids: 0 }
    }

    /// The next id: the same in every run.
    fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128((0x0192 << 112) | self.ids)
    }

    /// Puts an event into its stream with the next commit. Prices are blind.
    pub fn record(&mut self, stream: StreamId, event: impl Into<Event>) {
        let event = NewEvent::new(event, noon(31));
        self.record_raw(stream, event);
    }

    pub fn record_raw(&mut self, stream: StreamId, event: NewEvent) {
        let blind = stream.as_str().starts_with("price-");
        let version = self.versions.entry(stream.clone()).or_default();
        let expected = (!blind).then_some(Version(*version));
        *version += 1;
        let command_id = self.id();
        self.waiting.push(Append {
            command_id,
            request_hash: Arc::from([0_u8; 32].as_slice()),
            correlation_id: command_id,
            causation_position: None,
            actor: "test".into(),
            parts: vec![Part { stream_id: stream, expected, events: vec![event] }],
            guards: Vec::new(),
            details: None,
            refused: None,
        });
    }

    /// Commits what waits, and says where the log ends.
    pub async fn commit(&mut self) -> Position {
        let mut head = Position(0);
        for batch in std::mem::take(&mut self.waiting).chunks(1_000) {
            let answered = self.appender.append(batch).await.unwrap();
            let accepted = answered.outcomes.iter().all(|it| matches!(it, Outcome::Accepted { .. }));
            assert!(accepted, "{:?}", answered.outcomes);
            head = answered.head;
        }
        head
    }

    pub fn investor(&mut self, name: &str) -> InvestorId {
        let id = InvestorId(self.id());
        let event = InvestorRegistered { investor_id: id, risk_tolerance: None, experience_level: None };
        self.record(id.stream(), InvestorEvent::InvestorRegistered(event));
        let email = format!("{}@example.com", name.to_lowercase());
        self.waiting.last_mut().unwrap().details =
            Some(Details { investor_id: id.0, name: name.into(), email });
        id
    }

    pub fn asset(&mut self, symbol: &str, class: AssetClass, currency: &str) -> AssetId {
        let id = AssetId(self.id());
        let claimed = SymbolClaimed { symbol: symbol.parse().unwrap(), asset_id: id };
        self.record(StreamId::symbol(symbol), AssetEvent::SymbolClaimed(claimed));
        let listed = AssetListed {
            asset_id: id,
            symbol: symbol.parse().unwrap(),
            name: format!("{symbol} plc"),
            class,
            currency: currency.parse().unwrap(),
            quote_unit: "1".parse().unwrap(),
            isin: None,
            exchange: None,
        };
        self.record(id.stream(), AssetEvent::AssetListed(listed));
        id
    }

    pub fn earnings(&mut self, asset: AssetId, quarter: &str, earnings: &str) {
        let reported = EarningsReported {
            asset_id: asset,
            quarter: quarter.parse().unwrap(),
            earnings_per_share: earnings.parse().unwrap(),
            estimate: None,
            revenue: None,
            currency: "USD".parse().unwrap(),
            reported_on: None,
        };
        self.record(asset.stream(), AssetEvent::EarningsReported(reported));
    }

    pub fn portfolio(&mut self, investor: InvestorId, name: &str, base: &str, cash: CashMode) -> PortfolioId {
        let id = PortfolioId(self.id());
        let opened = PortfolioOpened {
            portfolio_id: id,
            investor_id: investor,
            name: name.into(),
            base_currency: base.parse().unwrap(),
            time_zone: "UTC".into(),
            cost_basis: CostBasis::Fifo,
            fees_in_cost: false,
            cash,
            allow_short: false,
        };
        self.record(id.stream(), PortfolioEvent::PortfolioOpened(opened));
        id
    }

    /// A job whose settings are changed so many times.
    pub fn job(&mut self, name: &str, changes: u32) -> StreamId {
        let job_id = JobId(self.id());
        let settings = |attempts_max| JobSettings {
            kind: JobKind::Verify,
            schedule: Schedule::Interval { seconds: 3_600 },
            soft_limit_seconds: 60,
            time_limit_seconds: 120,
            attempts_max,
            retry_pause_seconds: 5,
            overlap: Overlap::Skip,
            symbols: Vec::new(),
            source: None,
        };
        let name = name.to_owned();
        let defined = JobDefined { job_id, name, settings: settings(1), defined_at: noon(1) };
        self.record(job_id.stream(), JobEvent::JobDefined(defined));
        for n in 1..=changes {
            let changed = JobChanged { job_id, settings: settings(1 + n), changed_at: noon(1 + n) };
            self.record(job_id.stream(), JobEvent::JobChanged(changed));
        }
        job_id.stream()
    }

    pub fn account(&mut self, id: PortfolioId, change: AccountingChanged) {
        self.record(id.stream(), PortfolioEvent::AccountingChanged(change));
    }

    pub fn buy(&mut self, id: PortfolioId, asset: AssetId, quantity: &str, price: &str, day: u32) {
        self.record(id.stream(), PortfolioEvent::AssetBought(trade(asset, quantity, price, january(day))));
    }

    pub fn sell(&mut self, id: PortfolioId, asset: AssetId, quantity: &str, price: &str, day: u32) {
        self.record(id.stream(), PortfolioEvent::AssetSold(trade(asset, quantity, price, january(day))));
    }

    pub fn deposit(&mut self, id: PortfolioId, amount: &str, currency: &str, day: u32) {
        let cash = CashMovement {
            amount: amount.parse().unwrap(),
            currency: currency.parse().unwrap(),
            trade_date: january(day),
            note: Some("salary".into()),
        };
        self.record(id.stream(), PortfolioEvent::CashDeposited(cash));
    }

    pub fn tick(&mut self, asset: AssetId, price: &str, currency: &str, at: DateTime<Utc>) {
        let observed = PricesObserved {
            asset_id: asset,
            source: "exchange".into(),
            currency: currency.parse().unwrap(),
            ticks: vec![Tick { at, price: price.parse().unwrap(), volume: None }],
        };
        self.record(asset.price_stream(), PriceEvent::PricesObserved(observed));
    }

    pub fn close(&mut self, asset: AssetId, price: &str, currency: &str, day: u32) {
        self.close_with(asset, price, currency, day, None);
    }

    fn close_with(&mut self, asset: AssetId, price: &str, currency: &str, day: u32, volume: Option<&str>) {
        let observed = ClosesObserved {
            asset_id: asset,
            source: "exchange".into(),
            currency: currency.parse().unwrap(),
            closes: vec![Close {
                day: january(day),
                price: price.parse().unwrap(),
                volume: volume.map(|volume| volume.parse().unwrap()),
            }],
        };
        self.record(asset.price_stream(), PriceEvent::ClosesObserved(observed));
    }

    /// Investors, portfolios in two currencies, trades in and out of order, prices and rates: a bit of everything, the
    /// same for the same arguments.
    pub fn of_everything(&mut self, portfolios: u32, trades: u32) -> Vec<PortfolioId> {
        let mut draw = 17_u64;
        let mut below = |n: u64| {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (draw >> 33) % n
        };
        let investor = self.investor("Ada");
        let assets: Vec<_> = (0..5)
            .map(|i| {
                let currency = if i == 4 { "EUR" } else { "USD" };
                (self.asset(&format!("S{i}"), AssetClass::Equity, currency), currency)
            })
            .collect();
        for (quarter, earnings) in [("2024-Q1", "1.5"), ("2023-Q4", "-0.2"), ("2024-Q1", "1.6")] {
            self.earnings(assets[0].0, quarter, earnings);
        }
        let eurusd = self.asset("EURUSD", AssetClass::Fx, "USD");
        self.close(eurusd, "1.1", "USD", 2);
        let ids: Vec<_> = (0..portfolios)
            .map(|i| {
                let cash = if i % 2 == 0 { CashMode::Tracked } else { CashMode::Untracked };
                self.portfolio(investor, &format!("P{i}"), if i % 3 == 0 { "EUR" } else { "USD" }, cash)
            })
            .collect();
        for i in 0..trades {
            let id = ids[below(u64::from(portfolios)) as usize];
            let (asset, currency) = assets[below(5) as usize];
            let day = if below(10) == 0 { 2 + below(20) as u32 } else { 3 + i * 25 / trades };
            let quantity = (1 + below(90)).to_string();
            let price = format!("{}.{}", 10 + below(90), below(100));
            match below(12) {
                0..=6 => self.buy(id, asset, &quantity, &price, day),
                7 | 8 => self.sell(id, asset, "1", &price, day),
                9 => self.deposit(id, "1000", "USD", day),
                10 => self.tick(asset, &price, currency, noon(2) + TimeDelta::seconds(i64::from(i))),
                _ => {
                    // The volume is told with the price, later, told anew, or never.
                    let told =
                        [&[None][..], &[Some("70")], &[None, Some("80")], &[Some("90"), Some("91"), None]];
                    for volume in told[i as usize % told.len()] {
                        self.close_with(asset, &price, currency, day, *volume);
                    }
                }
            }
        }
        let basis =
            AccountingChanged { cost_basis: Some(CostBasis::Average), ..AccountingChanged::default() };
        self.account(ids[0], basis);
        self.tick(eurusd, "1.2", "USD", noon(30));
        ids
    }
}

pub fn trade(asset: AssetId, quantity: &str, price: &str, day: NaiveDate) -> Trade {
    let (quantity, price) = (quantity.parse().unwrap(), price.parse().unwrap());
    let amount = Amount::gross(quantity, price, "1".parse::<Rate>().unwrap()).unwrap();
    Trade {
        asset_id: asset,
        quantity,
        price,
        currency: "USD".parse().unwrap(),
        amount,
        fee: "1".parse().unwrap(),
        tax: Amount::ZERO,
        fx_rate: None,
        settle: Settlement::Asset,
        cash: Some(CashEffect { currency: "USD".parse().unwrap(), amount: -amount }),
        trade_date: day,
        note: None,
    }
}

/// Waits until every shard of a read model was scanned to a position.
pub async fn reached(pool: &PgPool, read_model: &str, position: Position) {
    let sql = format!("select coalesce(min(scanned_to), 0) from {read_model}.checkpoints");
    for _ in 0..1_500 {
        let least: i64 = sqlx::query_scalar(AssertSqlSafe(sql.clone())).fetch_one(pool).await.unwrap();
        if least >= position.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{read_model} did not reach {position}");
}

/// Every row of some tables as text, in a fixed order: what two runs are compared by.
pub async fn rows_of(pool: &PgPool, tables: &[&str]) -> Vec<String> {
    let mut rows = Vec::new();
    for table in tables {
        let sql = format!("select row_to_json(t)::text as row from {table} t order by 1");
        let found = sqlx::query(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap();
        rows.extend(found.iter().map(|row| format!("{table} {}", row.get::<String, _>("row"))));
    }
    rows
}
