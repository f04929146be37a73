//! Backups on real servers: whole, restorable, and nothing left of one that was killed or took too long.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::time::{Duration, SystemTime};

use insight::domain::job::{JobEvent, JobKind, JobSettings};
use insight::verify::verify;

use crate::working_stage::{SOON, WorkingStage, by_hand, count, eventually, failed, finished};

fn folder(stage: &WorkingStage) -> PathBuf {
    stage.place.path().join("backups")
}

fn files(stage: &WorkingStage) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder(stage)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Waits until so many backups wait for a table.
async fn waiting(stage: &WorkingStage, backups: i64) {
    let waiting = "select count(*) from pg_stat_activity where application_name = 'insight backup' \
        and datname = current_database() and wait_event_type = 'Lock'";
    eventually("backups that wait", SOON, async || {
        let found = stage.count(waiting).await;
        if found == backups { Ok(()) } else { Err(found) }
    })
    .await;
}

/// How many `pg_dump` there are of this database.
fn dumps(stage: &WorkingStage) -> usize {
    let database = format!("PGDATABASE={}", stage.database.options().get_database().unwrap());
    let is_ours = |process: &Path| {
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        name.trim_end() == "pg_dump"
            && environment.split(|byte| *byte == 0).any(|variable| variable == database.as_bytes())
    };
    fs::read_dir("/proc").unwrap().filter(|entry| is_ours(&entry.as_ref().unwrap().path())).count()
}

/// Waits until there is none.
async fn no_dumps(stage: &WorkingStage, within: Duration) {
    eventually("end of every pg_dump", within, async || match dumps(stage) {
        0 => Ok(()),
        n => Err(n),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_can_be_restored_and_one_that_waits_blocks_nobody() {
    let stage = WorkingStage::new().await;
    stage.portfolios(5).await;
    let _all = (stage.read_models(), stage.run("risk", &["risk"]));
    let _worker = stage.run_with("worker", &["work"], &[("BACKUP_KEEP", "1")]);
    let backup = stage.define("backup", by_hand(JobKind::Backup)).await;
    let check = stage.define("verify", by_hand(JobKind::Verify)).await;
    stage.assert_verified().await;

    let change = stage.in_the_way().await;
    let run = stage.run_now(backup).await;
    stage.leased(run, SOON).await;
    waiting(&stage, 1).await;
    stage.run_now(check).await;
    let (_, _, result) = stage.event(check, SOON, finished).await;
    assert!(result.starts_with("nothing differs"), "{result}");
    assert_eq!(count(&stage.events(backup).await, finished), 0);
    change.rollback().await.unwrap();

    let (_, _, result) = stage.event(backup, SOON, finished).await;
    let (folder, files) = (folder(&stage), || files(&stage));
    let [file] = &files()[..] else { panic!("{:?}", files()) };
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(file)), (0o700, 0o600), "investors' addresses are in it");
    assert!(result.starts_with(&file.display().to_string()), "{result}");

    let restored = crate::environment::database().await;
    let programs = std::fs::read_dir("/usr/lib/postgresql").unwrap().map(|entry| entry.unwrap().path());
    let program = programs.max().unwrap().join("bin/pg_restore");
    let dbname = format!("--dbname={}", restored.url());
    let arguments = ["--clean", "--if-exists", "--no-owner", "--exit-on-error", &dbname];
    let output = Program::new(program).args(arguments).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = verify(&restored.pool).await.unwrap();
    assert!(report.is_clean() && report.head >= 20, "{report}");

    let before = file.clone();
    let second = stage.run_now(backup).await;
    stage.event(backup, SOON, |event| finished(event).filter(|(run_id, ..)| *run_id == second)).await;
    assert_eq!(files().len(), 1, "one is kept");
    assert!(!before.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_worker_is_killed_has_one_whole_file_and_what_it_left_goes() {
    let stage = WorkingStage::new().await;
    let _models = stage.read_models();
    let backup = stage.define("backup", by_hand(JobKind::Backup)).await;
    let keep = [("BACKUP_KEEP", "1")];
    let mut first = stage.run_with("first", &["work"], &keep);
    let change = stage.in_the_way().await;
    let run = stage.run_now(backup).await;
    let lease = stage.leased(run, SOON).await;
    waiting(&stage, 1).await;
    first.kill();
    let _second = stage.run_with("second", &["work"], &keep);
    stage.taken_over(run, &lease, SOON).await;
    // The one that nobody waits for is there still.
    waiting(&stage, 2).await;
    assert_eq!(dumps(&stage), 2);
    change.rollback().await.unwrap();
    let (_, attempt, result) = stage.event(backup, SOON, finished).await;
    no_dumps(&stage, SOON).await;
    let found = files(&stage);
    let [whole, part] = &found[..] else { panic!("{found:?}") };
    assert!(attempt == 1 && result.starts_with(&whole.display().to_string()), "{result}");
    assert!(part.display().to_string().starts_with(&format!("{}.", whole.display())), "{found:?}");
    assert_eq!(part.extension().unwrap(), "part");

    // A day later.
    let file = fs::File::options().write(true).open(part).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(25 * 3600)).unwrap();
    let second = stage.run_now(backup).await;
    stage.event(backup, SOON, |event| finished(event).filter(|(run_id, ..)| *run_id == second)).await;
    let left = files(&stage);
    assert!(left.len() == 1 && !found.contains(&left[0]), "{left:?}");
    let ended = |event: &JobEvent| finished(event).or(failed(event));
    assert_eq!(count(&stage.events(backup).await, ended), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beyond_its_time_limit_is_ended_and_leaves_nothing() {
    let stage = WorkingStage::new().await;
    let _models = stage.read_models();
    let _worker = stage.run("worker", &["work"]);
    let settings = JobSettings {
        soft_limit_seconds: 5,
        time_limit_seconds: 5,
        attempts_max: 1,
        ..by_hand(JobKind::Backup)
    };
    let backup = stage.define("backup", settings).await;
    let change = stage.in_the_way().await;
    stage.run_now(backup).await;
    waiting(&stage, 1).await;
    assert_eq!(dumps(&stage), 1);
    let (_, _, reason) = stage.event(backup, SOON, failed).await;
    assert_eq!(reason, "it took longer than its time limit of 5 s");
    // While what it waits for is in its way still.
    no_dumps(&stage, Duration::from_secs(5)).await;
    assert_eq!(files(&stage), [] as [PathBuf; 0]);
    change.rollback().await.unwrap();
}
