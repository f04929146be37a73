//! `recompute-risk`: one request to each shard; whoever owns the shard computes. Done when every row names the request.

use std::time::Duration;

use futures::future::try_join_all;
use sqlx::PgPool;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::Parts;
use super::{Progress, soft_limit};
use crate::commands::{Command, Refusal};
use crate::domain::ids::{PORTFOLIO_SHARDS, Position, Shard};
use crate::domain::job::RiskRecomputeRequested;
use crate::postgres::answered;
use crate::queries::job_plan::OpenRun;
use crate::queries::risk::{Recomputed, count_recomputed, find_unreachable};
use crate::reactors::send;
use crate::retry::Backoff;

/// When no row was computed for so long, it is asked whether one cannot be.
const STILL_FOR: Duration = Duration::from_secs(3);
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Shards that are named in a sentence.
const NAMED_MAX: usize = 8;
/// Counting many rows takes a while: it may take one part in so many of the time.
const ASK_SHARE: u32 = 10;
/// However long it takes: whoever looks wants to see how far it is.
const ASK_PAUSE_MAX: Duration = Duration::from_secs(5);

pub(super) async fn carry_out(
    parts: &Parts,
    run: &OpenRun,
    progress: &Progress,
    asked_to_end: &CancellationToken,
) -> Result<String, String> {
    let shards = (0..PORTFOLIO_SHARDS).map(Shard);
    let asked = try_join_all(shards.map(|shard| ask(parts, run, shard)));
    let places = tokio::select! {
        places = asked => places?,
        () = asked_to_end.cancelled() => return Err(soft_limit(", before every shard was asked")),
    };
    let began = Instant::now();
    let mut last = (0, began);
    loop {
        let asking = Instant::now();
        match count(&parts.pool, &places).await {
            Ok(found) => {
                progress.set(found.done, found.total);
                if let Some(outcome) = outcome(&found, began.elapsed()) {
                    return outcome;
                }
                if asked_to_end.is_cancelled() {
                    return Err(soft_limit(&so_far(&found)));
                }
                if found.done != last.0 || !found.waiting.is_empty() {
                    last = (found.done, Instant::now());
                } else if last.1.elapsed() > STILL_FOR {
                    // Whether it is so or cannot be asked now: it is asked again.
                    if let Ok(Some(id)) = answered(find_unreachable(&parts.pool, &places)).await {
                        let Recomputed { done, total, .. } = found;
                        return Err(format!(
                            "{done} of {total} portfolios computed anew: the others have risk and no holdings to compute \
                             it from, for example {id}; rebuild risk"
                        ));
                    }
                    last.1 = Instant::now();
                }
            }
            Err(error) if asked_to_end.is_cancelled() => {
                return Err(format!("risk cannot be asked: {error}"));
            }
            Err(error) => tracing::warn!(%error, "risk cannot be asked how far it is"),
        }
        tokio::select! {
            () = sleep(pause_after(asking.elapsed())) => {}
            // It is counted once more, so that the reason says how far it is.
            () = asked_to_end.cancelled() => {}
        }
    }
}

/// How long to wait before counting again, when it took so long.
fn pause_after(counting: Duration) -> Duration {
    (counting * ASK_SHARE).clamp(ASK_EVERY, ASK_PAUSE_MAX)
}

/// How it has ended, if it has.
fn outcome(found: &Recomputed, took: Duration) -> Option<Result<String, String>> {
    let Recomputed { done, total, waiting, parked } = found;
    if !parked.is_empty() {
        let streams = named(parked.iter().map(|shard| format!("shard-{shard}")));
        return Some(Err(format!("{done} of {total} portfolios computed anew: risk has parked {streams}")));
    }
    let is_done = waiting.is_empty() && done == total;
    is_done.then(|| Ok(format!("{total} portfolios computed anew in {:.1} s", took.as_secs_f64())))
}

fn so_far(found: &Recomputed) -> String {
    let Recomputed { done, total, waiting, .. } = found;
    if waiting.is_empty() {
        return format!(": {done} of {total} portfolios were done");
    }
    let (count, shards) = (waiting.len(), named(waiting.iter().map(ToString::to_string)));
    format!(
        ": {done} of {total} portfolios were done; risk has not come to the request in {count} of {PORTFOLIO_SHARDS} shards \
         ({shards})"
    )
}

/// The first few.
fn named(all: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = all.take(NAMED_MAX + 1).collect();
    if all.len() > NAMED_MAX {
        all[NAMED_MAX] = "…".to_owned();
    }
    all.join(", ")
}

/// Puts the request into the shard's stream; where it is there already, says where.
async fn ask(parts: &Parts, run: &OpenRun, shard: Shard) -> Result<(Shard, Position), String> {
    let command_id = Uuid::new_v5(&run.run_id.0, format!("recompute shard {shard}").as_bytes());
    let wanted = RiskRecomputeRequested { shard, job_id: run.job_id, run_id: run.run_id };
    let mut pauses = Backoff::pauses(Duration::from_millis(50), Duration::from_secs(2));
    loop {
        let command = Command::RecomputeRisk(wanted.clone());
        match send(&parts.commands, command, command_id, run.run_id.0).await {
            Ok(answer) => return Ok((shard, answer.position)),
            // The attempt's limits end this.
            Err(Refusal::Busy { .. }) => pauses.sleep().await,
            Err(refusal) => return Err(refusal.to_string()),
        }
    }
}

async fn count(pool: &PgPool, places: &[(Shard, Position)]) -> Result<Recomputed, crate::queries::Error> {
    answered(count_recomputed(pool, places)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_takes_one_part_in_ten_of_the_time_and_nobody_waits_long_for_the_next_one() {
        let pauses = [1, 100, 60_000].map(|ms| pause_after(Duration::from_millis(ms)).as_millis());
        assert_eq!(pauses, [250, 1_000, 5_000]);
    }

    #[test]
    fn it_is_done_when_every_row_has_obeyed_and_no_request_is_parked() {
        let took = Duration::from_millis(1_500);
        let mut found = Recomputed { done: 7, total: 8, waiting: Vec::new(), parked: Vec::new() };
        assert_eq!(outcome(&found, took), None, "the checkpoints have passed it, a row has not");
        assert_eq!(so_far(&found), ": 7 of 8 portfolios were done");
        found.done = 8;
        assert_eq!(outcome(&found, took), Some(Ok("8 portfolios computed anew in 1.5 s".into())));
        found.waiting = (0..9).collect();
        assert_eq!(outcome(&found, took), None, "more rows may come before it");
        assert!(
            so_far(&found).ends_with("in 9 of 32 shards (0, 1, 2, 3, 4, 5, 6, 7, …)"),
            "{}",
            so_far(&found)
        );
        found.parked = vec![3, 4];
        let told = "8 of 8 portfolios computed anew: risk has parked shard-3, shard-4";
        assert_eq!(outcome(&found, took), Some(Err(told.into())));
    }
}
