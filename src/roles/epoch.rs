//! `insight epoch show|new`: the histories of the log, and what the embedded form does about another one by itself.

use std::error::Error;
use std::process::ExitCode;

use anyhow::Context;
use sqlx::PgPool;

use super::process::{close, connect, kafka, log_format};
use super::visit::reach;
use crate::config::Settings;
use crate::domain::ids::Epoch;
use crate::event_store::epochs::{self, Begun};
use crate::event_store::{self, read};
use crate::kafka::scan::{self, Extent};
use crate::kafka::{KafkaSettings, topics};
use crate::projectors::schema::{self, Schema};
use crate::{feed, projectors, relay};

const BY_ITSELF: &str = "noticed by the embedded form";

/// Prints every epoch and the head of the log.
///
/// # Errors
/// A database that cannot be reached.
pub async fn show(settings: Settings) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(&settings), "warn")?;
    let (options, embedded) = reach(&settings).await?;
    let pool = connect(&options, &settings).await?;
    let histories = epochs::list(&pool).await?;
    let head = read::head(&pool).await?;
    let ends = histories.iter().skip(1).map(|next| next.first_position.0 - 1).chain([head.0]);
    for (history, last) in histories.iter().zip(ends) {
        let first = history.first_position;
        let span = if last < first.0 {
            format!("from {first} on, no event yet")
        } else {
            format!("{first} to {last}")
        };
        let began = history.started_at.format("%Y-%m-%dT%H:%M:%SZ");
        println!("epoch {}: {span}, begun {began}: {}", history.epoch, history.reason);
    }
    close(&pool).await;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Begins the next epoch behind the head.
///
/// # Errors
/// A database that cannot be reached; brokers that cannot be asked which numbers were used.
pub async fn new(settings: Settings, reason: &str, above: Option<i32>) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(&settings), "warn")?;
    let used = match (above, kafka(&settings)) {
        (Some(above), _) => Epoch(above),
        (None, Some(kafka)) => highest_on(&kafka).await.context(
            "cannot see which epochs the topics know; wait for the brokers, or say a number with --above",
        )?,
        (None, None) => Epoch(0),
    };
    let (options, embedded) = reach(&settings).await?;
    let pool = connect(&options, &settings).await?;
    let begun = epochs::begin(&pool, used, reason).await?;
    close(&pool).await;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    match begun {
        Begun::New { epoch, first_position } => {
            println!("epoch {epoch} begins at position {first_position}");
        }
        Begun::Already { epoch, first_position } => {
            println!(
                "nothing to do: epoch {epoch} begins at position {first_position} and has no event yet; if its number was \
                 used before the restore as well, say so: insight epoch new --above {epoch}"
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The highest epoch among the last records of all partitions; 0 if there are none.
async fn highest_on(kafka: &KafkaSettings) -> anyhow::Result<Epoch> {
    let described = topics::describe(kafka).await?;
    let is_there = |name: &Option<String>| {
        described.iter().any(|topic| topic.partitions.is_some() && Some(&topic.name) == name.as_ref())
    };
    let shards = topics::all_shards().filter(|shard| is_there(&kafka.topic_of(*shard))).collect();
    let extents = scan::extents(kafka, shards).await?;
    let last = |extent: Extent| Extent { low: extent.low.max(extent.end - 1), ..extent };
    let mut records =
        scan::scan(kafka, extents.into_iter().map(|(shard, extent)| (shard, last(extent))).collect());
    let mut highest = Epoch(0);
    while let Some(some) = records.recv().await {
        highest = some?.iter().map(|record| record.event.epoch).chain([highest]).max().unwrap_or_default();
    }
    Ok(highest)
}

/// Before any role starts in the embedded form, where nobody else could: if read models are of another history than the log (which
/// was restored without them), the next epoch begins, and their tables are emptied, so that their projectors fill them from
/// this history.
pub(super) async fn follow_restore(pool: &PgPool) -> anyhow::Result<()> {
    let ahead = projectors::list_ahead(pool).await?;
    if ahead.is_empty() {
        return Ok(());
    }
    begin(pool).await?;
    for name in &ahead {
        schema::recreate(&mut *pool.acquire().await?, Schema::named(name)?).await?;
    }
    tracing::warn!(read_models = ahead.join(", "), "of another history than the log: made anew from it");
    Ok(())
}

/// In the embedded form, a role that ends because the log has forked is reason enough for the next epoch. The next start does the rest.
pub(super) async fn begin_after(failure: &(dyn Error + 'static), pool: &PgPool) {
    if !is_fork(failure) {
        return;
    }
    if let Err(error) = begin(pool).await {
        tracing::error!(%error, "the next epoch could not be begun: run `insight epoch new`");
    }
}

async fn begin(pool: &PgPool) -> Result<(), event_store::Error> {
    if let Begun::New { epoch, first_position } = epochs::begin(pool, Epoch(0), BY_ITSELF).await? {
        tracing::warn!(%epoch, %first_position, "the log was restored to an earlier moment: a new epoch begins");
    }
    Ok(())
}

fn is_fork(failure: &(dyn Error + 'static)) -> bool {
    let says_so = |error: &(dyn Error + 'static)| {
        matches!(error.downcast_ref(), Some(event_store::Error::Fork { .. }))
            || matches!(error.downcast_ref(), Some(feed::Error::Fork(_)))
            || matches!(error.downcast_ref(), Some(relay::Error::Fork(_)))
    };
    std::iter::successors(Some(failure), |error| (*error).source()).any(says_so)
}
