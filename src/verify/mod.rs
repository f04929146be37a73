//! The judge: compares the log with its own promises, and every read model with a reference ledger.
//!
//! Everything is read in one snapshot, so it may run while the system works: a read model's rows must equal the fold of
//! the events at or below its own checkpoints, however far behind it is.
//!
//! ```text
//! checkpoints ─┐
//! log ─────────┼─→ log check · reference, once a read model that stands elsewhere ─→ expected rows ─→ compare ─→ report
//! rows ────────┘
//! ```
//!
//! The [reference](reference::Reference) is naive on purpose and shares no code with `domain`: it is what every other
//! fold is measured by, and is itself tried by cases worked by hand. Memory grows with the number of ledger facts and
//! closes, not with the number of ticks.

mod activity;
mod bookings;
mod checkpoints;
mod directory;
mod holdings;
pub mod ledger;
mod log;
pub mod market;
mod payload;
mod prices;
pub mod reference;
mod report;
mod risks;
mod rows;
pub mod units;
mod valuations;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use sqlx::{PgConnection, PgPool};

use self::checkpoints::Checkpoints;
use self::log::LogCheck;
use self::reference::Reference;
use self::risks::Risks;
use self::valuations::Markets;
use crate::domain::ids::Position;
use crate::event_store::{self, read};
use crate::events::Envelope;

pub use payload::Unreadable;
pub use report::{Compared, Difference, Report};

/// Events that are read at once.
const SLICE_EVENTS: i64 = 5_000;

/// Every read model and the shards it is made from, in the order in which they are made from each other.
const READ_MODELS: [(&str, RangeInclusive<i16>); 6] = [
    ("directory", 0..=32),
    ("holdings", 0..=31),
    ("prices", 32..=32),
    ("valuations", 0..=31),
    ("activity", 0..=31),
    ("risk", 0..=31),
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
}

/// Compares everything.
///
/// # Errors
/// [`Error`]: what stands there could not be read.
pub async fn verify(pool: &PgPool) -> Result<Report, Error> {
    let mut snapshot = pool.begin_with("begin isolation level repeatable read read only").await?;
    for setting in ["statement_timeout = 0", "idle_in_transaction_session_timeout = 0", "timezone = 'UTC'"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("set local {setting}"))).execute(&mut *snapshot).await?;
    }
    let mut report = Report { head: read::head(&mut *snapshot).await?.0, ..Report::default() };
    let mut read_models = Vec::new();
    let ends = ends(&mut snapshot).await?;
    for (name, shards) in READ_MODELS {
        let checkpoints = Checkpoints::load(&mut snapshot, name, &mut report).await?;
        let has_all = |it: &Checkpoints| it.hold_all(ends.iter().filter(|(shard, _)| shards.contains(shard)));
        let read_model = checkpoints.map(|checkpoints| ReadModel {
            behind: (!has_all(&checkpoints)).then(Reference::default),
            checkpoints,
        });
        read_models.push((name, read_model));
    }
    let told = tell(&mut snapshot, &mut read_models, &mut report).await?;
    for (name, read_model) in &read_models {
        let compared = compare(&mut snapshot, name, read_model.as_ref(), &told, &mut report).await?;
        report.read_models.push(compared);
    }
    snapshot.commit().await?;
    Ok(report)
}

/// What the whole log tells.
struct Told {
    reference: Reference,
    /// The market as of each place at which a checkpoint stands or a model was cut.
    markets: Markets,
    /// What rows of risk name.
    risks: Risks,
}

/// A read model.
struct ReadModel {
    checkpoints: Checkpoints,
    /// The fold of the events that it says it holds, where those are not all.
    behind: Option<Reference>,
}

impl ReadModel {
    fn take(&mut self, event: &Envelope, report: &mut Report) {
        self.checkpoints.meet(event, report);
        if let Some(reference) = &mut self.behind
            && self.checkpoints.holds(event)
        {
            // What cannot be read was reported with the log.
            let _ = reference.take(event);
        }
    }
}

/// The last position of each shard that has events.
async fn ends(snapshot: &mut PgConnection) -> Result<BTreeMap<i16, i64>, sqlx::Error> {
    const SQL: &str = "select s.shard::smallint, l.position from generate_series(0, 40) as s(shard) \
        cross join lateral (select position from events e where e.shard = s.shard::smallint \
        order by position desc limit 1) l";
    let ends: Vec<(i16, i64)> = sqlx::query_as(SQL).fetch_all(snapshot).await?;
    Ok(ends.into_iter().collect())
}

/// Reads the log once, and judges it.
async fn tell(
    snapshot: &mut PgConnection,
    read_models: &mut [(&'static str, Option<ReadModel>)],
    report: &mut Report,
) -> Result<Told, Error> {
    let there = || read_models.iter().filter_map(|(_, read_model)| read_model.as_ref());
    let mut places: BTreeSet<i64> = there().flat_map(|it| it.checkpoints.price_positions()).collect();
    let has_risk = read_models.iter().any(|(name, read_model)| *name == "risk" && read_model.is_some());
    let risks = if has_risk { Risks::load(snapshot).await? } else { Risks::default() };
    places.extend(risks.cuts());
    let mut told = Told { reference: Reference::default(), markets: Markets::new(), risks };
    let mut log = LogCheck::default();
    let mut position = Position(0);
    loop {
        let slice = read::after(&mut *snapshot, position, SLICE_EVENTS).await?;
        let Some(last) = slice.events.last() else { break };
        position = last.position;
        for event in &slice.events {
            while let Some(place) = places.first().copied().filter(|place| *place < event.position.0) {
                told.markets.insert(place, told.reference.market.clone());
                places.pop_first();
            }
            told.risks.pass(event.position.0, &told.reference.market);
            if let Err(error) = told.reference.take(event) {
                report.differs(format_args!("position {}", event.position), error);
            }
            log.take(event, &told.reference, report);
            for read_model in read_models.iter_mut().filter_map(|(_, read_model)| read_model.as_mut()) {
                read_model.take(event, report);
            }
        }
    }
    for place in places {
        told.markets.insert(place, told.reference.market.clone());
    }
    told.risks.pass(i64::MAX, &told.reference.market);
    log.finish(snapshot, &told.reference, report).await?;
    Ok(told)
}

/// Compares one read model's rows with what they should be.
async fn compare(
    snapshot: &mut PgConnection,
    name: &'static str,
    read_model: Option<&ReadModel>,
    told: &Told,
    report: &mut Report,
) -> Result<Compared, sqlx::Error> {
    let Some(ReadModel { checkpoints, behind }) = read_model else {
        return Ok(Compared { name, scanned_to: None, rows: 0 });
    };
    let reference = behind.as_ref().unwrap_or(&told.reference);
    checkpoints.finish(report);
    let rows = match name {
        "directory" => directory::check(snapshot, reference, report).await?,
        "holdings" => holdings::check(snapshot, reference, report).await?,
        "prices" => prices::check(snapshot, reference, report).await?,
        "activity" => activity::check(snapshot, reference, report).await?,
        "valuations" => {
            valuations::check(snapshot, checkpoints, &told.reference, &told.markets, report).await?
        }
        _ => {
            let Told { reference, markets, risks } = told;
            risks.check(snapshot, checkpoints, reference, markets, report).await?
        }
    };
    Ok(Compared { name, scanned_to: checkpoints.scanned_to(), rows })
}
