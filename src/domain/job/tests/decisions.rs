//! Given what happened to a job, when something is wished of it, then.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{crontab, instant, settings};
use crate::domain::fields::Fields;
use crate::domain::ids::{JobId, RunId};
use crate::domain::job::decide::{OPEN_RUNS_MAX, SENTENCE_CHARS_MAX};
use crate::domain::job::state::FAILED_MAX;
use crate::domain::job::{
    FailRun, FinishRun, Job, JobCommand, JobEvent, JobKind, JobSettings, Overlap, RunScheduled, RunSkipped,
    Schedule, ScheduleRun, ScheduleWish, SettingsWish, Trigger, decide,
};
use crate::domain::rejection::{FieldError, Rejection};

/// A job and a clock.
struct Story {
    job: Job,
    now: DateTime<Utc>,
}

fn job_id() -> JobId {
    JobId::named("nightly")
}

fn run_id(number: u128) -> RunId {
    RunId(Uuid::from_u128(number))
}

impl Story {
    fn new() -> Self {
        Self { job: Job::initial(), now: instant("2026-03-01T12:00:00Z") }
    }

    /// Of a job that was defined at noon of 1 March.
    fn defined(settings: JobSettings) -> Self {
        let mut story = Self::new();
        story.does(JobCommand::Define { name: "nightly".to_owned(), settings });
        story
    }

    fn when(&self, command: &JobCommand) -> Result<Vec<JobEvent>, Rejection> {
        decide(&self.job, job_id(), command, self.now)
    }

    /// Folds what a command makes, and tells what that was.
    fn does(&mut self, command: JobCommand) -> Vec<JobEvent> {
        let events = self.when(&command).unwrap();
        events.iter().for_each(|event| self.job.evolve(event));
        events
    }

    fn refused(&self, command: &JobCommand) -> Rejection {
        self.when(command).unwrap_err()
    }

    /// The scheduler, at the due time.
    fn comes_due(&mut self) -> Vec<JobEvent> {
        let due_at = self.job.next_due().unwrap();
        self.now = self.now.max(due_at);
        self.does(JobCommand::ScheduleRun(ScheduleRun { due_at }))
    }

    fn open(&self) -> RunId {
        *self.job.open_runs().keys().next().unwrap()
    }

    fn finish(&self, attempt: u32) -> JobCommand {
        let result = "12 prices".to_owned();
        JobCommand::FinishRun(FinishRun { run_id: self.open(), attempt, started_at: self.now, result })
    }

    fn fail(&self, attempt: u32) -> JobCommand {
        let reason = "no answer".to_owned();
        JobCommand::FailRun(FailRun { run_id: self.open(), attempt, started_at: self.now, reason })
    }

    /// All attempts fail, each when it may begin.
    fn fails_for_good(&mut self) -> RunId {
        let run_id = self.open();
        while let Some(run) = self.job.open_runs().get(&run_id).copied() {
            self.now = self.now.max(run.retry_at.unwrap_or(self.now));
            self.does(self.fail(run.attempt));
        }
        run_id
    }
}

fn fields(rejection: Rejection) -> Vec<String> {
    let Rejection::InvalidFields(errors) = rejection else { panic!("{rejection:?} is not about fields") };
    errors.into_iter().map(|FieldError { field, .. }| field).collect()
}

fn is_not_open(rejection: &Rejection, part: &str) -> bool {
    matches!(rejection, Rejection::RunNotOpen { reason } if reason.contains(part))
}

#[test]
fn a_name_is_defined_once() {
    let mut story = Story::defined(settings());
    let again = JobCommand::Define { name: "nightly".to_owned(), settings: settings() };
    assert_eq!(story.when(&again), Ok(vec![]));
    let other = JobSettings { attempts_max: 1, ..settings() };
    let taken = Rejection::NameTaken { name: "nightly".to_owned() };
    let other = JobCommand::Define { name: "nightly".to_owned(), settings: other };
    assert_eq!(story.refused(&other), taken);
    story.does(JobCommand::Remove);
    assert_eq!(story.does(other).len(), 1);
}

#[test]
fn every_impossible_field_is_told() {
    let bad = JobSettings {
        kind: JobKind::Backup,
        schedule: crontab("0 0 31 2 *", "Mars/Olympus"),
        soft_limit_seconds: 61,
        time_limit_seconds: 60,
        attempts_max: 0,
        retry_pause_seconds: 0,
        overlap: Overlap::Skip,
        symbols: vec!["AAPL".to_owned(), "a b".to_owned(), "AAPL".to_owned()],
        source: Some("No".to_owned()),
    };
    let rejection =
        Story::new().refused(&JobCommand::Define { name: "Nightly!".to_owned(), settings: bad.clone() });
    let all = [
        "name",
        "schedule.crontab",
        "schedule.time_zone",
        "attempts_max",
        "retry_pause_seconds",
        "soft_limit_seconds",
        "symbols",
        "source",
        "source",
        "symbols[1]",
        "symbols[2]",
    ];
    assert_eq!(fields(rejection), all);
    let rejection = Story::defined(settings()).refused(&JobCommand::Change { settings: bad });
    assert_eq!(fields(rejection), all[1..]);
}

#[test]
fn a_name_is_no_id_and_no_word_of_an_address() {
    let long = "x".repeat(65);
    for name in ["", "-x", "a b", "A", "ü", "failed", "0192f0c1-2345-7abc-8def-001122334455", &long] {
        let define = JobCommand::Define { name: name.to_owned(), settings: settings() };
        assert!(!fields(Story::new().refused(&define)).is_empty(), "{name}");
    }
    for name in ["a", "7", "nightly-risk_2.eu", "failed-ones"] {
        let define = JobCommand::Define { name: name.to_owned(), settings: settings() };
        assert!(Story::new().when(&define).is_ok(), "{name}");
    }
}

#[test]
fn what_is_left_out_of_settings_is_filled_in() {
    let wish = |schedule| SettingsWish {
        kind: JobKind::Verify,
        schedule,
        soft_limit_seconds: None,
        time_limit_seconds: Some(100),
        attempts_max: None,
        retry_pause_seconds: None,
        overlap: None,
        symbols: vec![],
        source: None,
    };
    let crontab_only = ScheduleWish { crontab: Some(" 0  6 * * * ".to_owned()), ..ScheduleWish::default() };
    let settled = wish(crontab_only.clone()).settle(&mut Fields::new()).unwrap();
    assert_eq!(settled.schedule, crontab("0 6 * * *", "UTC"));
    assert_eq!((settled.soft_limit_seconds, settled.attempts_max, settled.retry_pause_seconds), (90, 3, 60));

    let both = ScheduleWish { interval_seconds: Some(5), ..crontab_only };
    let zoned = ScheduleWish { crontab: None, time_zone: Some("UTC".to_owned()), ..both.clone() };
    for (schedule, field) in
        [(both, "schedule"), (zoned, "schedule.time_zone"), (ScheduleWish::default(), "schedule")]
    {
        let mut noted = Fields::new();
        assert_eq!(wish(schedule).settle(&mut noted), None);
        assert_eq!(fields(noted.rejection()), [field]);
    }
}

#[test]
fn a_due_time_is_taken_once_whoever_asks() {
    let mut story = Story::defined(settings());
    let due_at = story.job.next_due().unwrap();
    assert_eq!(due_at, instant("2026-03-02T01:30:00Z"));
    let events = story.comes_due();
    let JobEvent::RunScheduled(run) = &events[0] else { panic!("{events:?}") };
    assert_eq!((run.run_id, run.due_at, run.trigger), (job_id().run_due(due_at), due_at, Trigger::Schedule));
    assert_eq!(story.does(JobCommand::ScheduleRun(ScheduleRun { due_at })), vec![]);
    story.does(story.finish(1));
    assert_eq!(story.does(JobCommand::ScheduleRun(ScheduleRun { due_at })), vec![]);
}

#[test]
fn what_is_not_due_makes_no_run() {
    let mut story = Story::defined(settings());
    for due_at in [
        "2026-03-01T01:30:00Z",        // before it was defined
        "2026-03-02T01:31:00Z",        // not in the schedule
        "2026-03-02T01:30:00.000001Z", // nor that
        "2026-03-04T01:30:00Z",        // in the schedule, but to come
    ] {
        story.now = instant("2026-03-03T12:00:00Z");
        let run = JobCommand::ScheduleRun(ScheduleRun { due_at: instant(due_at) });
        assert_eq!(story.does(run), vec![], "{due_at}");
    }
    // A scheduler that has not heard of the change yet.
    let due_at = instant("2026-03-03T01:30:00Z");
    let hourly = JobSettings { schedule: Schedule::Interval { seconds: 3_600 }, ..settings() };
    story.does(JobCommand::Change { settings: hourly });
    assert_eq!(story.does(JobCommand::ScheduleRun(ScheduleRun { due_at })), vec![]);
    assert_eq!(story.job.next_due(), Some(instant("2026-03-03T13:00:00Z")));
}

#[test]
fn while_a_run_is_open_a_due_time_is_skipped_or_stands_beside_it() {
    let mut story = Story::defined(settings());
    story.comes_due();
    let open = story.open();
    let events = story.comes_due();
    assert!(matches!(&events[..], [JobEvent::RunSkipped(skipped)] if skipped.open_run_id == open));
    assert_eq!(story.refused(&JobCommand::RunNow { run_id: run_id(1) }), Rejection::RunOpen { run_id: open });

    let mut story = Story::defined(JobSettings { overlap: Overlap::Allow, ..settings() });
    for _ in 0..OPEN_RUNS_MAX {
        assert!(matches!(story.comes_due()[..], [JobEvent::RunScheduled(_)]));
    }
    assert!(matches!(story.comes_due()[..], [JobEvent::RunSkipped(_)]), "even so there is a bound");
    assert!(matches!(story.refused(&JobCommand::RunNow { run_id: run_id(1) }), Rejection::RunOpen { .. }));
}

#[test]
fn a_run_that_stays_open_has_two_skips_in_the_log_however_many_due_times_pass() {
    let every_minute = JobSettings { schedule: Schedule::Interval { seconds: 60 }, ..settings() };
    for ends in ["finished", "failed", "cancelled", "all cancelled"] {
        let mut story = Story::defined(JobSettings { attempts_max: 2, ..every_minute.clone() });
        story.comes_due();
        let open = story.open();
        let opened = story.now;
        let mut skipped = Vec::new();
        for minute in 1..=60 {
            story.now = opened + TimeDelta::minutes(minute);
            skipped.extend(story.does(JobCommand::ScheduleRun(ScheduleRun { due_at: story.now })));
        }
        let skip = |minute, missed| {
            let due_at = opened + TimeDelta::minutes(minute);
            JobEvent::RunSkipped(RunSkipped { job_id: job_id(), due_at, open_run_id: open, missed })
        };
        assert_eq!(skipped, [skip(1, 0)], "the first is told at once");
        story.now += TimeDelta::seconds(59);
        let command = match ends {
            "finished" => story.finish(1),
            "cancelled" => JobCommand::CancelRun { run_id: open },
            "all cancelled" => JobCommand::CancelOpen,
            _ => {
                assert_eq!(story.does(story.fail(1)).len(), 1, "it is open still");
                story.fail(2)
            }
        };
        let events = story.does(command);
        assert_eq!((events.len(), &events[0]), (2, &skip(60, 58)), "{ends}");
        // Whoever schedules next need not remember what was passed over.
        let missed = JobCommand::ScheduleRun(ScheduleRun { due_at: opened + TimeDelta::minutes(60) });
        assert_eq!(story.does(missed), [], "{ends}");
        let events = story.comes_due();
        assert!(matches!(events[..], [JobEvent::RunScheduled(RunScheduled { missed: 0, .. })]), "{events:?}");
    }
}

#[test]
fn a_run_says_how_many_due_times_nobody_took_before_it() {
    let mut story =
        Story::defined(JobSettings { schedule: Schedule::Interval { seconds: 60 }, ..settings() });
    story.now += TimeDelta::minutes(5);
    let events = story.does(JobCommand::ScheduleRun(ScheduleRun { due_at: story.now }));
    assert!(matches!(events[..], [JobEvent::RunScheduled(RunScheduled { missed: 4, .. })]), "{events:?}");
}

#[test]
fn attempts_are_paused_twice_as_long_each_time_until_it_has_failed_for_good() {
    let mut story = Story::defined(JobSettings { attempts_max: 4, ..settings() });
    story.comes_due();
    let run_id = story.open();
    for (attempt, pause) in [(1, Some(60)), (2, Some(120)), (3, Some(240)), (4, None)] {
        let events = story.does(story.fail(attempt));
        let [JobEvent::RunFailed(failed)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(failed.retry_at, pause.map(|seconds| story.now + TimeDelta::seconds(seconds)));
    }
    assert!(story.job.open_runs().is_empty());
    assert_eq!(story.job.failed_run(run_id).unwrap().run_id, run_id);
}

#[test]
fn a_pause_is_a_day_at_most() {
    let patient = JobSettings { attempts_max: 20, retry_pause_seconds: 86_400, ..settings() };
    let mut story = Story::defined(patient);
    story.comes_due();
    for attempt in 1..20 {
        let events = story.does(story.fail(attempt));
        let JobEvent::RunFailed(failed) = &events[0] else { panic!("{events:?}") };
        assert_eq!(failed.retry_at, Some(story.now + TimeDelta::days(1)));
    }
}

#[test]
fn only_the_attempt_that_is_on_can_end_a_run() {
    let mut story = Story::defined(settings());
    story.comes_due();
    let late = story.finish(1);
    assert!(is_not_open(&story.refused(&story.finish(2)), "attempt 1 is"));
    story.does(story.fail(1));
    assert!(is_not_open(&story.refused(&late), "attempt 2 is"));
    let finish = story.finish(2);
    story.does(finish.clone());
    assert!(is_not_open(&story.refused(&finish), "finished"));
    let strange = FinishRun { run_id: run_id(9), attempt: 1, started_at: story.now, result: String::new() };
    assert_eq!(story.refused(&JobCommand::FinishRun(strange)), Rejection::NotFound { kind: "run" });
}

#[test]
fn a_run_that_ended_cannot_be_cancelled() {
    let mut story = Story::defined(settings());
    assert!(is_not_open(&story.refused(&JobCommand::CancelOpen), "no run"));
    story.comes_due();
    let cancel = JobCommand::CancelRun { run_id: story.open() };
    story.does(cancel.clone());
    assert!(is_not_open(&story.refused(&cancel), "was cancelled"));
    story.comes_due();
    let cancel = JobCommand::CancelRun { run_id: story.open() };
    story.does(story.finish(1));
    assert!(is_not_open(&story.refused(&cancel), "finished"));
    assert_eq!(
        story.refused(&JobCommand::CancelRun { run_id: run_id(9) }),
        Rejection::NotFound { kind: "run" }
    );
}

#[test]
fn what_failed_for_good_is_tried_again_once() {
    let mut story = Story::defined(settings());
    story.comes_due();
    let failed = story.fails_for_good();
    let due_at = story.job.failed_run(failed).unwrap().due_at;
    let retry = |number| JobCommand::RetryRun { run_id: failed, new_run_id: run_id(number) };
    let events = story.does(retry(1));
    let [JobEvent::RunScheduled(run)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((run.run_id, run.trigger, run.due_at), (run_id(1), Trigger::Retry, due_at));
    assert_eq!(run.retry_of, Some(failed));
    let again =
        Rejection::RunNotFailed { reason: "this run was tried again already, or its job was removed since" };
    assert_eq!(story.refused(&retry(2)), again);
    // The new run may fail for good as well, and is then the one to try again.
    assert_eq!(story.fails_for_good(), run_id(1));
    story.does(JobCommand::RetryRun { run_id: run_id(1), new_run_id: run_id(3) });
    assert_eq!(story.open(), run_id(3));
    let open = JobCommand::RetryRun { run_id: run_id(3), new_run_id: run_id(4) };
    assert_eq!(story.refused(&open), Rejection::RunNotFailed { reason: "this run is still open" });
}

#[test]
fn a_removed_job_is_gone_with_its_open_runs() {
    let mut story = Story::defined(settings());
    story.comes_due();
    let events = story.does(JobCommand::Remove);
    assert!(matches!(events[..], [JobEvent::RunCancelled(_), JobEvent::JobRemoved(_)]));
    assert_eq!(story.job.next_due(), None);
    for command in [
        JobCommand::Remove,
        JobCommand::Change { settings: settings() },
        JobCommand::RunNow { run_id: run_id(1) },
        JobCommand::CancelOpen,
        JobCommand::ScheduleRun(ScheduleRun { due_at: story.now }),
    ] {
        assert_eq!(story.refused(&command), Rejection::NotFound { kind: "job" });
    }
}

#[test]
fn a_clock_that_ran_ahead_is_got_over_by_a_change() {
    let mut story = Story::defined(settings());
    let noon = story.now;
    story.now = instant("2036-03-01T12:00:00Z");
    let due = story.job.due(story.now).unwrap();
    assert_eq!(due.missed, 1_000);
    story.does(JobCommand::ScheduleRun(ScheduleRun { due_at: due.due_at }));
    story.does(story.finish(1));
    story.now = noon + TimeDelta::hours(1);
    assert_eq!(story.job.due(story.now + TimeDelta::days(2)), None);
    story.does(JobCommand::Change { settings: JobSettings { attempts_max: 2, ..settings() } });
    assert_eq!(story.job.next_due(), Some(instant("2026-03-02T01:30:00Z")));
}

#[test]
fn memory_is_bounded_and_says_so() {
    let mut story = Story::defined(JobSettings { attempts_max: 1, ..settings() });
    story.comes_due();
    let first = story.fails_for_good();
    for _ in 0..FAILED_MAX {
        story.comes_due();
        story.fails_for_good();
    }
    assert_eq!(story.job.failed_runs().count(), FAILED_MAX);
    let retry = JobCommand::RetryRun { run_id: first, new_run_id: run_id(1) };
    let forgotten = Rejection::RunNotFailed { reason: "this run ended too long ago to be tried again" };
    assert_eq!(story.refused(&retry), forgotten);
    assert!(is_not_open(&story.refused(&JobCommand::CancelRun { run_id: first }), "long ago"));
}

#[test]
fn what_is_tried_again_makes_no_room_for_an_older_one() {
    let settings = JobSettings { attempts_max: 1, overlap: Overlap::Allow, ..settings() };
    let mut story = Story::defined(settings);
    let mut failed = Vec::new();
    for _ in 0..=FAILED_MAX {
        story.comes_due();
        failed.push(story.fails_for_good());
    }
    let retry = |run_id, number| JobCommand::RetryRun { run_id, new_run_id: self::run_id(number) };
    for (number, run) in (1..).zip(&failed[1..]) {
        story.does(retry(*run, number));
        story.does(JobCommand::CancelRun { run_id: run_id(number) });
    }
    assert_eq!(story.job.failed_runs().count(), 0);
    assert!(matches!(story.refused(&retry(failed[0], 1_000)), Rejection::RunNotFailed { .. }));
    // Nor does it count which of two fails first: the list is in the order in which they were scheduled.
    story.comes_due();
    let early = story.open();
    story.comes_due();
    let late = *story.job.open_runs().keys().find(|run| **run != early).unwrap();
    for run in [late, early] {
        let reason = "no".to_owned();
        let fail = FailRun { run_id: run, attempt: 1, started_at: story.now, reason };
        story.does(JobCommand::FailRun(fail));
    }
    assert!(story.job.failed_runs().map(|run| run.run_id).eq([early, late]));
}

#[test]
fn what_a_worker_says_is_cut_to_one_line() {
    let mut story = Story::defined(settings());
    story.comes_due();
    let result = format!(" one\ntwo\u{0} {}", "ü".repeat(SENTENCE_CHARS_MAX));
    let started_at = story.now + TimeDelta::hours(1);
    let finish = FinishRun { run_id: story.open(), attempt: 1, started_at, result };
    let events = story.does(JobCommand::FinishRun(finish));
    let [JobEvent::RunFinished(finished)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(finished.result.chars().count(), SENTENCE_CHARS_MAX);
    assert!(finished.result.starts_with("one two  ü") && finished.result.ends_with('…'));
    assert!(finished.started_at <= finished.finished_at);
}
