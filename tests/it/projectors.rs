//! From the log to rows: what each read model says of a small history, and that nothing disturbs it.

use std::time::Duration;

use insight::domain::asset::AssetClass;
use insight::domain::ids::Position;
use insight::domain::portfolio::event::{AccountingChanged, CashMode, CostBasis};
use insight::events::NewEvent;
use insight::feed::{Source, StoreTail, WindowLimits};
use insight::projectors::activity::Activity;
use insight::projectors::directory::Directory;
use insight::projectors::holdings::Holdings;
use insight::projectors::prices::Prices;
use insight::projectors::risk::Engine;
use insight::projectors::valuations::Valuations;
use insight::projectors::{self, Error, ReadModel, Settings, rebuild};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::environment::{self, TestDatabase};
use crate::projectors_history::{History, reached, rows_of};

const HOLDINGS: &[&str] =
    &["holdings.ledgers", "holdings.entries", "holdings.holdings", "holdings.lots", "holdings.cash"];
const DIRECTORY: &[&str] = &[
    "directory.investors",
    "directory.portfolios",
    "directory.assets",
    "directory.symbols",
    "directory.earnings",
];
const ACTIVITY: &[&str] = &["activity.activities"];
const PRICES: &[&str] = &["prices.quotes", "prices.price_sources", "prices.closes"];
const VALUATIONS: &[&str] =
    &["valuations.valued_portfolios", "valuations.valued_holdings", "valuations.valued_cash"];

fn source(pool: &PgPool) -> Source {
    Source::Store(StoreTail::start(pool.clone(), WindowLimits::default()))
}

/// A projector that runs until it is dropped, which kills it wherever it stands.
struct Running(JoinHandle<Result<(), Error>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn start<M: ReadModel>(model: M, database: &TestDatabase, settings: Settings) -> Running {
    let pool = database.pool.clone();
    let source = source(&pool);
    let run = projectors::run_with(model, source, pool, CancellationToken::new(), settings);
    Running(tokio::spawn(run))
}

async fn project<M: ReadModel>(model: M, database: &TestDatabase, to: Position) {
    let _running = start(model, database, Settings::default());
    reached(&database.pool, M::NAME, to).await;
}

#[tokio::test]
async fn holdings_follow_the_ledger_in_order_backdated_and_with_another_cost_basis() {
    let database = environment::database().await;
    let mut history = History::new(database.options());
    let ada = history.investor("Ada");
    let apple = history.asset("AAPL", AssetClass::Equity, "USD");
    let fifo = history.portfolio(ada, "First in, first out", "USD", CashMode::Tracked);
    let average = history.portfolio(ada, "Average", "USD", CashMode::Untracked);
    for id in [fifo, average] {
        history.buy(id, apple, "10", "100", 10);
        history.buy(id, apple, "10", "120", 12);
        history.sell(id, apple, "15", "130", 15);
    }
    let first = history.commit().await;
    project(Holdings::default(), &database, first).await;
    let gain = "select realized_gain::text, quantity::text, cost::text from holdings.holdings where portfolio_id = $1";
    let holding = |id: uuid::Uuid| sqlx::query_as::<_, (String, String, String)>(gain).bind(id);
    let found = holding(fifo.0).fetch_one(&database.pool).await.unwrap();
    // 10 × (130 − 100) + 5 × (130 − 120); 5 left at 120.
    assert_eq!(found, ("350.0000000000".into(), "5.0000000000".into(), "600.0000000000".into()));

    // Bought before everything else, so the sale took these first; and the other one accounts anew.
    history.buy(fifo, apple, "10", "90", 2);
    let change = AccountingChanged { cost_basis: Some(CostBasis::Average), ..AccountingChanged::default() };
    history.account(average, change);
    let second = history.commit().await;
    project(Holdings::default(), &database, second).await;
    let found = holding(fifo.0).fetch_one(&database.pool).await.unwrap();
    // 10 × (130 − 90) + 5 × (130 − 100); 5 at 100 and 10 at 120 left.
    assert_eq!(found, ("550.0000000000".into(), "15.0000000000".into(), "1700.0000000000".into()));
    let found = holding(average.0).fetch_one(&database.pool).await.unwrap();
    // 15 × (130 − 110); 5 left at 110.
    assert_eq!(found, ("300.0000000000".into(), "5.0000000000".into(), "550.0000000000".into()));
    let lots: Vec<(String, String)> = sqlx::query_as(
        "select quantity::text, cost::text from holdings.lots where portfolio_id = $1 order by opened_on",
    )
    .bind(fifo.0)
    .fetch_all(&database.pool)
    .await
    .unwrap();
    assert_eq!(
        lots,
        [
            ("5.0000000000".into(), "500.0000000000".into()),
            ("10.0000000000".into(), "1200.0000000000".into())
        ]
    );
}

#[tokio::test]
async fn the_directory_knows_settings_versions_and_every_symbol() {
    let database = environment::database().await;
    let mut history = History::new(database.options());
    let ada = history.investor("Ada");
    let apple = history.asset("AAPL", AssetClass::Equity, "USD");
    let id = history.portfolio(ada, "Growth", "USD", CashMode::Untracked);
    history.buy(id, apple, "1", "1", 2);
    let renamed = AccountingChanged { name: Some("Value".into()), ..AccountingChanged::default() };
    history.account(id, renamed);
    let head = history.commit().await;
    project(Directory::default(), &database, head).await;
    history.buy(id, apple, "1", "1", 3);
    let head = history.commit().await;
    project(Directory::default(), &database, head).await;

    let found: (String, String, i64, i64) =
        sqlx::query_as("select name, cost_basis, version, position from directory.portfolios")
            .fetch_one(&database.pool)
            .await
            .unwrap();
    assert_eq!(found, ("Value".into(), "fifo".into(), 4, head.0));
    let symbol: uuid::Uuid =
        sqlx::query_scalar("select asset_id from directory.symbols where symbol = 'AAPL'")
            .fetch_one(&database.pool)
            .await
            .unwrap();
    assert_eq!(symbol, apple.0);
}

#[tokio::test]
async fn activity_says_what_happened() {
    let database = environment::database().await;
    let mut history = History::new(database.options());
    let ada = history.investor("Ada");
    let id = history.portfolio(ada, "Growth", "USD", CashMode::Tracked);
    history.deposit(id, "12.5", "USD", 7);
    let head = history.commit().await;
    project(Activity::default(), &database, head).await;
    let found: Vec<(String, String, Option<String>, Option<String>)> = sqlx::query_as(
        "select kind, happened_on::text, cash_amount::text, note from activity.activities order by position",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    assert_eq!(found[0].0, "opened");
    let deposit = ("deposit", "2024-01-07", Some("12.5000000000"), Some("salary"));
    let (kind, day, amount, note) = &found[1];
    assert_eq!((kind.as_str(), day.as_str(), amount.as_deref(), note.as_deref()), deposit);
}

/// Kills a projector at random moments until it is done, in batches so small that most moments are inside one.
async fn project_with_kills<M: ReadModel>(model: impl Fn() -> M, database: &TestDatabase, to: Position) {
    let settings = Settings { batch_events_max: 7, ..Settings::default() };
    for round in 0..40_u64 {
        let running = start(model(), database, settings);
        tokio::time::sleep(Duration::from_millis(2 + round * 7 % 23)).await;
        drop(running);
    }
    let _running = start(model(), database, Settings::default());
    reached(&database.pool, M::NAME, to).await;
}

#[tokio::test]
async fn a_projector_that_is_killed_again_and_again_leaves_the_rows_of_an_undisturbed_one() {
    let database = environment::database().await;
    let mut history = History::new(database.options());
    history.of_everything(6, 400);
    let head = history.commit().await;
    project_with_kills(Holdings::default, &database, head).await;
    project_with_kills(Directory::default, &database, head).await;
    project_with_kills(Activity::default, &database, head).await;
    project_with_kills(Prices::default, &database, head).await;
    let tables = [HOLDINGS, DIRECTORY, ACTIVITY, PRICES].concat();
    let disturbed = rows_of(&database.pool, &tables).await;

    for name in ["holdings", "directory", "activity", "prices"] {
        rebuild::rebuild(name, &database.pool, Engine::default(), |_| {}).await.unwrap();
    }
    let undisturbed = rows_of(&database.pool, &tables).await;
    assert!(undisturbed.len() > 300);
    assert_eq!(disturbed, undisturbed);
}

#[tokio::test]
async fn a_stolen_checkpoint_makes_the_projector_load_again_and_write_nothing_twice() {
    let database = environment::database().await;
    let mut history = History::new(database.options());
    let ids = history.of_everything(4, 100);
    let head = history.commit().await;
    let _running = start(Holdings::default(), &database, Settings::default());
    reached(&database.pool, "holdings", head).await;

    // Another process takes every shard over; memory is worth nothing now, so it must be read again.
    sqlx::query("update holdings.checkpoints set revision = nextval('checkpoint_revisions')")
        .execute(&database.pool)
        .await
        .unwrap();
    sqlx::query("update holdings.ledgers set version = version + 1000")
        .execute(&database.pool)
        .await
        .unwrap();
    history.deposit(ids[0], "1", "USD", 28);
    let head = history.commit().await;
    reached(&database.pool, "holdings", head).await;
    let versions: Vec<(i64, i64)> =
        sqlx::query_as("select version, position from holdings.ledgers where portfolio_id = $1")
            .bind(ids[0].0)
            .fetch_all(&database.pool)
            .await
            .unwrap();
    assert_eq!(versions.len(), 1);
    assert_eq!(versions[0].1, head.0);
    let entries: i64 = sqlx::query_scalar("select count(*) from holdings.entries where position = $1")
        .bind(head.0)
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert_eq!(entries, 1);
}

#[tokio::test]
async fn poison_parks_its_stream_and_no_other() {
    let database = environment::database().await;
    let mut history = History::new(database.options());
    let ada = history.investor("Ada");
    let bad = history.portfolio(ada, "Bad", "USD", CashMode::Tracked);
    let good = history.portfolio(ada, "Good", "USD", CashMode::Tracked);
    history.deposit(bad, "5", "USD", 2);
    let broken = NewEvent {
        event_type: "CashDeposited",
        schema_version: 1,
        payload: r#"{"amount": 5}"#.into(),
        occurred_at: crate::projectors_history::noon(2),
    };
    history.record_raw(bad.stream(), broken);
    history.deposit(bad, "7", "USD", 3);
    history.deposit(good, "11", "USD", 3);
    let head = history.commit().await;
    project(Holdings::default(), &database, head).await;
    let cash: Vec<(uuid::Uuid, String)> =
        sqlx::query_as("select portfolio_id, balance::text from holdings.cash order by cash.balance")
            .fetch_all(&database.pool)
            .await
            .unwrap();
    assert_eq!(cash, [(bad.0, "5.0000000000".into()), (good.0, "11.0000000000".into())]);
    let parked: (String, i64) = sqlx::query_as("select stream_id, position from holdings.parked_streams")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert_eq!(parked, (bad.stream().to_string(), head.0 - 2));

    // A projector that starts later skips the stream by reference.
    history.deposit(bad, "13", "USD", 4);
    let head = history.commit().await;
    project(Holdings::default(), &database, head).await;
    let balance: String =
        sqlx::query_scalar("select balance::text from holdings.cash where portfolio_id = $1")
            .bind(bad.0)
            .fetch_one(&database.pool)
            .await
            .unwrap();
    assert_eq!(balance, "5.0000000000");
}

#[tokio::test]
async fn an_event_of_a_newer_program_halts_the_projection() {
    let database = environment::database().await;
    let mut history = History::new(database.options());
    let ada = history.investor("Ada");
    let id = history.portfolio(ada, "Growth", "USD", CashMode::Tracked);
    let unknown = NewEvent {
        event_type: "AssetTokenised",
        schema_version: 1,
        payload: "{}".into(),
        occurred_at: crate::projectors_history::noon(2),
    };
    history.record_raw(id.stream(), unknown);
    history.commit().await;
    let pool = database.pool.clone();
    let run = projectors::run(Holdings::default(), source(&pool), pool, CancellationToken::new());
    let halted = tokio::time::timeout(Duration::from_secs(10), run).await.unwrap();
    assert!(matches!(halted, Err(Error::NewerProgram { .. })), "{halted:?}");
}

#[tokio::test]
async fn too_many_parked_streams_halt_the_projection() {
    let database = environment::database().await;
    let mut history = History::new(database.options());
    let ada = history.investor("Ada");
    for i in 0..3 {
        let id = history.portfolio(ada, &format!("P{i}"), "USD", CashMode::Tracked);
        let broken = NewEvent {
            event_type: "CashDeposited",
            schema_version: 1,
            payload: "[]".into(),
            occurred_at: crate::projectors_history::noon(2),
        };
        history.record_raw(id.stream(), broken);
    }
    history.commit().await;
    let pool = database.pool.clone();
    let settings = Settings { parked_streams_max: 2, ..Settings::default() };
    let run =
        projectors::run_with(Holdings::default(), source(&pool), pool, CancellationToken::new(), settings);
    let halted = tokio::time::timeout(Duration::from_secs(10), run).await.unwrap();
    assert!(matches!(halted, Err(Error::TooManyParked { parked: 3, max: 2, .. })), "{halted:?}");
}

#[tokio::test]
async fn a_changed_shape_is_noticed() {
    let database = environment::database().await;
    projectors::schema::apply_all(&database.pool).await.unwrap();
    sqlx::query("comment on schema holdings is 'shape of another program'")
        .execute(&database.pool)
        .await
        .unwrap();
    let refused = projectors::schema::apply_all(&database.pool).await;
    assert!(matches!(refused, Err(Error::ChangedShape { .. })), "{refused:?}");
}

async fn start_valuations(database: &TestDatabase) -> Running {
    let model = Valuations::open(&source(&database.pool), &database.pool).await.unwrap();
    start(model, database, Settings::default())
}

/// Waits until valuations reflect all of the log: portfolios and prices.
async fn valued_to(pool: &PgPool, position: Position) {
    for _ in 0..1_500 {
        let least: i64 = sqlx::query_scalar(
            "select coalesce(min(least(scanned_to, price_position)), 0) from valuations.checkpoints",
        )
        .fetch_one(pool)
        .await
        .unwrap();
        if least >= position.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("valuations did not reach {position}");
}

#[tokio::test]
async fn valuations_say_what_is_known_and_name_what_is_missing() {
    let database = environment::database().await;
    let pool = &database.pool;
    let mut history = History::new(database.options());
    let ada = history.investor("Ada");
    let apple = history.asset("AAPL", AssetClass::Equity, "USD");
    let silent = history.asset("NONE", AssetClass::Equity, "USD");
    let eurusd = history.asset("EURUSD", AssetClass::Fx, "USD");
    let euros = history.portfolio(ada, "Euros", "EUR", CashMode::Tracked);
    history.deposit(euros, "2500", "USD", 8);
    history.buy(euros, apple, "10", "100", 8);
    history.buy(euros, silent, "5", "10", 8);
    history.close(eurusd, "1.25", "USD", 5);
    history.tick(apple, "110", "USD", noonish());
    history.tick(eurusd, "1.1", "USD", noonish());
    let head = history.commit().await;
    let _holdings = start(Holdings::default(), &database, Settings::default());
    let _prices = start(Prices::default(), &database, Settings::default());
    let _valuations = start_valuations(&database).await;
    valued_to(pool, head).await;

    type Found = (Option<String>, Option<String>, Option<String>, Option<String>, Option<String>);
    let sql = "select market_value::text, market_value_base::text, cost_base::text, unrealized_gain_base::text, \
               unpriced from valuations.valued_holdings where asset_id = $1";
    let text = |text: &str| Some(text.to_owned());
    // 1,100 USD at 1 / 1.1 = 0.9090909091; bought for 1,000 USD at 1 / 1.25 = 0.8 three days after that close.
    let found: Found = sqlx::query_as(sql).bind(apple.0).fetch_one(pool).await.unwrap();
    let expected = (
        text("1100.0000000000"),
        text("1000.0000000100"),
        text("800.0000000000"),
        text("200.0000000100"),
        None,
    );
    assert_eq!(found, expected);
    let found: Found = sqlx::query_as(sql).bind(silent.0).fetch_one(pool).await.unwrap();
    assert_eq!(found, (None, None, text("40.0000000000"), None, text("no_price")));
    // 2,500 − 1,000 − 50 USD in cash.
    let total: (String, bool, i32, i64) = sqlx::query_as(
        "select cash_base::text, incomplete, unpriced, price_position from valuations.valued_portfolios",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!(total, ("1318.1818181950".into(), true, 1, head.0));

    // A price arrives: the holding is priced, the total complete.
    history.tick(silent, "12", "USD", noonish());
    let head = history.commit().await;
    valued_to(pool, head).await;
    let complete: (bool, i32) =
        sqlx::query_as("select incomplete, unpriced from valuations.valued_portfolios")
            .fetch_one(pool)
            .await
            .unwrap();
    assert_eq!(complete, (false, 0));

    // What is sold disappears.
    history.sell(euros, silent, "5", "12", 9);
    let head = history.commit().await;
    valued_to(pool, head).await;
    let assets: Vec<uuid::Uuid> =
        sqlx::query_scalar("select asset_id from valuations.valued_holdings").fetch_all(pool).await.unwrap();
    assert_eq!(assets, [apple.0]);
}

fn noonish() -> chrono::DateTime<chrono::Utc> {
    crate::projectors_history::noon(20)
}

#[tokio::test]
async fn killed_valuations_equal_rebuilt_ones() {
    let database = environment::database().await;
    let pool = &database.pool;
    let mut history = History::new(database.options());
    let ids = history.of_everything(5, 150);
    history.commit().await;
    let _holdings = start(Holdings::default(), &database, Settings::default());
    let _prices = start(Prices::default(), &database, Settings::default());
    let investor = history.investor("Grace");
    let asset = history.asset("LATE", AssetClass::Equity, "USD");
    let mut head = history.commit().await;
    for round in 0..25_u32 {
        let running = start_valuations(&database).await;
        history.tick(
            asset,
            &format!("{}", 10 + round),
            "USD",
            noonish() + chrono::TimeDelta::seconds(i64::from(round)),
        );
        history.buy(ids[round as usize % ids.len()], asset, "1", "9", 29);
        if round % 5 == 0 {
            history.portfolio(investor, &format!("Late {round}"), "USD", CashMode::Tracked);
        }
        head = history.commit().await;
        tokio::time::sleep(Duration::from_millis(u64::from(3 + round * 11 % 40))).await;
        drop(running);
    }
    let running = start_valuations(&database).await;
    valued_to(pool, head).await;
    let live = rows_of(pool, VALUATIONS).await;
    drop(running);
    rebuild::rebuild("valuations", pool, Engine::default(), |_| {}).await.unwrap();
    let rebuilt = rows_of(pool, VALUATIONS).await;
    assert!(live.len() > 25);
    assert_eq!(live, rebuilt);
}
