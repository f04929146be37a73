//! The role `work`: runs of jobs are carried out.

use std::path::PathBuf;
use std::time::Duration;

use uuid::Uuid;

use super::fetch::sources;
use super::process::{Process, name};
use crate::config::Settings;
use crate::market_data::{self, Fetcher};
use crate::postgres::{self, Session};
use crate::reactors::work::{self, Backups, Parts};

/// Beside one connection a slot: for leases of others, and for the word that this worker is there.
const CONNECTIONS_BESIDE: u32 = 2;

pub(super) async fn spawn(process: &Process) -> anyhow::Result<()> {
    let slots = process.settings.jobs.worker_slots;
    // A pool of its own: a lease must not wait behind requests.
    let session = Session {
        connections_max: u32::try_from(slots)?.saturating_add(CONNECTIONS_BESIDE),
        acquire_timeout: Duration::from_secs(2),
        ..Session::of(name())
    };
    let pool = postgres::connect(process.options.clone(), &session).await?;
    let (commands, written) = process.commands("append of work");
    let fetcher = Fetcher::open(market_data::Parts {
        pool: process.pool.clone(),
        commands: commands.clone(),
        clock: process.clock.clone(),
        settings: sources(&process.settings)?,
    })?;
    let backups = Backups {
        options: process.options.clone(),
        folder: backup_folder(&process.settings),
        keep: process.settings.jobs.backup_keep,
    };
    let life = Uuid::now_v7().simple().to_string();
    // The end of it is chance, its beginning the time.
    let owner = format!("{} {}", name(), &life[life.len() - 8..]);
    let clock = process.clock.clone();
    let parts = Parts { pool: pool.clone(), commands, clock, owner, slots, fetcher, backups };
    let (source, cancel) = (process.source(), process.shutdown.token());
    process.shutdown.spawn("work", async move {
        let _written = written;
        let worked = work::run(parts, source, cancel).await;
        pool.close().await;
        worked
    });
    Ok(())
}

/// As told, or below the data folder where there is one.
fn backup_folder(settings: &Settings) -> Option<PathBuf> {
    let storage = &settings.storage;
    let has_folder = storage.database_url.is_none() || storage.data_dir.is_some();
    let below = || has_folder.then(|| storage.data_folder().join("backups"));
    settings.jobs.backup_dir.clone().or_else(below)
}
