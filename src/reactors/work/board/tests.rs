//! The board, driven by events, slots and a clock in hand.

use chrono::TimeDelta;
use uuid::Uuid;

use super::*;
use crate::domain::job::{
    JobDefined, JobKind, JobRemoved, JobSettings, Overlap, RunCancelled, RunFailed, RunFinished,
    RunScheduled, Schedule, Trigger,
};

const SHARD: Shard = Shard(35);

fn now() -> DateTime<Utc> {
    "2024-03-01T02:00:00Z".parse().unwrap()
}

fn job() -> JobId {
    JobId::named("nightly")
}

fn run(number: u128) -> RunId {
    RunId(Uuid::from_u128(number))
}

fn defined() -> JobEvent {
    let settings = JobSettings {
        kind: JobKind::RecomputeRisk,
        schedule: Schedule::Interval { seconds: 60 },
        soft_limit_seconds: 50,
        time_limit_seconds: 60,
        attempts_max: 3,
        retry_pause_seconds: 5,
        overlap: Overlap::Allow,
        symbols: Vec::new(),
        source: None,
    };
    JobEvent::JobDefined(JobDefined { job_id: job(), name: "nightly".into(), settings, defined_at: now() })
}

fn scheduled(number: u128, seconds_ago: i64) -> JobEvent {
    JobEvent::RunScheduled(RunScheduled {
        job_id: job(),
        run_id: run(number),
        due_at: now() - TimeDelta::seconds(seconds_ago),
        trigger: Trigger::Schedule,
        missed: 0,
        retry_of: None,
    })
}

fn failed(number: u128, attempt: u32, retry_in: Option<i64>) -> JobEvent {
    JobEvent::RunFailed(RunFailed {
        job_id: job(),
        run_id: run(number),
        attempt,
        started_at: now(),
        failed_at: now(),
        reason: "no".into(),
        retry_at: retry_in.map(|seconds| now() + TimeDelta::seconds(seconds)),
    })
}

fn board(slots: usize, runs: &[(u128, i64)]) -> Board {
    let mut board = Board::new(slots);
    board.assigned(&[SHARD], Vec::new(), Vec::new(), (now(), Instant::now()));
    board.take(logged(1, 0), &defined(), (now(), Instant::now()));
    for (position, (number, seconds_ago)) in (2..).zip(runs) {
        let logged = logged(position, *seconds_ago);
        assert_eq!(board.take(logged, &scheduled(*number, *seconds_ago), (now(), Instant::now())), None);
    }
    board
}

fn logged(position: i64, seconds_ago: i64) -> Logged {
    let recorded_at = now() - TimeDelta::seconds(seconds_ago);
    Logged { shard: SHARD, position: Position(position), recorded_at }
}

fn started(board: &mut Board, at: Instant) -> Option<RunId> {
    board.start(at).map(|start| start.run.run_id)
}

#[test]
fn the_oldest_run_begins_and_no_more_than_there_are_slots() {
    let (mut board, at) = (board(2, &[(1, 10), (2, 30), (3, 20)]), Instant::now());
    assert_eq!(started(&mut board, at), Some(run(2)));
    assert_eq!(started(&mut board, at), Some(run(3)));
    assert_eq!(started(&mut board, at), None, "both slots are taken");
    assert_eq!(board.wait(at), None, "only a free slot changes anything");
    board.take(
        logged(11, 0),
        &JobEvent::RunFinished(RunFinished {
            job_id: job(),
            run_id: run(2),
            attempt: 1,
            started_at: now(),
            finished_at: now(),
            result: "well".into(),
        }),
        (now(), at),
    );
    assert_eq!(board.here.len(), 2, "the attempt ends when it says so itself");
    board.free(run(2), at, at);
    assert_eq!(started(&mut board, at), Some(run(1)));
    board.free(run(1), at + Duration::from_secs(9), at);
    assert_eq!(started(&mut board, at), None, "it rests");
    assert_eq!(board.wait(at), Some(Duration::from_secs(9)));
    assert_eq!(started(&mut board, at + Duration::from_secs(9)), Some(run(1)));
    assert!((board.oldest_seconds(now()) - 20.0).abs() < 1e-9);
}

#[test]
fn a_failed_attempt_is_followed_by_the_next_when_it_may() {
    let (mut board, at) = (board(1, &[(1, 10)]), Instant::now());
    assert_eq!(started(&mut board, at), Some(run(1)));
    assert_eq!(board.take(logged(11, 0), &failed(1, 1, Some(5)), (now(), at)), Some(Told::Ended(run(1), 1)));
    board.free(run(1), at, at);
    assert_eq!(started(&mut board, at), None);
    assert_eq!(board.wait(at), Some(Duration::from_secs(5)));
    let start = board.start(at + Duration::from_secs(5)).unwrap();
    assert_eq!((start.run.attempt, start.job.name.as_str()), (2, "nightly"));
    assert_eq!(board.take(logged(12, 0), &failed(1, 2, None), (now(), at)), Some(Told::Ended(run(1), 2)));
    board.free(run(1), at, at);
    assert_eq!(board.start(at + Duration::from_secs(86_400)), None, "failed for good");
    assert_eq!(board.oldest_seconds(now()), 0.0);
}

#[test]
fn what_the_log_was_asked_for_counts_and_what_is_older_than_that_does_not() {
    let (mut board, at) = (board(1, &[(1, 10)]), Instant::now());
    // Asked for, since its shard has not been read so far.
    board.take(logged(12, 0), &failed(1, 2, Some(9)), (now(), at));
    assert_eq!(board.wait(at), Some(Duration::from_secs(9)));
    assert_eq!(board.take(logged(11, 0), &failed(1, 1, Some(5)), (now(), at)), Some(Told::Ended(run(1), 1)));
    board.take(logged(12, 0), &failed(1, 2, Some(9)), (now(), at));
    assert_eq!(board.wait(at), Some(Duration::from_secs(9)));
    let start = board.start(at + Duration::from_secs(9)).unwrap();
    assert_eq!((start.run.attempt, start.run.position), (3, Position(12)));
}

#[test]
fn a_run_that_is_tried_again_is_as_old_as_the_wish() {
    let mut board = board(1, &[]);
    let again = scheduled(1, 7 * 86_400);
    board.take(logged(11, 3), &again, (now(), Instant::now()));
    assert!((board.oldest_seconds(now()) - 3.0).abs() < 1e-9);
}

#[test]
fn a_run_that_is_cancelled_does_not_begin_again() {
    let (mut board, at) = (board(1, &[(1, 10), (2, 5)]), Instant::now());
    assert_eq!(started(&mut board, at), Some(run(1)));
    for number in [1, 2] {
        let cancelled = JobEvent::RunCancelled(RunCancelled { job_id: job(), run_id: run(number) });
        assert_eq!(board.take(logged(11, 0), &cancelled, (now(), at)), Some(Told::Cancelled(run(number))));
    }
    board.free(run(1), at, at);
    assert_eq!(started(&mut board, at), None);
}

#[test]
fn shards_that_go_take_their_runs_and_leave_the_slot_to_what_works() {
    let (mut board, at) = (board(1, &[(1, 10)]), Instant::now());
    assert_eq!(started(&mut board, at), Some(run(1)));
    board.revoked(&[SHARD]);
    assert_eq!((board.here.len(), board.shards()), (1, vec![]));
    board.free(run(1), at, at);
    assert_eq!(started(&mut board, at), None);
    let open = OpenRun {
        run_id: run(1),
        job_id: job(),
        shard: SHARD,
        due_at: now(),
        attempt: 2,
        retry_at: None,
        scheduled_at: now(),
        position: Position(2),
    };
    board.assigned(&[SHARD], Vec::new(), vec![open], (now(), at));
    assert_eq!(started(&mut board, at), None, "a job that nobody has told of cannot be carried out");
    assert_eq!(board.wait(at), None, "and is not asked for again and again");
    board.take(logged(11, 0), &defined(), (now(), Instant::now()));
    assert_eq!(board.start(at).map(|start| start.run.attempt), Some(2));
    board.take(logged(12, 0), &JobEvent::JobRemoved(JobRemoved { job_id: job() }), (now(), at));
    assert_eq!(board.shards(), [SHARD]);
}

#[test]
fn a_run_that_the_log_has_begins_whatever_the_clock_here_shows() {
    let (mut board, at) = (board(2, &[(1, -600)]), Instant::now());
    assert_eq!(board.wait(at), Some(Duration::ZERO));
    assert_eq!(started(&mut board, at), Some(run(1)), "who scheduled it has another clock");
    // Decided by a clock that was put back afterwards.
    board.take(logged(11, 0), &failed(1, 1, Some(86_400)), (now(), at));
    board.free(run(1), at + Duration::from_secs(1), at);
    assert_eq!(board.wait(at), Some(Duration::from_secs(5)), "no longer than the job's pause");
    assert_eq!(started(&mut board, at + Duration::from_secs(4)), None);
    let late = at + Duration::from_secs(5);
    assert_eq!(started(&mut board, late), Some(run(1)));
    board.take(logged(12, 0), &failed(1, 2, Some(86_400)), (now(), late));
    board.free(run(1), late, late);
    assert_eq!(board.wait(late), Some(Duration::from_secs(10)), "twice as long before the third attempt");
    // The same when it comes from rows.
    let (job, open) = (board.jobs.values().cloned().collect(), board.open.values().cloned().collect());
    let mut other = Board::new(1);
    other.assigned(&[SHARD], job, open, (now(), at));
    assert_eq!(other.wait(at), Some(Duration::from_secs(10)));
}

#[test]
fn a_free_slot_helps_with_what_is_not_ours_once_and_what_is_ours_begins_by_itself() {
    let (mut board, at) = (board(2, &[(1, 10)]), Instant::now());
    let waiting = |number| OpenRun {
        run_id: run(number),
        job_id: JobId::named("of another shard"),
        shard: Shard(33),
        due_at: now(),
        attempt: 1,
        retry_at: None,
        scheduled_at: now(),
        position: Position(2),
    };
    assert!(!board.help(&waiting(1), at));
    assert!(board.help(&waiting(7), at));
    assert!(!board.help(&waiting(7), at), "it is here already");
    assert_eq!(started(&mut board, at), Some(run(1)));
    assert!(!board.help(&waiting(8), at), "both slots are taken");
    let late = at + Duration::from_secs(3);
    board.free(run(7), late, at);
    assert!(!board.help(&waiting(7), at), "it rests");
    assert!(board.help(&waiting(8), at));
    board.free(run(8), at, at);
    assert!(board.help(&waiting(7), late));
    board.free(run(7), late, late);
    board.free(run(1), late, late);
    assert!(!board.rest.contains_key(&run(8)), "what is over is forgotten: {:?}", board.rest);
}
