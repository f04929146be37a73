//! `insight verify --seals`: the log against its seals and nothing else, in seconds for a million events.

use serde::Serialize;
use sqlx::PgPool;

use super::report::{Difference, Report};
use super::sealed::SealCheck;
use super::{Error, Progress, snapshot, unread};
use crate::domain::ids::Position;
use crate::event_store::seal::SealAt;
use crate::event_store::{ChunkSize, read};

const SLICE_EVENTS: usize = 5_000;
const SLICE_BYTES: usize = 8 << 20;

/// The verdict over seals.
#[derive(Debug, Clone, Serialize)]
pub struct SealsReport {
    /// The last position of the log: every event up to it was read.
    pub head: i64,
    /// Events that were compared with stored seals.
    pub sealed_events: i64,
    /// Kept seals that were given.
    pub kept: usize,
    /// Those of them that are of this log.
    pub kept_agreeing: usize,
    /// The first differences.
    pub differences: Vec<Difference>,
    /// All of them.
    pub difference_count: u64,
}

impl SealsReport {
    /// Whether every seal is of this log.
    pub fn is_clean(&self) -> bool {
        self.difference_count == 0
    }
}

/// Computes every seal again, and compares it with the stored ones and with those kept elsewhere.
///
/// # Errors
/// What stands there could not be read.
pub async fn verify_seals(
    pool: &PgPool,
    kept: Vec<SealAt>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<SealsReport, Error> {
    let mut snapshot = snapshot(pool).await?;
    let mut report = Report { head: read::head(&mut *snapshot).await?.0, ..Report::default() };
    let count = kept.len();
    let mut check = SealCheck::start(&mut snapshot, kept).await?;
    let mut size = ChunkSize::new(SLICE_EVENTS, SLICE_BYTES);
    let mut position = Position(0);
    let total = u64::try_from(report.head).unwrap_or_default();
    let mut seen = 0;
    loop {
        let limit = i64::try_from(size.events()).unwrap_or(i64::MAX);
        let events = read::after(&mut *snapshot, position, limit).await?.events;
        let Some(last) = events.last() else { break };
        position = last.position;
        size.observe(&events);
        seen += events.len() as i64;
        for event in &events {
            check.take(&mut snapshot, event, &mut report).await?;
        }
        progress(Progress { stage: "log", done: u64::try_from(position.0).unwrap_or_default(), total });
    }
    check.finish(&mut report);
    unread::check(&mut snapshot, seen, &mut report).await?;
    snapshot.commit().await?;
    Ok(SealsReport {
        head: report.head,
        sealed_events: report.sealed_events,
        kept: count,
        kept_agreeing: check.agreeing,
        differences: report.differences,
        difference_count: report.difference_count,
    })
}
