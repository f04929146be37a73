//! `backup`: the database as a file, durable under its name, and the oldest ones gone.
//!
//! The name is made of the run, so that a run has one file however often it was begun: who finds it whole is done.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use super::super::Parts;
use super::soft_limit;
use crate::postgres::{dump, is_unfinished};
use crate::queries::job_plan::OpenRun;

/// What an attempt that was killed has left goes after so long.
const LEFTOVER_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Where backups go.
#[derive(Debug, Clone)]
pub struct Backups {
    /// The database.
    pub options: PgConnectOptions,
    /// The folder; none where none was told and there is no data folder to put one into.
    pub folder: Option<PathBuf>,
    /// So many are kept.
    pub keep: usize,
}

pub(super) async fn carry_out(
    parts: &Parts,
    run: &OpenRun,
    asked_to_end: &CancellationToken,
) -> Result<String, String> {
    let Backups { options, folder, keep } = &parts.backups;
    let Some(folder) = folder else {
        return Err("there is no folder for backups: set BACKUP_DIR".to_owned());
    };
    let told = |error: io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(told)?;
    let file = folder.join(name(run));
    if !file.exists() {
        let unique = uuid::Uuid::now_v7().simple().to_string();
        tokio::select! {
            dumped = dump(options, &file, &unique) => dumped.map_err(|error| error.to_string())?,
            () = asked_to_end.cancelled() => return Err(soft_limit("")),
        };
    }
    let bytes = file.metadata().map_err(told)?.len();
    let removed = sweep(folder, &file, *keep).map_err(told)?;
    let megabytes = bytes as f64 / 1e6;
    let file = file.display();
    Ok(format!("{file}, {megabytes:.1} MB; {removed} older removed, {keep} are kept"))
}

fn name(run: &OpenRun) -> String {
    let id = run.run_id.to_string();
    // Its end: ids that are made at the same time begin alike.
    let end = id.rsplit('-').next().unwrap_or_default();
    format!("insight-{}-{end}.dump", run.due_at.format("%Y%m%dT%H%M%SZ"))
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("insight-2") && name.contains(".dump")
}

/// Removes all but the newest and this one, and what was begun long ago and never finished. A run that is tried again makes a
/// new backup under an old time, so it is the file's own age that counts.
fn sweep(folder: &Path, new: &Path, keep: usize) -> io::Result<usize> {
    let mut whole = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !is_ours(&path) {
            continue;
        }
        if !is_unfinished(&path) {
            let made = path.metadata()?.modified()?;
            whole.push((path == new, made, path));
        } else if is_old(&path) {
            fs::remove_file(&path)?;
        }
    }
    whole.sort();
    let too_many = whole.len().saturating_sub(keep.max(1));
    for (_, _, path) in &whole[..too_many] {
        fs::remove_file(path)?;
    }
    Ok(too_many)
}

#[expect(clippy::disallowed_methods, reason = "compared with the times of a file system")]
fn is_old(path: &Path) -> bool {
    let changed = path.metadata().and_then(|file| file.modified()).ok();
    let age = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
    age.is_some_and(|age| age > LEFTOVER_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_nothing_else_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "insight-20240301T020000Z-aaaaaaaa.dump",
            "insight-20240302T020000Z-bbbbbbbb.dump",
            "insight-20240303T020000Z-cccccccc.dump",
            "insight-20240303T020000Z-cccccccc.dump.x.part",
            "notes.txt",
            "insight.dump",
        ];
        for (age, name) in [30, 20, 10, 10, 90, 90].into_iter().zip(names) {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000 - age)).unwrap();
        }
        let new = folder.path().join(names[0]);
        assert_eq!(sweep(folder.path(), &new, 2).unwrap(), 1);
        let left = |name: &str| folder.path().join(name).exists();
        assert_eq!(names.map(left), [true, false, true, true, true, true]);
        assert_eq!(sweep(folder.path(), &new, 2).unwrap(), 0);
    }
}
