//! `insight seal`: seals as far as the log goes, and prints what to keep elsewhere.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use super::process::{close, connect, log_format};
use super::visit::reach;
use crate::config::Settings;
use crate::event_store::seals::{self, Sealed};

/// How long another process that is sealing is waited for, without anything new.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stores a seal for every whole block that has none, and prints, as `POSITION:HEX`, the newest stored one (or all of them) and
/// that of the log as it is now, which is not stored.
///
/// # Errors
/// A database that cannot be reached, a log that is not what was sealed before.
pub async fn run(settings: Settings, all: bool) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(&settings), "warn")?;
    let (options, embedded) = reach(&settings).await?;
    let pool = connect(&options, &settings).await?;
    let sealing = seal(&pool, all).await;
    close(&pool).await;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    sealing?;
    Ok(ExitCode::SUCCESS)
}

async fn seal(pool: &sqlx::PgPool, all: bool) -> anyhow::Result<()> {
    let mut waiting = Instant::now();
    let mut sealed = 0;
    loop {
        match seals::seal_next(pool).await? {
            Sealed::Block(_) => {
                sealed += 1;
                waiting = Instant::now();
            }
            Sealed::UpToDate => break,
            Sealed::Elsewhere => {
                ensure!(waiting.elapsed() < PATIENCE, "another process has been sealing for {PATIENCE:?}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    let stored = seals::list(pool).await?;
    eprintln!(
        "{} seals are stored, {sealed} of them new; keep what follows where nobody can change it",
        stored.len()
    );
    let skipped = if all { 0 } else { stored.len().saturating_sub(1) };
    for at in stored.iter().skip(skipped) {
        println!("{at}");
    }
    let head = seals::seal_of_head(pool).await?;
    if head.position.0 > 0 && stored.last() != Some(&head) {
        println!("{head}");
    }
    Ok(())
}
