//! `insight rebuild NAME…|--all`: read models made anew from the log beside the ones that are read, with progress.

use std::process::ExitCode;

use sqlx::PgPool;

use crate::config::Settings;
pub use crate::projectors::rebuild::Dropping;
use crate::projectors::rebuild::{self, News, Options, Progress, Promoted};
use crate::projectors::schema;

use super::process::{close, connect, log_format};
use super::project::engine;
use super::visit::reach;

/// What to rebuild, and how.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Names of read models; none for all of them.
    pub names: Vec<String>,
    /// At most so many events a second.
    pub throttle: Option<u32>,
    /// What is done.
    pub verb: Verb,
}

/// What is done with a read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Its rows are made again and promoted.
    Rebuild,
    /// What was replaced comes back.
    RollBack,
    /// What was replaced is dropped.
    DropOld(Dropping),
}

/// Does it, and prints how far it is at most once a second.
///
/// # Errors
/// What kept it from finishing; running it again goes on from there.
pub async fn run(settings: Settings, wanted: Wanted) -> anyhow::Result<ExitCode> {
    // Building an index takes its time.
    crate::telemetry::init_logs(log_format(&settings), "warn,sqlx::query=error")?;
    let (options, embedded) = reach(&settings).await?;
    let pool = connect(&options, &settings).await?;
    let is_wanted = |name: &&str| wanted.names.is_empty() || wanted.names.iter().any(|it| it == name);
    // In the order in which they are made from each other, whatever the order in which they were named.
    let names: Vec<&str> = schema::ALL.iter().map(|schema| schema.name).filter(is_wanted).collect();
    let how = Options {
        throttle: wanted.throttle,
        parked_streams_max: settings.reading.parked_streams_max,
        engine: engine(&settings.risk),
        ..Options::default()
    };
    let outcome = each(&pool, &names, &wanted, &how).await;
    close(&pool).await;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    outcome?;
    Ok(ExitCode::SUCCESS)
}

async fn each(pool: &PgPool, names: &[&str], wanted: &Wanted, options: &Options) -> anyhow::Result<()> {
    if !matches!(wanted.verb, Verb::DropOld(_)) {
        schema::apply_others(pool, names).await?;
    }
    for name in names {
        match wanted.verb {
            Verb::Rebuild => one(pool, name, false, options).await?,
            Verb::RollBack => one(pool, name, true, options).await?,
            Verb::DropOld(dropping) => match rebuild::drop_old(name, pool, dropping).await? {
                dropped if dropped.is_empty() => eprintln!("{name}: nothing old to drop"),
                dropped => eprintln!("{name}: dropped {}", dropped.join(", ")),
            },
        }
    }
    Ok(())
}

async fn one(pool: &PgPool, name: &str, back: bool, options: &Options) -> anyhow::Result<()> {
    let started = tokio::time::Instant::now();
    let mut shown = started;
    let mut unshown = None;
    let mut hear = |news| match news {
        News::Note(note) => eprintln!("{name}: {note}"),
        News::Progress(progress) if shown.elapsed().as_secs() >= 1 => {
            shown = tokio::time::Instant::now();
            unshown = None;
            show(name, &progress);
        }
        News::Progress(progress) => unshown = Some(progress),
    };
    let Promoted { writers_waited, readers_waited } = if back {
        rebuild::roll_back(name, pool, options, &mut hear).await?
    } else {
        rebuild::rebuild_with(name, pool, options, &mut hear).await?
    };
    if let Some(progress) = unshown {
        show(name, &progress);
    }
    let (done, seconds) = (if back { "rolled back" } else { "rebuilt" }, started.elapsed().as_secs_f64());
    eprintln!(
        "{name}: {done} in {seconds:.1} s; flushes waited {} ms, reads {} ms",
        writers_waited.as_millis(),
        readers_waited.as_millis()
    );
    Ok(())
}

fn show(name: &str, progress: &Progress) {
    let Progress { position, head, events_per_second } = progress;
    let left = (head.0 - position.0) as f64 / events_per_second.max(1.0);
    eprintln!("{name}: {position} of {head} events, {events_per_second:.0}/s, {left:.0} s left");
}
