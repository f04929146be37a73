//! The risk consumer: rows follow facts, prices and closes, and equal their recomputation from what they name.

use std::time::Duration;

use chrono::{Days, NaiveDate, SecondsFormat};
use insight::analysis::{ColumnId, Exposure, MarketModel, Pool, Settings, load_inputs, portfolio_figures};
use insight::clock::Clock;
use insight::commands::prices::{BodyFormat, PriceBulk};
use insight::domain::ids::PortfolioId;
use insight::domain::portfolio::event::CashMode;
use insight::feed::{Source, StoreTail, WindowLimits};
use insight::projectors::holdings::Holdings;
use insight::projectors::prices::Prices;
use insight::projectors::risk::{Engine, Risk};
use insight::projectors::{self, run};
use sqlx::{PgPool, Row};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::environment::{self, TestDatabase};
use crate::ledger::{Ledger, buy};

const SETTINGS: Engine = Engine {
    window: 400,
    simulation: Settings { seed: 7, degrees_of_freedom: 5.0, paths: 1_024 },
    threads: 2,
};

/// Projectors of everything that risk stands on, and of risk.
struct Running {
    _tasks: JoinSet<()>,
    _stop: DropGuard,
}

async fn start(database: &TestDatabase) -> Running {
    let cancel = CancellationToken::new();
    let pool = database.pool.clone();
    let source = Source::Store(StoreTail::start(pool.clone(), WindowLimits::default()));
    let mut tasks = JoinSet::new();
    let (one, two) = (source.clone(), source.clone());
    let (pool_one, pool_two) = (pool.clone(), pool.clone());
    let (stop_one, stop_two, stop) = (cancel.clone(), cancel.clone(), cancel.clone());
    tasks.spawn(async move { run(Holdings::default(), one, pool_one, stop_one).await.unwrap() });
    tasks.spawn(async move { run(Prices::default(), two, pool_two, stop_two).await.unwrap() });
    let risk = Risk::open(&source, &pool, SETTINGS).await.unwrap();
    tasks.spawn(async move { projectors::run(risk, source, pool, stop).await.unwrap() });
    Running { _tasks: tasks, _stop: cancel.drop_guard() }
}

async fn post(ledger: &Ledger, lines: String) -> i64 {
    let bulk = PriceBulk {
        command_id: Uuid::now_v7(),
        actor: "test".into(),
        correlation_id: Uuid::now_v7(),
        deadline: Instant::now() + Duration::from_secs(20),
        body: lines.into(),
        format: BodyFormat::Ndjson,
    };
    let answer = ledger.commands.post_prices(&bulk).await.unwrap();
    assert_eq!(answer.rejected_count, 0);
    answer.place.unwrap().1.0
}

/// Closes on weekdays up to yesterday: a walk that differs by asset.
fn closes(asset: &str, days: u64, step: u64) -> String {
    let mut price = 100.0_f64;
    let first = Clock::System.now().date_naive() - Days::new(days);
    let mut lines = String::new();
    for day in 0..days {
        let date: NaiveDate = first + Days::new(day);
        if matches!(chrono::Datelike::weekday(&date), chrono::Weekday::Sat | chrono::Weekday::Sun) {
            continue;
        }
        let draw = ((day * 7_919 + step * 104_729) % 1_009) as f64 / 1_009.0 - 0.5;
        price *= 1.0 + 0.03 * draw;
        lines += &format!("{{\"asset\":\"{asset}\",\"day\":\"{date}\",\"price\":\"{price:.4}\"}}\n");
    }
    lines
}

async fn row(pool: &PgPool, portfolio: PortfolioId) -> Option<sqlx::postgres::PgRow> {
    let sql = "select portfolio_position, price_position, model_cut, model_hash, base_currency, incomplete, \
               value_at_risk_99, figures::text as figures, exposures::text as exposures \
               from risk.portfolio_risks where portfolio_id = $1";
    sqlx::query(sql).bind(portfolio.0).fetch_optional(pool).await.unwrap()
}

/// Waits for a row that satisfies a condition.
async fn wait(
    pool: &PgPool,
    portfolio: PortfolioId,
    what: &str,
    holds: impl Fn(&sqlx::postgres::PgRow) -> bool,
) -> sqlx::postgres::PgRow {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(row) = row(pool, portfolio).await
            && holds(&row)
        {
            return row;
        }
        assert!(Instant::now() < deadline, "no row in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Computes a row again from what it names: its exposures, and the closes up to its cut.
async fn recompute(pool: &PgPool, row: &sqlx::postgres::PgRow) -> String {
    let inputs = load_inputs(pool, SETTINGS.window, SETTINGS.simulation).await.unwrap();
    assert_eq!(inputs.cut as i64, row.get::<i64, _>("model_cut"), "closes have come since");
    let model = MarketModel::build(inputs, &Pool::new(1).unwrap()).unwrap();
    assert_eq!(model.hash(), row.get::<String, _>("model_hash"));
    let parts: Vec<serde_json::Value> = serde_json::from_str(row.get("exposures")).unwrap();
    let exposures: Vec<Exposure> = parts
        .iter()
        .filter(|part| !part["value_base"].is_null())
        .map(|part| {
            let column = match part["asset_id"].as_str() {
                Some(id) => ColumnId::Asset(id.parse().unwrap()),
                None => ColumnId::Currency(part["currency"].as_str().unwrap().into()),
            };
            Exposure { column, value_base: part["value_base"].as_str().unwrap().parse().unwrap() }
        })
        .collect();
    let figures = portfolio_figures(&model, row.get("base_currency"), &exposures).unwrap();
    serde_json::to_string(&figures).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_follows_facts_prices_and_closes_and_equals_its_recomputation() {
    let database = environment::database().await;
    let ledger = Ledger::start(&database);
    let _running = start(&database).await;
    let portfolio = ledger.portfolio_only(CashMode::Untracked).await;
    let mut symbols = Vec::new();
    for step in 0..3 {
        let asset = ledger.asset().await;
        let insight::commands::AssetRef::Id(id) = asset.clone() else { unreachable!() };
        post(&ledger, closes(&id.to_string(), 700, step)).await;
        symbols.push((asset, id));
    }

    let bought = ledger.send(buy(portfolio, &symbols[0].0, "10", "100")).await.unwrap();
    let first = wait(&database.pool, portfolio, "after a trade", |row| {
        row.get::<i64, _>("portfolio_position") == bought.position.0
            && row.get::<Option<f64>, _>("value_at_risk_99").is_some()
    })
    .await;
    assert!(first.get::<f64, _>("value_at_risk_99") > 0.0);
    assert!(!first.get::<bool, _>("incomplete"));
    assert_eq!(recompute(&database.pool, &first).await, first.get::<String, _>("figures"));

    // A price doubles the holding, and so its risk.
    let at = Clock::System.now().to_rfc3339_opts(SecondsFormat::Micros, true);
    let exposures: Vec<serde_json::Value> = serde_json::from_str(first.get("exposures")).unwrap();
    let price: f64 = exposures[0]["price"].as_str().unwrap().parse().unwrap();
    let tick =
        format!("{{\"asset\":\"{}\",\"at\":\"{at}\",\"price\":\"{:.4}\"}}\n", symbols[0].1, 2.0 * price);
    let position = post(&ledger, tick).await;
    let second = wait(&database.pool, portfolio, "after a price", |row| {
        row.get::<i64, _>("price_position") == position
    })
    .await;
    let ratio = second.get::<f64, _>("value_at_risk_99") / first.get::<f64, _>("value_at_risk_99");
    assert!((ratio - 2.0).abs() < 1e-3, "{ratio}");

    // Closes make another model.
    let day = Clock::System.now().date_naive();
    let close = format!("{{\"asset\":\"{}\",\"day\":\"{day}\",\"price\":\"{:.4}\"}}\n", symbols[0].1, price);
    let position = post(&ledger, close).await;
    let third =
        wait(&database.pool, portfolio, "after a close", |row| row.get::<i64, _>("model_cut") >= position)
            .await;
    assert_eq!(recompute(&database.pool, &third).await, third.get::<String, _>("figures"));

    // What has no price is said to be missing, not taken for nothing.
    let unpriced = ledger.asset().await;
    let bought = ledger.send(buy(portfolio, &unpriced, "1", "5")).await.unwrap();
    let fourth = wait(&database.pool, portfolio, "after a trade of what has no price", |row| {
        row.get::<i64, _>("portfolio_position") == bought.position.0
    })
    .await;
    assert!(fourth.get::<bool, _>("incomplete"));
    assert!(fourth.get::<String, _>("exposures").contains("no_price"));
}
