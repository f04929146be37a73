//! `recompute-risk`: one request to each shard; whoever owns the shard computes. Done when their checkpoints have passed it.

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
use crate::queries::risk::{Recomputed, count_recomputed};
use crate::reactors::send;
use crate::retry::Backoff;

const ASK_EVERY: Duration = Duration::from_millis(250);
/// Counting many rows takes a while: it may take one part in so many of the time.
const ASK_SHARE: u32 = 10;

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
    loop {
        let asking = Instant::now();
        match count(&parts.pool, &places).await {
            Ok(Recomputed { done, total, waiting }) => {
                progress.set(done, total);
                if waiting.is_empty() {
                    let seconds = began.elapsed().as_secs_f64();
                    return Ok(format!("{total} portfolios computed anew in {seconds:.1} s"));
                }
                if asked_to_end.is_cancelled() {
                    let shards: Vec<String> = waiting.iter().take(8).map(ToString::to_string).collect();
                    let (more, shards) = (if waiting.len() > 8 { ", …" } else { "" }, shards.join(", "));
                    return Err(soft_limit(&format!(
                        ": {done} of {total} portfolios were done; risk has not come to the request in {} of \
                         {PORTFOLIO_SHARDS} shards ({shards}{more})",
                        waiting.len()
                    )));
                }
            }
            Err(error) if asked_to_end.is_cancelled() => {
                return Err(format!("risk cannot be asked: {error}"));
            }
            Err(error) => tracing::warn!(%error, "risk cannot be asked how far it is"),
        }
        sleep(ASK_EVERY.max(asking.elapsed() * ASK_SHARE)).await;
    }
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
