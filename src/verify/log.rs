//! The log against its own promises.
//!
//! | promise | check |
//! | --- | --- |
//! | L1 | positions are exactly 1..head, and there is [nothing else](super::unread) |
//! | L2 | `recorded_at` never decreases |
//! | L3 | versions of a stream are 1, 2, 3, … |
//! | L4 | a command's events have the ordinals 0, 1, 2, …, stand side by side and share one request |
//! | L5, L6 | the keys and the trigger are there: see [`structure`](super::structure); the bytes are those under the seals |
//!
//! And of its contents: a shard is the function of its stream, and every payload and its metadata can be read. What the
//! payloads say is judged where portfolios are folded.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::reference::Reference;
use super::report::Report;
use crate::events::{Envelope, Metadata};

/// What must be known of the events before to judge the next one.
#[derive(Debug, Default)]
pub(super) struct LogCheck {
    position: i64,
    recorded_at: Option<DateTime<Utc>>,
    versions: HashMap<Arc<str>, i64>,
    command: Option<(Uuid, i32, Arc<[u8]>)>,
}

impl LogCheck {
    /// Judges the next event.
    pub(super) fn take(&mut self, event: &Envelope, report: &mut Report) {
        let position = event.position.0;
        let mut differs = |found: String| report.differs(format_args!("position {position}"), found);
        if position != self.position + 1 {
            differs(format!("follows position {}", self.position));
        }
        self.position = position;
        if self.recorded_at.is_some_and(|before| event.recorded_at < before) {
            differs(format!("recorded at {}, before the one before it", event.recorded_at));
        }
        self.recorded_at = Some(event.recorded_at);

        let version = self.versions.entry(Arc::clone(&event.stream_id.0)).or_default();
        if event.version.0 != *version + 1 {
            differs(format!("version {} of {} follows version {version}", event.version, event.stream_id));
        }
        *version = event.version.0;
        let shard = shard(event.stream_id.as_str());
        if event.shard.0 != shard {
            differs(format!("in shard {}, but {} lives in {shard}", event.shard, event.stream_id));
        }
        if let Some(found) = self.ordinal(event) {
            differs(found);
        }
        if let Err(error) = event.event() {
            differs(error.to_string());
        }
        if event.request_hash.len() != 32 {
            differs(format!("has a request hash of {} bytes", event.request_hash.len()));
        }
        if event.causation_position.is_some_and(|cause| !(1..position).contains(&cause.0)) {
            differs(format!("is caused by position {:?}, which is not before it", event.causation_position));
        }
        if let Err(error) = serde_json::from_str::<Metadata>(&event.metadata) {
            differs(format!("has metadata that cannot be read: {error}"));
        }
    }

    /// A command's events stand side by side, numbered from 0.
    fn ordinal(&mut self, event: &Envelope) -> Option<String> {
        let id = event.event_id;
        let expected = match &self.command {
            Some((command_id, ordinal, hash)) if *command_id == id.command_id => {
                if *hash != event.request_hash {
                    return Some(format!("{id} has another request's hash than the event before it"));
                }
                ordinal + 1
            }
            _ => 0,
        };
        self.command = Some((id.command_id, id.ordinal, Arc::clone(&event.request_hash)));
        (id.ordinal != expected).then(|| format!("{id} stands where {expected} should be"))
    }

    /// What can only be said after the last event.
    pub(super) async fn finish(
        &self,
        conn: &mut PgConnection,
        reference: &Reference,
        report: &mut Report,
    ) -> Result<(), sqlx::Error> {
        let head = report.head;
        if self.position != head {
            report.differs("log", format_args!("ends at {} and its head is {head}", self.position));
        }
        check_symbols(reference, report);
        check_commands(conn, report).await?;
        check_details(conn, reference, report).await
    }
}

/// First four bytes of SHA-256 of what follows the kind, modulo the kind's shards.
fn shard(stream: &str) -> i16 {
    let (kind, rest) = stream.split_once(['-', ':']).unwrap_or((stream, ""));
    let digest = Sha256::digest(rest.as_bytes());
    let word = digest[..4].iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
    let modulo = |shards: u32| i16::try_from(word % shards).unwrap_or_default();
    match kind {
        "asset" | "symbol" | "price" | "held" => 32,
        "job" => 33 + modulo(8),
        "shard" => rest.parse().unwrap_or_default(),
        _ => modulo(32),
    }
}

/// Every listed asset has claimed its symbol, and every symbol names a listed asset.
fn check_symbols(reference: &Reference, report: &mut Report) {
    let market = &reference.market;
    for (id, asset) in &market.assets {
        if market.symbols.get(&asset.symbol).is_none_or(|(owner, _)| owner != id) {
            report.differs(format_args!("asset-{id}"), format_args!("has not claimed {}", asset.symbol));
        }
    }
    for (symbol, (owner, _)) in &market.symbols {
        if !market.assets.contains_key(owner) {
            report
                .differs(format_args!("symbol:{symbol}"), format_args!("names {owner}, which is not listed"));
        }
    }
}

/// A command is in the log once: its events are one run of positions, however far apart a copy might stand.
async fn check_commands(conn: &mut PgConnection, report: &mut Report) -> Result<(), sqlx::Error> {
    const SQL: &str = "select command_id, count(*) as events, min(position) as first, max(position) as last \
        from events group by command_id \
        having min(ordinal) <> 0 or max(ordinal) <> count(*) - 1 or max(position) - min(position) <> count(*) - 1 \
        order by first limit 100";
    for row in sqlx::query(SQL).fetch_all(conn).await? {
        let (command, events): (Uuid, i64) = (row.try_get("command_id")?, row.try_get("events")?);
        let (first, last): (i64, i64) = (row.try_get("first")?, row.try_get("last")?);
        report.differs(
            format_args!("command {command}"),
            format_args!("has {events} events from {first} to {last}: not once and whole"),
        );
    }
    Ok(())
}

/// Personal data stands only beside a registration. The other way round it may have been erased.
async fn check_details(
    conn: &mut PgConnection,
    reference: &Reference,
    report: &mut Report,
) -> Result<(), sqlx::Error> {
    const TWICE: &str = "select string_agg(investor_id::text, ' and ' order by investor_id) from investor_details \
        group by lower(email) having count(*) > 1 limit 100";
    for ids in sqlx::query_scalar::<_, String>(TWICE).fetch_all(&mut *conn).await? {
        report.differs(format_args!("investor_details {ids}"), "have the same e-mail address");
    }
    let ids: Vec<Uuid> =
        sqlx::query_scalar("select investor_id from investor_details").fetch_all(conn).await?;
    for id in ids.into_iter().filter(|id| !reference.investors.contains_key(&id.to_string())) {
        report.differs(format_args!("investor_details {id}"), "there is no such investor in the log");
    }
    Ok(())
}
