//! Portfolios, folded and compared group by group, so that memory is that of a group and not of the log.
//!
//! A group is what lives in one shard, and a part of that where a shard holds much; of a sample, a handful of streams. The
//! market, which every group needs, was told before.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use super::ledger::Ledger;
use super::reference::Reference;
use super::report::Report;
use super::rows::{Rows, Scope};
use super::{Error, Progress, ReadModels, Told, activity, bookings, directory, holdings, risks, valuations};
use crate::domain::ids::{Position, Shard, StreamId, Version};
use crate::event_store::{ChunkSize, read};
use crate::events::Envelope;

/// Events of a group at most, about.
const GROUP_EVENTS: i64 = 200_000;
/// Portfolios of a sample that are folded at once.
const SAMPLE_GROUP: usize = 32;
const SLICE_EVENTS: usize = 5_000;
const SLICE_BYTES: usize = 8 << 20;

/// A group: what the log says of it, and what read models that stand elsewhere hold of it.
struct Group {
    reference: Reference,
    behind: BTreeMap<&'static str, Reference>,
}

/// Folds and compares every portfolio.
pub(super) async fn check_all(
    rows: &mut Rows<'_>,
    read_models: &ReadModels,
    told: &mut Told,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), Error> {
    let mut done = 0;
    for shard in 0..32 {
        let known: BTreeSet<String> =
            told.portfolios.iter().filter(|(_, of)| **of == shard).map(|(id, _)| id.clone()).collect();
        let parts = parts(rows.conn, shard).await?;
        for part in 0..parts {
            let ids: BTreeSet<&String> = known.iter().filter(|id| part_of(id, parts) == part).collect();
            let mut group = Group::new(read_models, told, Some(shard));
            read_shard(rows, &mut group, read_models, shard, &|id| part_of(id, parts) == part).await?;
            group.check(rows, &Scope::of(ids.iter().copied()), read_models, told).await?;
            done += ids.len() as u64;
            progress(Progress { stage: "portfolios", done, total: told.portfolios.len() as u64 });
        }
    }
    strays(rows, told).await
}

/// Folds and compares some portfolios.
pub(super) async fn check_some(
    rows: &mut Rows<'_>,
    read_models: &ReadModels,
    told: &mut Told,
    sample: &[String],
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), Error> {
    let mut done = 0;
    for ids in sample.chunks(SAMPLE_GROUP) {
        let mut group = Group::new(read_models, told, None);
        let streams: Vec<(StreamId, Version)> =
            ids.iter().map(|id| (StreamId::from(format!("portfolio-{id}").as_str()), Version(0))).collect();
        for event in read::streams_after(&mut *rows.conn, &streams, i64::MAX).await?.events {
            group.take(&event, read_models, rows.report);
        }
        group.check(rows, &Scope::of(ids), read_models, told).await?;
        done += ids.len() as u64;
        progress(Progress { stage: "portfolios", done, total: sample.len() as u64 });
    }
    strays(rows, told).await
}

/// Into how many groups a shard is cut.
async fn parts(conn: &mut PgConnection, shard: i16) -> Result<u32, sqlx::Error> {
    const SQL: &str = "select count(*) from events where shard = $1";
    let events: i64 = sqlx::query_scalar(SQL).bind(shard).fetch_one(conn).await?;
    Ok(u32::try_from(events / GROUP_EVENTS + 1).unwrap_or(u32::MAX))
}

fn part_of(id: &str, parts: u32) -> u32 {
    if parts == 1 {
        return 0;
    }
    let digest = Sha256::digest(id);
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) % parts
}

async fn read_shard(
    rows: &mut Rows<'_>,
    group: &mut Group,
    read_models: &ReadModels,
    shard: i16,
    is_asked: &(dyn Fn(&str) -> bool + Sync),
) -> Result<(), Error> {
    let mut position = Position(0);
    let mut size = ChunkSize::new(SLICE_EVENTS, SLICE_BYTES);
    loop {
        let limit = i64::try_from(size.events()).unwrap_or(i64::MAX);
        let events = read::shard_after(&mut *rows.conn, Shard(shard), position, limit).await?.events;
        let Some(last) = events.last() else { return Ok(()) };
        position = last.position;
        size.observe(&events);
        for event in &events {
            if event.stream_id.as_str().strip_prefix("portfolio-").is_some_and(is_asked) {
                group.take(event, read_models, rows.report);
            }
        }
    }
}

impl Group {
    fn new(read_models: &ReadModels, told: &Told, shard: Option<i16>) -> Self {
        let is_behind = |name: &&'static str| {
            read_models.get(*name).is_some_and(|it| match shard {
                Some(shard) => {
                    told.ends.get(&shard).is_some_and(|end| !it.checkpoints.hold_shard(shard, *end))
                }
                None => it.behind.is_some(),
            })
        };
        let names = ["directory", "holdings", "activity"].into_iter().filter(is_behind);
        Self {
            reference: Reference::default(),
            behind: names.map(|name| (name, Reference::default())).collect(),
        }
    }

    fn take(&mut self, event: &Envelope, read_models: &ReadModels, report: &mut Report) {
        if let Err(error) = self.reference.take(event) {
            report.differs(format_args!("position {}", event.position), error);
        }
        for (name, reference) in &mut self.behind {
            if read_models.get(name).is_some_and(|it| it.checkpoints.holds(event)) {
                // What cannot be read was said above.
                let _ = reference.take(event);
            }
        }
    }

    fn held_by(&self, name: &str) -> &Reference {
        self.behind.get(name).unwrap_or(&self.reference)
    }

    async fn check(
        &self,
        rows: &mut Rows<'_>,
        scope: &Scope,
        read_models: &ReadModels,
        told: &mut Told,
    ) -> Result<(), sqlx::Error> {
        self.check_facts(told, rows.report);
        if read_models.contains_key("directory") {
            directory::check_portfolios(rows, scope, self.held_by("directory")).await?;
        }
        if read_models.contains_key("holdings") {
            holdings::check(rows, scope, self.held_by("holdings")).await?;
        }
        if read_models.contains_key("activity") {
            activity::check(rows, scope, self.held_by("activity")).await?;
        }
        if let Some(valuations) = read_models.get("valuations") {
            let checkpoints = &valuations.checkpoints;
            valuations::check(rows, scope, checkpoints, &self.reference, &told.markets).await?;
        }
        if let Some(risk) = read_models.get("risk").filter(|_| told.has_risk) {
            told.risks.prepare(&risk.checkpoints, &self.reference, rows.report);
        }
        Ok(())
    }

    /// What the facts say must follow from what was agreed, and nobody sold or paid what was not there.
    fn check_facts(&self, told: &Told, report: &mut Report) {
        for (id, portfolio) in &self.reference.portfolios {
            let settings = portfolio.settings();
            for entry in portfolio.entries() {
                let asset = entry.asset_id.as_ref().and_then(|id| told.reference.market.assets.get(id));
                let asset = asset.filter(|asset| asset.listed_position < entry.position);
                if let Some(found) = bookings::wrong(settings, entry, asset.map(|asset| &**asset)) {
                    report.differs(format_args!("position {}", entry.position), found);
                }
            }
            for shortfall in Ledger::of(portfolio).shortfalls {
                report.differs(
                    format_args!("portfolio-{id}"),
                    format_args!("{shortfall} is less than nothing"),
                );
            }
            if !told.reference.investors.contains_key(&settings.investor_id) {
                report.differs(format_args!("portfolio-{id}"), "belongs to an investor who never registered");
            }
        }
    }
}

/// Rows of portfolios that the log does not know.
async fn strays(rows: &mut Rows<'_>, told: &Told) -> Result<(), Error> {
    let tables = directory::TABLES.into_iter().chain(holdings::TABLES).chain(activity::TABLES);
    for table in tables.chain(valuations::TABLES).chain(risks::TABLES) {
        rows.strays(table, |id| told.portfolios.contains_key(id)).await?;
    }
    Ok(())
}
