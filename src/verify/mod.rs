//! The judge: compares the log with its own promises and its seals, and every read model with a reference ledger.
//!
//! Everything is read in one snapshot, so it may run while the system works: a read model's rows must equal the fold of
//! the events at or below its own checkpoints, however far behind it is.
//!
//! ```text
//! scripts ──────→ structure: tables, keys, triggers, functions are those of this program
//! log, in order ─→ promises · seals · checkpoints · market and investors, also as of the places that rows name
//! log, by shard ─→ portfolios of a group ─→ expected rows ─┬→ compare ─→ report
//! rows ────────────────────────────────────────────────────┘
//! ```
//!
//! The [reference](reference::Reference) is naive on purpose and shares no code with `domain`: it is what every other
//! fold is measured by, and is itself tried by cases worked by hand.
//!
//! Memory is that of the closes, of a group of portfolios (some 200,000 events), and a line for each stream. A read model that is
//! promoted in the meantime is noticed at the end, and everything begins again.

mod activity;
mod bookings;
mod bookkeeping;
mod checkpoints;
mod directory;
mod earnings;
mod golden;
mod held;
mod holdings;
pub mod jobs;
pub mod ledger;
mod log;
pub mod market;
mod payload;
mod portfolios;
mod prices;
pub mod reference;
mod report;
mod risks;
mod rows;
mod sample;
mod sealed;
mod seals;
mod structure;
mod telling;
mod topic;
pub mod units;
mod unread;
mod valuations;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use sqlx::{PgConnection, PgPool};

use self::checkpoints::Checkpoints;
use self::reference::Reference;
use self::rows::{Rows, Scope};
use self::telling::Told;
use crate::event_store::{self, read};
use crate::kafka;

pub use payload::Unreadable;
pub use report::{ColumnDifference, Compared, Difference, Report, Sampled};
pub use sample::{Sample, SampleSize};
pub use seals::{SealsReport, verify_seals};
pub use topic::{TopicReport, verify_topic};

/// Times that everything is begun again because a read model was promoted.
const ATTEMPTS: usize = 4;

/// Every read model and the shards it is made from, in the order in which they are made from each other.
const READ_MODELS: [(&str, RangeInclusive<i16>); 7] = [
    ("directory", 0..=32),
    ("holdings", 0..=31),
    ("prices", 32..=32),
    ("valuations", 0..=31),
    ("activity", 0..=31),
    ("risk", 0..=31),
    ("jobs", 33..=40),
];

/// Why there is no verdict. What is merely wrong is in the [`Report`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused or could not be reached.
    #[error("verifying: {0}")]
    Database(#[from] sqlx::Error),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] event_store::Error),
    /// The topics could not be read.
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    /// Read models are promoted faster than they can be read.
    #[error(
        "a read model was promoted {ATTEMPTS} times while it was read: verify when nothing is being rebuilt"
    )]
    Promoted,
}

/// What is verified.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Fold only some portfolios, and only the prices that they need.
    pub sample: Option<Sample>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being read: `log`, `portfolios`, `risk`.
    pub stage: &'static str,
    /// So many of them.
    pub done: u64,
    /// Of so many.
    pub total: u64,
}

/// A read model that has checkpoints.
struct ReadModel {
    checkpoints: Checkpoints,
    /// What it holds of investors and the market, where it does not hold every event.
    behind: Option<Reference>,
}

type ReadModels = BTreeMap<&'static str, ReadModel>;

/// Compares everything.
///
/// # Errors
/// [`Error`]: what stands there could not be read.
pub async fn verify(pool: &PgPool) -> Result<Report, Error> {
    verify_with(pool, Options::default(), &mut |_| {}).await
}

/// The same of all or of a sample, telling how far it is.
///
/// # Errors
/// As [`verify`].
pub async fn verify_with(
    pool: &PgPool,
    options: Options,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Report, Error> {
    for _ in 0..ATTEMPTS {
        let live = live(pool).await?;
        let report = attempt(pool, options, progress).await;
        // Names of schemas are looked up as of now and rows as of the snapshot: after a promotion they do not belong together.
        if self::live(pool).await? == live {
            return report;
        }
        tracing::info!("a read model was promoted in the meantime: beginning again");
    }
    Err(Error::Promoted)
}

/// Which schemas are live now.
async fn live(pool: &PgPool) -> Result<Vec<(String, i64)>, sqlx::Error> {
    const SQL: &str =
        "select nspname::text, oid::bigint from pg_namespace where nspname = any($1) order by 1";
    let names: Vec<&str> = READ_MODELS.iter().map(|(name, _)| *name).collect();
    sqlx::query_as(SQL).bind(names).fetch_all(pool).await
}

async fn attempt(
    pool: &PgPool,
    options: Options,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Report, Error> {
    let mut report = Report::default();
    golden::check(&mut report);
    let broken = structure::check(pool, &mut report).await?;
    if broken.iter().any(|table| table.starts_with("public.")) {
        report.unchecked.push("anything else: tables of the log are not as they should be".to_owned());
        return Ok(report);
    }
    match judge(pool, options, &broken, &mut report, progress).await {
        Err(Error::Log(event_store::Error::Unreadable { position, reason })) => {
            report.differs(format_args!("position {position}"), format_args!("cannot be read: {reason}"));
            report.unchecked.push("what follows from it, since the log cannot be read to its end".to_owned());
        }
        judged => judged?,
    }
    Ok(report)
}

async fn judge(
    pool: &PgPool,
    options: Options,
    broken: &BTreeSet<String>,
    report: &mut Report,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), Error> {
    let mut snapshot = snapshot(pool).await?;
    report.head = read::head(&mut *snapshot).await?.0;
    let ends = ends(&mut snapshot).await?;
    let mut read_models = load(&mut snapshot, &ends, broken, report).await?;
    let names: Vec<&'static str> = read_models.keys().copied().collect();
    bookkeeping::check(&mut snapshot, pool, &names, report).await?;
    let chosen = match options.sample {
        Some(sample) => Some(sample::choose(&mut snapshot, sample, report).await?),
        None => None,
    };

    let mut rows = Rows { conn: &mut snapshot, broken, report, counts: BTreeMap::new() };
    let needed = chosen.as_ref().map(|chosen| &chosen.assets);
    let mut told = telling::tell(&mut rows, &mut read_models, ends, needed, progress).await?;
    // Causes before effects: a wrong checkpoint makes every row wrong.
    for (name, shards) in READ_MODELS {
        if let Some(read_model) = read_models.get(name) {
            read_model.checkpoints.finish(&told.ends, &shards, rows.report);
        }
    }
    match &chosen {
        None => portfolios::check_all(&mut rows, &read_models, &mut told, progress).await?,
        Some(chosen) => {
            portfolios::check_some(&mut rows, &read_models, &mut told, &chosen.portfolios, progress).await?;
        }
    }
    check_market(&mut rows, &read_models, &told, needed).await?;
    let risks = std::mem::take(&mut told.risks);
    let mut tell = |done: usize, total: usize| {
        progress(Progress { stage: "risk", done: done as u64, total: total as u64 });
    };
    risks.check(&mut rows, &told.markets, &mut tell).await?;
    let counts = std::mem::take(&mut rows.counts);
    for (name, _) in READ_MODELS {
        let scanned_to = read_models.get(name).and_then(|it| it.checkpoints.scanned_to());
        let compared = Compared { name, scanned_to, rows: counts.get(name).copied().unwrap_or_default() };
        rows.report.read_models.push(compared);
    }
    snapshot.commit().await?;
    Ok(())
}

/// A transaction that sees one moment, for as long as it takes.
async fn snapshot(pool: &PgPool) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, sqlx::Error> {
    let mut snapshot = pool.begin_with("begin isolation level repeatable read read only").await?;
    for setting in ["statement_timeout = 0", "idle_in_transaction_session_timeout = 0", "timezone = 'UTC'"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("set local {setting}"))).execute(&mut *snapshot).await?;
    }
    Ok(snapshot)
}

/// The last position of each shard that has events.
async fn ends(snapshot: &mut PgConnection) -> Result<BTreeMap<i16, i64>, sqlx::Error> {
    const SQL: &str = "select s.shard::smallint, l.position from generate_series(0, 40) as s(shard) \
        cross join lateral (select position from events e where e.shard = s.shard::smallint \
        order by position desc limit 1) l";
    let ends: Vec<(i16, i64)> = sqlx::query_as(SQL).fetch_all(snapshot).await?;
    Ok(ends.into_iter().collect())
}

/// The read models that have checkpoints.
async fn load(
    snapshot: &mut PgConnection,
    ends: &BTreeMap<i16, i64>,
    broken: &BTreeSet<String>,
    report: &mut Report,
) -> Result<ReadModels, sqlx::Error> {
    let mut read_models = ReadModels::new();
    for (name, shards) in READ_MODELS {
        if ["checkpoints", "parked_streams"].iter().any(|table| broken.contains(&format!("{name}.{table}"))) {
            continue;
        }
        if let Some(checkpoints) = Checkpoints::load(snapshot, name, report).await? {
            let has_all = checkpoints.hold_all(ends.iter().filter(|(shard, _)| shards.contains(shard)));
            let behind = (!has_all).then(Reference::default);
            read_models.insert(name, ReadModel { checkpoints, behind });
        }
    }
    Ok(read_models)
}

/// Compares investors, assets, prices and jobs.
async fn check_market(
    rows: &mut Rows<'_>,
    read_models: &ReadModels,
    told: &Told,
    needed: Option<&BTreeSet<String>>,
) -> Result<(), sqlx::Error> {
    let held_by = |read_model: &'_ ReadModel| match &read_model.behind {
        Some(behind) => behind.clone(),
        None => told.reference.clone(),
    };
    if let Some(directory) = read_models.get("directory") {
        directory::check(rows, &held_by(directory)).await?;
    }
    if let Some(jobs) = read_models.get("jobs") {
        jobs::check(rows, &held_by(jobs)).await?;
    }
    if let Some(prices) = read_models.get("prices") {
        let scope = match needed {
            None => Scope::All,
            Some(needed) => Scope::of(needed.iter().chain(&told.reference.market.pairs)),
        };
        prices::check(rows, &scope, &held_by(prices).market).await?;
    }
    Ok(())
}
