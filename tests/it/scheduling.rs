//! Schedulers on a real server: a due time is taken once, however many there are, and whatever happens to them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use insight::domain::ids::{JobId, RunId};
use insight::domain::job::{FinishRun, JobCommand, JobEvent, JobKind, Overlap, Trigger};

use crate::processes::Process;
use crate::working_stage::{SOON, WorkingStage, count, eventually, every};

/// Within a second, and a job that is due every second; the rest is for a machine that has other things to do.
const ACTS_AFTER_KILL: Duration = Duration::from_secs(4);
/// The same within five seconds.
const ACTS_AFTER_FREEZE: Duration = Duration::from_secs(8);

fn due(event: &JobEvent) -> Option<DateTime<Utc>> {
    match event {
        JobEvent::RunScheduled(it) if it.trigger == Trigger::Schedule => Some(it.due_at),
        JobEvent::RunSkipped(it) => Some(it.due_at),
        _ => None,
    }
}

fn scheduled(event: &JobEvent) -> Option<RunId> {
    if let JobEvent::RunScheduled(it) = event { Some(it.run_id) } else { None }
}

/// Waits until the job was due so often.
async fn was_due(stage: &WorkingStage, job: JobId, times: usize, within: Duration) -> Vec<DateTime<Utc>> {
    let told = async || {
        let due: Vec<_> = stage.events(job).await.iter().filter_map(due).collect();
        if due.len() >= times { Ok(due) } else { Err(due) }
    };
    eventually("due times", within, told).await
}

/// The one of two that acts, and the other.
fn acting<'a>(one: &'a mut Process, other: &'a mut Process) -> (&'a mut Process, &'a mut Process) {
    if one.said().contains("the scheduler acts") { (one, other) } else { (other, one) }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_due_time_is_taken_once_by_two_schedulers_of_which_one_is_killed_and_one_frozen() {
    let stage = WorkingStage::new().await;
    let _models = stage.read_models();
    let job = stage.define("often", every(1, JobKind::Verify)).await;
    let (mut one, mut other) = (stage.run("one", &["schedule"]), stage.run("other", &["schedule"]));
    was_due(&stage, job, 3, SOON).await;

    let (acts, waits) = acting(&mut one, &mut other);
    acts.kill();
    let (seen, began) = (was_due(&stage, job, 0, SOON).await.len(), Instant::now());
    was_due(&stage, job, seen + 1, SOON).await;
    let took = began.elapsed();
    println!("killed: another one acts after {took:?}");
    assert!(took < ACTS_AFTER_KILL, "{took:?}");
    acts.start_again();
    eventually("second scheduler", SOON, async || {
        let sessions = "select count(*) from pg_stat_activity where datname = current_database() \
            and query like '%pg_try_advisory_lock%' and application_name like 'insight/%'";
        if stage.count(sessions).await > 0 { Ok(()) } else { Err(()) }
    })
    .await;

    waits.freeze();
    // What it was at may still come; what is due after it is another one's.
    let (frozen_at, began) = (stage_now(&stage).await, Instant::now());
    let due_times = eventually("a due time after the freeze", SOON, async || {
        let due: Vec<_> = stage.events(job).await.iter().filter_map(due).collect();
        if due.last().is_some_and(|last| *last > frozen_at) { Ok(due) } else { Err(due) }
    })
    .await;
    let took = began.elapsed();
    println!("frozen: another one acts after {took:?}");
    assert!(took < ACTS_AFTER_FREEZE, "{took:?}");
    waits.thaw();
    let due_times = was_due(&stage, job, due_times.len() + 3, SOON).await;
    let different: BTreeSet<_> = due_times.iter().collect();
    assert_eq!(different.len(), due_times.len(), "a due time was taken twice");
    assert!(due_times.is_sorted());
    let missed = |event: &JobEvent| match event {
        JobEvent::RunScheduled(it) => Some(it.missed as usize),
        JobEvent::RunSkipped(it) => Some(it.missed as usize),
        _ => None,
    };
    let missed: usize = stage.events(job).await.iter().filter_map(missed).sum();
    let span = *due_times.last().unwrap() - due_times[0];
    assert!(due_times.len() + missed <= usize::try_from(span.num_seconds()).unwrap() + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_caught_up_once_and_told() {
    let stage = WorkingStage::new().await;
    let now = stage_now(&stage).await;
    let settings = every(3600, JobKind::Verify);
    let job = stage.define_at("hourly", settings, now - TimeDelta::hours(10)).await;
    let _all = (stage.read_models(), stage.run("schedule", &["schedule"]));
    was_due(&stage, job, 1, SOON).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let events = stage.events(job).await;
    assert_eq!(count(&events, due), 1, "{events:?}");
    let Some(JobEvent::RunScheduled(run)) = events.iter().find(|event| due(event).is_some()) else {
        panic!("{events:?}")
    };
    assert_eq!(run.missed, 9);
    assert!(run.due_at <= now && now - run.due_at < TimeDelta::hours(1) + TimeDelta::minutes(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_due_time_is_skipped_while_a_run_is_open_and_a_changed_job_is_due_by_its_new_schedule() {
    let stage = WorkingStage::new().await;
    let _models = stage.read_models();
    let mut settings = every(1, JobKind::Verify);
    settings.overlap = Overlap::Skip;
    let job = stage.define("often", settings.clone()).await;
    let _scheduler = stage.run("schedule", &["schedule"]);
    was_due(&stage, job, 2, SOON).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let events = stage.events(job).await;
    let run_id = events.iter().find_map(scheduled).unwrap();
    let skipped = |event: &JobEvent| match event {
        JobEvent::RunSkipped(it) => Some((it.open_run_id, it.missed)),
        _ => None,
    };
    let skips: Vec<_> = events.iter().filter_map(skipped).collect();
    assert_eq!(
        (count(&events, scheduled), &skips[..]),
        (1, &[(run_id, 0)][..]),
        "one event, however long it lasts"
    );
    let finish = FinishRun { run_id, attempt: 1, started_at: DateTime::UNIX_EPOCH, result: "done".into() };
    stage.command(job, JobCommand::FinishRun(finish)).await;
    was_due(&stage, job, 4, SOON).await;
    let events = stage.events(job).await;
    let (open, missed) = events.iter().filter_map(skipped).nth(1).unwrap();
    assert!(open == run_id && missed >= 1, "what passed meanwhile is told at the end: {events:?}");
    assert!(count(&events, scheduled) >= 2, "{events:?}");
    settings.schedule = insight::domain::job::Schedule::Interval { seconds: 86_400 };
    stage.command(job, JobCommand::Change { settings }).await;
    // One that was on its way may still come.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = count(&stage.events(job).await, due);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(count(&stage.events(job).await, due), before);
}

async fn stage_now(stage: &WorkingStage) -> DateTime<Utc> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(&stage.database.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_declares_the_jobs_of_its_file_and_refuses_one_that_is_wrong() {
    let stage = WorkingStage::new().await;
    let _models = stage.read_models();
    let file = stage.place.path().join("jobs.toml");
    let write = |seconds: u32| {
        let job = format!(
            "[[jobs]]\nname = 'check'\nkind = 'verify'\nschedule = {{ interval_seconds = {seconds} }}\n"
        );
        std::fs::write(&file, job).unwrap();
    };
    let jobs_file = [("JOBS_FILE", file.to_str().unwrap())];
    write(86_400);
    let job = JobId::named("check");
    let mut scheduler = stage.run_with("schedule", &["schedule"], &jobs_file);
    let is_defined = |event: &JobEvent| matches!(event, JobEvent::JobDefined(_)).then_some(());
    let is_changed = |event: &JobEvent| matches!(event, JobEvent::JobChanged(_)).then_some(());
    stage.event(job, SOON, is_defined).await;
    write(1);
    scheduler.stop();
    scheduler.start_again();
    stage.event(job, SOON, is_changed).await;
    was_due(&stage, job, 1, SOON).await;
    let events = stage.events(job).await;
    assert_eq!((count(&events, is_defined), count(&events, is_changed)), (1, 1), "{events:?}");
    scheduler.stop();
    write(0);
    scheduler.start_again();
    let last = scheduler.halted(SOON);
    assert!(last.contains("check") && last.contains("schedule.interval_seconds"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_by_command_stays_when_another_scheduler_takes_over() {
    let stage = WorkingStage::new().await;
    let _models = stage.read_models();
    let file = stage.place.path().join("jobs.toml");
    let jobs = ["kept", "gone"].map(|name| {
        format!("[[jobs]]\nname = '{name}'\nkind = 'verify'\nschedule = {{ interval_seconds = 86400 }}\n")
    });
    std::fs::write(&file, jobs.concat()).unwrap();
    let jobs_file = [("JOBS_FILE", file.to_str().unwrap())];
    let mut one = stage.run_with("one", &["schedule"], &jobs_file);
    let mut other = stage.run_with("other", &["schedule"], &jobs_file);
    let (kept, gone) = (JobId::named("kept"), JobId::named("gone"));
    let is_defined = |event: &JobEvent| matches!(event, JobEvent::JobDefined(_)).then_some(());
    for job in [kept, gone] {
        stage.event(job, SOON, is_defined).await;
    }
    eventually("an acting scheduler", SOON, async || {
        let acts = |process: &Process| process.said().contains("the scheduler acts");
        if acts(&one) || acts(&other) { Ok(()) } else { Err(()) }
    })
    .await;
    // Whoever starts later may still be at it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.command(kept, JobCommand::Change { settings: every(1, JobKind::Verify) }).await;
    stage.command(gone, JobCommand::Remove).await;
    let (acts, waits) = acting(&mut one, &mut other);
    acts.kill();
    eventually("another scheduler", SOON, async || {
        if waits.said().contains("the scheduler acts") { Ok(()) } else { Err(()) }
    })
    .await;
    was_due(&stage, kept, 5, SOON).await;
    let events = [stage.events(kept).await, stage.events(gone).await].concat();
    let changed = |event: &JobEvent| matches!(event, JobEvent::JobChanged(_)).then_some(());
    assert_eq!((count(&events, is_defined), count(&events, changed)), (2, 1), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_takes_nothing_costs_the_scheduler_neither_its_lock_nor_a_core() {
    let stage = WorkingStage::new().await;
    let _models = stage.read_models();
    let mut jobs = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        jobs.push(stage.define(name, every(1, JobKind::Verify)).await);
    }
    let scheduler = stage.run("schedule", &["schedule"]);
    for job in &jobs {
        was_due(&stage, *job, 1, SOON).await;
    }
    let said_before = scheduler.said().len();
    let mut lock = stage.database.pool.begin().await.unwrap();
    sqlx::query("lock table events in share mode").execute(&mut *lock).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let said = scheduler.said()[said_before..].to_owned();
    let refusals = said.matches("not scheduled yet").count();
    lock.rollback().await.unwrap();
    assert!((1..=8 * 10).contains(&refusals), "{refusals} times: {said}");
    for job in &jobs {
        let due = was_due(&stage, *job, 0, SOON).await.len();
        was_due(&stage, *job, due + 2, SOON).await;
    }
    let said = scheduler.said();
    assert_eq!(said.matches("the scheduler acts").count(), 1, "{said}");
    assert!(!said.contains("lost its lock"), "{said}");
}
