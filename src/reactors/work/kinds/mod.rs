//! What a run does, by the kind of its job. Each can be dropped at any moment and begun again by somebody else.

mod backup;
mod fetch;
mod recompute;
mod verification;

use std::sync::atomic::{AtomicI64, Ordering};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::backup::Backups;
use super::Parts;
use super::board::Start;
use crate::domain::job::JobKind;
use crate::market_data::What;

/// How far an attempt is, for people.
#[derive(Debug)]
pub(super) struct Progress {
    done: AtomicI64,
    total: AtomicI64,
}

/// Not known.
const UNKNOWN: i64 = -1;

impl Default for Progress {
    fn default() -> Self {
        Self { done: AtomicI64::new(UNKNOWN), total: AtomicI64::new(UNKNOWN) }
    }
}

impl Progress {
    pub(super) fn set(&self, done: u64, total: u64) {
        self.done.store(i64::try_from(done).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.total.store(i64::try_from(total).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> (Option<i64>, Option<i64>) {
        let known = |number: &AtomicI64| Some(number.load(Ordering::Relaxed)).filter(|it| *it != UNKNOWN);
        (known(&self.done), known(&self.total))
    }
}

/// Carries out a run: a sentence about what came of it, or why nothing did. `asked_to_end` is the soft limit; `left` are the threads
/// that go on for a while when this is dropped.
pub(super) async fn carry_out(
    parts: &Parts,
    start: &Start,
    progress: &Progress,
    asked_to_end: &CancellationToken,
    left: &TaskTracker,
) -> Result<String, String> {
    let settings = &start.job.settings;
    let fetch = |what| fetch::carry_out(parts, what, settings, progress, asked_to_end);
    match settings.kind {
        JobKind::FetchQuotes => fetch(What::Quotes).await,
        JobKind::FetchHistory => fetch(What::History).await,
        JobKind::FetchRates => fetch(What::Rates).await,
        JobKind::RecomputeRisk => recompute::carry_out(parts, &start.run, progress, asked_to_end).await,
        JobKind::Verify => verification::carry_out(parts, progress, asked_to_end, left).await,
        JobKind::Backup => backup::carry_out(parts, &start.run, asked_to_end).await,
    }
}

/// As it is written in a job.
pub(super) fn name(kind: JobKind) -> &'static str {
    match kind {
        JobKind::FetchQuotes => "fetch-quotes",
        JobKind::FetchHistory => "fetch-history",
        JobKind::FetchRates => "fetch-rates",
        JobKind::RecomputeRisk => "recompute-risk",
        JobKind::Verify => "verify",
        JobKind::Backup => "backup",
    }
}

/// Why a run ends that was asked to.
fn soft_limit(so_far: &str) -> String {
    format!("it was asked to end at its soft limit{so_far}")
}
