//! Which events a read model says it holds, and whether that can be true.
//!
//! Rows and checkpoints are read in one snapshot, so that the rows must be exactly the fold of the events at or below the
//! checkpoints' positions, without what is parked.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::report::Report;
use crate::events::Envelope;

/// The checkpoints of one read model.
#[derive(Debug)]
pub(super) struct Checkpoints {
    name: &'static str,
    shards: BTreeMap<i16, Checkpoint>,
    /// Streams that hold an event which could not be applied.
    parked: BTreeMap<String, Parked>,
    /// Positions of events that somebody decided to do without.
    skipped: BTreeSet<i64>,
}

#[derive(Debug)]
struct Checkpoint {
    epoch: i32,
    position: i64,
    event_id: Option<String>,
    recorded_at: Option<DateTime<Utc>>,
    scanned_to: i64,
    price_position: i64,
    /// The event it names was met in the log.
    met: bool,
}

/// The first event of a stream that could not be applied.
#[derive(Debug)]
struct Parked {
    position: i64,
    event_id: String,
    shard: i16,
    /// It is in the log.
    met: bool,
}

impl Checkpoints {
    /// Reads them; `None` if the read model has no tables. Parked streams are differences: their rows stand still.
    pub(super) async fn load(
        conn: &mut PgConnection,
        name: &'static str,
        report: &mut Report,
    ) -> Result<Option<Self>, sqlx::Error> {
        let there = "select to_regclass($1 || '.checkpoints') is not null";
        if !sqlx::query_scalar::<_, bool>(there).bind(name).fetch_one(&mut *conn).await? {
            return Ok(None);
        }
        let mut checkpoints =
            Self { name, shards: BTreeMap::new(), parked: BTreeMap::new(), skipped: BTreeSet::new() };
        let sql = format!(
            "select shard, epoch, position, event_id, recorded_at, scanned_to, price_position from {name}.checkpoints"
        );
        let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(&mut *conn);
        while let Some(row) = rows.try_next().await? {
            let checkpoint = Checkpoint {
                epoch: row.try_get("epoch")?,
                position: row.try_get("position")?,
                event_id: row.try_get("event_id")?,
                recorded_at: row.try_get("recorded_at")?,
                scanned_to: row.try_get("scanned_to")?,
                price_position: row.try_get("price_position")?,
                met: false,
            };
            checkpoints.shards.insert(row.try_get("shard")?, checkpoint);
        }
        drop(rows);
        let sql = format!("select stream_id, position, reason, event_id, shard from {name}.parked_streams");
        let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(&mut *conn);
        while let Some(row) = rows.try_next().await? {
            let (stream, position): (String, i64) = (row.try_get("stream_id")?, row.try_get("position")?);
            let reason: String = row.try_get("reason")?;
            report.differs(
                format_args!("{name}.parked_streams {stream}"),
                format_args!("parked at {position}: {reason}"),
            );
            let (event_id, shard) = (row.try_get("event_id")?, row.try_get("shard")?);
            checkpoints.parked.insert(stream, Parked { position, event_id, shard, met: false });
        }
        drop(rows);
        checkpoints.load_skipped(conn, report).await?;
        Ok(Some(checkpoints))
    }

    /// Events that are done without are differences: the rows are not the fold of the log, and must be that of the rest.
    async fn load_skipped(
        &mut self,
        conn: &mut PgConnection,
        report: &mut Report,
    ) -> Result<(), sqlx::Error> {
        let name = self.name;
        let there = "select to_regclass($1 || '.skipped_events') is not null";
        if !sqlx::query_scalar::<_, bool>(there).bind(name).fetch_one(&mut *conn).await? {
            return Ok(());
        }
        let sql = format!("select stream_id, position, reason from {name}.skipped_events order by position");
        let rows: Vec<(String, i64, String)> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(conn).await?;
        for (stream, position, reason) in rows {
            report.differs(
                format_args!("{name}, stream {stream}"),
                format_args!("skipped at {position} on purpose: {reason}"),
            );
            self.skipped.insert(position);
        }
        Ok(())
    }

    /// Whether a shard's every event up to its end is in the rows, and nothing is set aside.
    pub(super) fn hold_shard(&self, shard: i16, end: i64) -> bool {
        let is_whole = self.skipped.is_empty() && self.parked.values().all(|parked| parked.shard != shard);
        is_whole && self.position(shard) >= end
    }

    /// Whether these last positions of shards, and with them every event, are in the rows.
    pub(super) fn hold_all<'a>(&self, mut ends: impl Iterator<Item = (&'a i16, &'a i64)>) -> bool {
        self.parked.is_empty()
            && self.skipped.is_empty()
            && ends.all(|(shard, end)| self.position(*shard) >= *end)
    }

    /// Whether the event's effect is in the rows.
    pub(super) fn holds(&self, event: &Envelope) -> bool {
        let is_parked =
            self.parked.get(event.stream_id.as_str()).is_some_and(|it| it.position <= event.position.0);
        let is_reached =
            self.shards.get(&event.shard.0).is_some_and(|mine| event.position.0 <= mine.position);
        is_reached && !is_parked && !self.skipped.contains(&event.position.0)
    }

    /// Compares an event of the log with what the checkpoint of its shard says.
    pub(super) fn meet(&mut self, event: &Envelope, report: &mut Report) {
        if let Some(parked) = self.parked.get_mut(event.stream_id.as_str()) {
            let is_same = parked.event_id == event.event_id.to_string() && parked.shard == event.shard.0;
            parked.met |= parked.position == event.position.0 && is_same;
        }
        let Some(mine) = self.shards.get_mut(&event.shard.0) else { return };
        let place = || format!("{} checkpoint of shard {}", self.name, event.shard);
        let position = event.position.0;
        if position == mine.position {
            mine.met = true;
            let is_same = mine.event_id.as_ref() == Some(&event.event_id.to_string())
                && mine.recorded_at == Some(event.recorded_at)
                && mine.epoch == event.epoch.0;
            if !is_same {
                report.differs(
                    place(),
                    format_args!("names another event at position {position} than the log"),
                );
            }
        } else if mine.position < position && position <= mine.scanned_to {
            let found = format!("passed over position {position} on the way to {}", mine.scanned_to);
            report.differs(place(), found);
        }
    }

    /// What can only be said after the last event.
    pub(super) fn finish(
        &self,
        ends: &BTreeMap<i16, i64>,
        shards: &RangeInclusive<i16>,
        report: &mut Report,
    ) {
        let head = report.head;
        let farthest = self.shards.values().map(|mine| mine.scanned_to).max();
        for (shard, end) in ends.iter().filter(|(shard, _)| shards.contains(shard)) {
            if !self.shards.contains_key(shard) && farthest.is_some_and(|farthest| farthest >= *end) {
                report.differs(format_args!("{} checkpoint of shard {shard}", self.name), "is missing");
            }
        }
        for shard in self.shards.keys().filter(|shard| !shards.contains(shard)) {
            report.differs(format_args!("{} checkpoint of shard {shard}", self.name), "should not be there");
        }
        for (stream, parked) in self.parked.iter().filter(|(_, parked)| !parked.met) {
            let found = format!("names position {}, which is not that event of that stream", parked.position);
            report.differs(format_args!("{}.parked_streams {stream}", self.name), found);
        }
        for (shard, mine) in &self.shards {
            let place = format_args!("{} checkpoint of shard {shard}", self.name).to_string();
            if mine.position > 0 && !mine.met {
                report.differs(&place, format_args!("position {} is not of that shard", mine.position));
            }
            if mine.scanned_to < mine.position || mine.scanned_to.max(mine.price_position) > head {
                let found = format_args!("scanned to {} of {head}", mine.scanned_to).to_string();
                report.differs(&place, found);
            }
        }
    }

    /// Nothing at or below this position is missing; `None` before the first event.
    pub(super) fn scanned_to(&self) -> Option<i64> {
        self.shards.values().map(|mine| mine.scanned_to).min()
    }

    /// How far prices were read for a shard's rows.
    pub(super) fn price_position(&self, shard: i16) -> Option<i64> {
        self.shards.get(&shard).map(|mine| mine.price_position)
    }

    /// Every place up to which prices were read.
    pub(super) fn price_positions(&self) -> impl Iterator<Item = i64> {
        self.shards.values().map(|mine| mine.price_position)
    }

    /// How far a shard's rows are.
    pub(super) fn position(&self, shard: i16) -> i64 {
        self.shards.get(&shard).map_or(0, |mine| mine.position)
    }
}
