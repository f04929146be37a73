//! Every read model at once: started in this process on a feed, waited for, and read back whole.

use std::time::{Duration, Instant};

use insight::analysis::Settings as Simulation;
use insight::domain::ids::{MARKET_SHARD, Position};
use insight::feed::Source;
use insight::projectors::activity::Activity;
use insight::projectors::directory::Directory;
use insight::projectors::holdings::Holdings;
use insight::projectors::jobs::Jobs;
use insight::projectors::prices::Prices;
use insight::projectors::risk::{Engine, Risk};
use insight::projectors::valuations::Valuations;
use insight::projectors::{self, Error, ReadModel, Settings};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The read models that follow from the log alone, to the digit.
pub const NAMES: [&str; 6] = ["directory", "holdings", "prices", "valuations", "activity", "jobs"];
/// Risk as well, whose rows are a function of what they name, and of when they were computed.
pub const ALL: [&str; 7] = ["directory", "holdings", "prices", "valuations", "activity", "risk", "jobs"];
const PATIENCE: Duration = Duration::from_secs(60);

/// Their projectors. Killed wherever they stand when dropped.
pub struct Projectors(JoinSet<Result<(), Error>>, CancellationToken);

impl Projectors {
    pub async fn start(source: &Source, pool: &PgPool) -> Self {
        let mut all = Self(JoinSet::new(), CancellationToken::new());
        all.spawn(Directory::default(), source, pool);
        all.spawn(Holdings::default(), source, pool);
        all.spawn(Prices::default(), source, pool);
        all.spawn(Valuations::open(source, pool).await.unwrap(), source, pool);
        all.spawn(Activity::default(), source, pool);
        all.spawn(Jobs::default(), source, pool);
        let simulation = Simulation { seed: 11, degrees_of_freedom: 5.0, paths: 1_024 };
        let engine = Engine { window: 120, simulation, threads: 1 };
        all.spawn(Risk::open(source, pool, engine).await.unwrap(), source, pool);
        all
    }

    fn spawn<M: ReadModel>(&mut self, model: M, source: &Source, pool: &PgPool) {
        let settings = Settings::default();
        self.0.spawn(projectors::run_with(model, source.clone(), pool.clone(), self.1.clone(), settings));
    }

    /// Ends them as a signal would.
    pub async fn stop(mut self) {
        self.1.cancel();
        while let Some(ended) = self.0.join_next().await {
            ended.unwrap().unwrap();
        }
    }
}

/// Waits until every read model holds the log up to here, and those that join prices the prices.
pub async fn reached(pool: &PgPool, position: Position) {
    reached_within(pool, position, PATIENCE).await;
}

/// The same with more patience, or less.
pub async fn reached_within(pool: &PgPool, position: Position, patience: Duration) {
    let market = "select coalesce(max(position), 0) from events where shard = $1";
    let prices: i64 = sqlx::query_scalar(market).bind(MARKET_SHARD.0).fetch_one(pool).await.unwrap();
    for name in ALL {
        let joins_prices = ["valuations", "risk"].contains(&name);
        let sql = format!(
            "select coalesce(min(scanned_to), 0), coalesce(min(price_position), 0) from {name}.checkpoints"
        );
        let began = Instant::now();
        loop {
            let (scanned_to, price_position): (i64, i64) =
                sqlx::query_as(AssertSqlSafe(sql.clone())).fetch_one(pool).await.unwrap();
            if scanned_to >= position.0 && (!joins_prices || price_position >= prices) {
                break;
            }
            assert!(
                began.elapsed() < patience,
                "{name} stands at {scanned_to} of {position}, {price_position} of {prices}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Every row of every table as text, sorted, but for checkpoints, which say how the rows were made and not what they are.
pub async fn dump(pool: &PgPool) -> Vec<String> {
    let tables = "select schemaname || '.' || tablename from pg_tables where schemaname = any($1) \
        and tablename <> 'checkpoints' order by 1";
    let tables: Vec<String> =
        sqlx::query_scalar(tables).bind(NAMES.as_slice()).fetch_all(pool).await.unwrap();
    let mut rows = Vec::new();
    for table in tables {
        let sql = format!("select row_to_json(t)::text from {table} t order by 1");
        let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap();
        rows.extend(found.into_iter().map(|row| format!("{table} {row}")));
    }
    rows
}
