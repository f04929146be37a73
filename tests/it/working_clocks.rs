//! Scheduled work where a clock is wrong: that of a process, or that of the database when it is put back.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use insight::clock::{Clock, ManualClock};
use insight::commands::{Command, Commands, Settings};
use insight::domain::ids::{JobId, RunId};
use insight::domain::job::{
    FailRun, FinishRun, JobCommand, JobEvent, JobKind, JobSettings, Overlap, ScheduleRun,
};
use insight::queries::status;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::ledger::request;
use crate::working_stage::{SOON, WorkingStage, by_hand, eventually, every};

async fn now(stage: &WorkingStage) -> DateTime<Utc> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(&stage.database.pool).await.unwrap()
}

/// The write side of a process whose clock shows this time.
struct Elsewhere(Commands, CancellationToken);

impl Elsewhere {
    fn at(stage: &WorkingStage, time: DateTime<Utc>) -> Self {
        let (options, pool) = (stage.database.options(), stage.database.pool.clone());
        let (stop, clock) = (CancellationToken::new(), Clock::from(ManualClock::at(time)));
        let (commands, running) = Commands::start(options, pool, clock, Settings::default(), stop.clone());
        tokio::spawn(running);
        Self(commands, stop)
    }

    async fn send(&self, job_id: JobId, command: JobCommand) {
        self.0.execute(request(Command::Job { job_id, command })).await.unwrap();
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.1.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_ends_a_run_with_a_fast_clock_takes_no_due_time_that_has_not_come() {
    let stage = WorkingStage::new().await;
    let ahead = TimeDelta::minutes(10);
    let fast = Elsewhere::at(&stage, now(&stage).await + ahead);
    let settings = JobSettings { overlap: Overlap::Skip, attempts_max: 1, ..every(1, JobKind::Verify) };
    let started_at = DateTime::UNIX_EPOCH;
    for (name, end) in [("one-finished", 0), ("one-failed", 1), ("one-cancelled", 2), ("all-cancelled", 3)] {
        let job = stage.define(name, settings.clone()).await;
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        // The first due time becomes a run, the next one is skipped for it.
        let second = |time: DateTime<Utc>| DateTime::from_timestamp(time.timestamp(), 0).unwrap();
        let due_at = second(now(&stage).await - TimeDelta::seconds(1));
        for due_at in [due_at, due_at + TimeDelta::seconds(1)] {
            stage.command(job, JobCommand::ScheduleRun(ScheduleRun { due_at })).await;
        }
        let run_id = job.run_due(due_at);
        fast.send(
            job,
            match end {
                0 => {
                    JobCommand::FinishRun(FinishRun { run_id, attempt: 1, started_at, result: "well".into() })
                }
                1 => JobCommand::FailRun(FailRun { run_id, attempt: 1, started_at, reason: "no".into() }),
                2 => JobCommand::CancelRun { run_id },
                _ => JobCommand::CancelOpen,
            },
        )
        .await;
        let ended = now(&stage).await;
        let events = stage.events(job).await;
        let skipped = |event: &JobEvent| match event {
            JobEvent::RunSkipped(it) => Some(it.due_at),
            _ => None,
        };
        let taken: Vec<_> = events.iter().filter_map(skipped).collect();
        assert!(
            !taken.is_empty() && taken.iter().all(|due_at| *due_at <= ended),
            "{name}: {taken:?}, {ended}"
        );
    }
    // Nor is a job that is defined so due ten minutes later.
    let (job_id, name) = (JobId::named("one-defined"), "one-defined".to_owned());
    fast.send(job_id, JobCommand::Define { name, settings }).await;
    let events = stage.events(job_id).await;
    let [JobEvent::JobDefined(defined)] = &events[..] else { panic!("{events:?}") };
    assert!(defined.defined_at <= now(&stage).await, "{defined:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_workers_lease_ends_although_the_clock_of_the_database_was_put_back() {
    let stage = WorkingStage::new().await;
    let _models = stage.read_models();
    let job = stage.define("nightly", by_hand(JobKind::RecomputeRisk)).await;
    let run = stage.run_now(job).await;
    let mut first = stage.run("first", &["work"]);
    let lease = stage.leased(run, SOON).await;
    first.kill();
    // By an hour, which is to say that the lease ends an hour later.
    let put_back = "update job_leases set leased_until = leased_until + interval '1 hour'";
    assert_eq!(sqlx::query(put_back).execute(&stage.database.pool).await.unwrap().rows_affected(), 1);
    let _second = stage.run("second", &["work"]);
    let taken = stage.taken_over(run, &lease, SOON).await;
    assert_eq!((taken.attempt, taken.lost), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_tried_again_has_waited_since_then_and_not_since_it_was_due() {
    let stage = WorkingStage::new().await;
    let _models = stage.read_models();
    let week_ago = now(&stage).await - TimeDelta::days(7);
    let once = JobSettings { attempts_max: 1, ..every(3600, JobKind::Verify) };
    let job = stage.define_at("hourly", once, week_ago - TimeDelta::hours(1)).await;
    let due_at = DateTime::from_timestamp(week_ago.timestamp() / 3600 * 3600, 0).unwrap();
    stage.command(job, JobCommand::ScheduleRun(ScheduleRun { due_at })).await;
    let run_id = job.run_due(due_at);
    let fail = FailRun { run_id, attempt: 1, started_at: due_at, reason: "no".into() };
    stage.command(job, JobCommand::FailRun(fail)).await;
    let new_run_id = RunId(Uuid::now_v7());
    stage.command(job, JobCommand::RetryRun { run_id, new_run_id }).await;
    let work = eventually("an open run", SOON, async || {
        let work = status::load(&stage.database.pool, None).await.unwrap().work;
        if work.open_runs == 1 { Ok(work) } else { Err(work) }
    })
    .await;
    assert!((0.0..60.0).contains(&work.waiting_seconds), "{work:?}");
}
