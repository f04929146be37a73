//! `insight rebuild NAME`: a read model made anew from the log, with progress.

use std::process::ExitCode;

use crate::config::Settings;
use crate::projectors::rebuild::{self, Progress};
use crate::projectors::schema;

use super::process::{connect, database, log_format};
use super::project::engine;

/// Rebuilds and prints how far it is, at most once a second.
///
/// # Errors
/// What kept it from finishing; running it again starts anew.
pub async fn run(settings: Settings, name: &str) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(&settings), "warn")?;
    let (options, embedded) = database(&settings).await?;
    let pool = connect(&options, &settings).await?;
    schema::apply_others(&pool, name).await?;
    let started = tokio::time::Instant::now();
    let mut shown = started;
    let mut unshown = None;
    let rebuilt = rebuild::rebuild(name, &pool, engine(&settings.risk), |progress| {
        unshown = Some(progress);
        if shown.elapsed().as_secs() >= 1 {
            shown = tokio::time::Instant::now();
            unshown = None;
            show(name, &progress);
        }
    })
    .await;
    pool.close().await;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    rebuilt?;
    if let Some(progress) = unshown {
        show(name, &progress);
    }
    eprintln!("{name}: rebuilt in {:.1} s", started.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

fn show(name: &str, progress: &Progress) {
    let Progress { position, head, events_per_second } = progress;
    let left = (head.0 - position.0) as f64 / events_per_second.max(1.0);
    eprintln!("{name}: {position} of {head} events, {events_per_second:.0}/s, {left:.0} s left");
}
