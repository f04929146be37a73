//! Schedulers on a real server: a due time is taken once, however many there are, and whatever happens to them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use insight::domain::ids::JobId;
use insight::domain::job::{JobEvent, JobKind, Overlap, Trigger};

use crate::processes::Process;
use crate::working_stage::{SOON, WorkingStage, count, eventually, every};

fn due(event: &JobEvent) -> Option<DateTime<Utc>> {
    match event {
        JobEvent::RunScheduled(it) if it.trigger == Trigger::Schedule => Some(it.due_at),
        JobEvent::RunSkipped(it) => Some(it.due_at),
        _ => None,
    }
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
    println!("killed: another one acts after {:?}", began.elapsed());
    acts.start_again();
    eventually("second scheduler", SOON, async || {
        let sessions = "select count(*) from pg_stat_activity where datname = current_database() \
            and query like '%pg_try_advisory_lock%' and application_name like 'insight/%'";
        if stage.count(sessions).await > 0 { Ok(()) } else { Err(()) }
    })
    .await;

    waits.freeze();
    let (seen, began) = (was_due(&stage, job, 0, SOON).await.len(), Instant::now());
    let due_times = was_due(&stage, job, seen + 2, SOON).await;
    println!("frozen: another one acts after {:?}", began.elapsed());
    waits.thaw();
    let due_times = was_due(&stage, job, due_times.len() + 3, SOON).await;
    let different: BTreeSet<_> = due_times.iter().collect();
    assert_eq!(different.len(), due_times.len(), "a due time was taken twice");
    assert!(due_times.is_sorted());
    let missed = |event: &JobEvent| match event {
        JobEvent::RunScheduled(it) => Some(it.missed as usize),
        JobEvent::RunSkipped(_) => Some(0),
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
    was_due(&stage, job, 3, SOON).await;
    let skipped = |event: &JobEvent| matches!(event, JobEvent::RunSkipped(_)).then_some(());
    let events = stage.events(job).await;
    assert_eq!(count(&events, skipped) + 1, count(&events, due), "nobody carries the first one out");
    settings.schedule = insight::domain::job::Schedule::Interval { seconds: 86_400 };
    stage.command(job, insight::domain::job::JobCommand::Change { settings }).await;
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
