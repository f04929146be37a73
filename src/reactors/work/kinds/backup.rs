//! `backup`: the database as a file, durable under its name, and the oldest ones gone.
//!
//! The name is made of the run and the history, so that a run has one file however often it was begun: who finds it whole is done.
//! After a restore the same due time is the same run again, of another history: what a dead one has left is not taken for its file.
//!
//! A worker that is killed leaves its `pg_dump` behind, which ends when it has written or when its connection does. Whoever takes the
//! run over begins another file; the one that nobody waits for keeps its unfinished name and goes a day later.
//! While one is being written, `pg_dump` holds a read lock on every table: a rebuild is not promoted before it has ended.
//!
//! Investors' names and addresses are in it: nobody but the user that this runs as may read it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::NaiveDateTime;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use super::super::Parts;
use super::soft_limit;
use crate::domain::ids::Epoch;
use crate::event_store::read;
use crate::postgres::{answered, dump, is_unfinished};
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
    make(folder).map_err(told)?;
    let epoch = answered(read::epoch_at_head(&parts.pool)).await.map_err(|error| error.to_string())?;
    let file = folder.join(name(run, epoch));
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

fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn name(run: &OpenRun, epoch: Epoch) -> String {
    let id = run.run_id.to_string();
    // Its end: ids that are made at the same time begin alike.
    let end = id.rsplit('-').next().unwrap_or_default();
    format!("insight-{}-{epoch}-{end}.dump", run.due_at.format("%Y%m%dT%H%M%SZ"))
}

/// Whether it has a name that was made here, whole or not: what somebody else put there is theirs.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((stem, rest)) = name.split_once(".dump") else { return false };
    let parts: Vec<&str> = stem.split('-').collect();
    let ["insight", due, epoch, end] = parts[..] else { return false };
    let is_hex = |text: &str, digits| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    let is_unfinished = || {
        let unique = rest.strip_prefix('.').and_then(|rest| rest.strip_suffix(".part"));
        unique.is_some_and(|unique| is_hex(unique, 32))
    };
    NaiveDateTime::parse_from_str(due, "%Y%m%dT%H%M%SZ").is_ok()
        && epoch.parse::<i32>().is_ok()
        && is_hex(end, 12)
        && (rest.is_empty() || is_unfinished())
}

/// None where the file has gone: another worker may sweep the same folder.
fn still<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
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
            if let Some(found) = still(path.metadata())? {
                whole.push((path == new, found.modified()?, path));
            }
        } else if is_old(&path) {
            still(fs::remove_file(&path))?;
        }
    }
    whole.sort();
    let too_many = whole.len().saturating_sub(keep.max(1));
    let mut removed = 0;
    for (_, _, path) in &whole[..too_many] {
        removed += usize::from(still(fs::remove_file(path))?.is_some());
    }
    Ok(removed)
}

#[expect(clippy::disallowed_methods, reason = "compared with the times of a file system")]
fn is_old(path: &Path) -> bool {
    let changed = path.metadata().and_then(|file| file.modified()).ok();
    let age = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
    age.is_some_and(|age| age > LEFTOVER_AFTER)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;
    use crate::domain::ids::{JobId, Position, RunId, Shard};

    #[test]
    fn a_run_has_one_name_in_each_history_and_it_is_known_again() {
        let mut run = OpenRun {
            run_id: RunId(Uuid::from_u128(0x1234_5678_9abc)),
            job_id: JobId::named("backup"),
            shard: Shard(33),
            due_at: "2024-03-01T02:00:00Z".parse().unwrap(),
            attempt: 1,
            retry_at: None,
            scheduled_at: "2024-03-01T02:00:00Z".parse().unwrap(),
            position: Position(7),
        };
        let first = name(&run, Epoch(1));
        assert_eq!(first, "insight-20240301T020000Z-1-123456789abc.dump");
        run.attempt = 2;
        assert_eq!(name(&run, Epoch(1)), first);
        assert_ne!(name(&run, Epoch(2)), first, "what a dead history has left is not this one's");
        run.due_at += TimeDelta::seconds(1);
        let unfinished = format!("{}.{}.part", name(&run, Epoch(2)), Uuid::nil().simple());
        for name in [first, name(&run, Epoch(12)), unfinished] {
            assert!(is_ours(Path::new(&name)), "{name}");
        }
    }

    #[test]
    fn a_folder_is_made_for_its_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a/b");
        make(&folder).unwrap();
        make(&folder).unwrap();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_that_goes_meanwhile_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("insight-20240301T020000Z-1-aaaaaaaaaaaa.dump");
        fs::write(&new, "whole").unwrap();
        // Listed, and not there when it is looked at.
        symlink(
            folder.path().join("nowhere"),
            folder.path().join("insight-20240302T020000Z-1-aaaaaaaaaaaa.dump"),
        )
        .unwrap();
        assert_eq!(sweep(folder.path(), &new, 1).unwrap(), 0);
        assert!(new.exists());
    }

    #[test]
    fn the_newest_are_kept_and_nothing_else_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "insight-20240301T020000Z-1-aaaaaaaaaaaa.dump",
            "insight-20240302T020000Z-1-bbbbbbbbbbbb.dump",
            "insight-20240303T020000Z-2-cccccccccccc.dump",
            "insight-20240303T020000Z-2-cccccccccccc.dump.0123456789abcdef0123456789abcdef.part",
            "notes.txt",
            "insight.dump",
            "insight-2024-before-the-move.dump",
            "insight-20240301T020000Z-1-aaaaaaaaaaaa.dump.gz",
        ];
        for (age, name) in [30, 20, 10, 10, 90, 90, 90, 90].into_iter().zip(names) {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000 - age)).unwrap();
        }
        let new = folder.path().join(names[0]);
        assert_eq!(sweep(folder.path(), &new, 2).unwrap(), 1);
        let left = |name: &str| folder.path().join(name).exists();
        assert_eq!(names.map(left), [true, false, true, true, true, true, true, true]);
        assert_eq!(sweep(folder.path(), &new, 2).unwrap(), 0);
    }
}
