//! Which runs are open in the shards that are ours, which of them are being carried out here, and which one is next. Pure.
//!
//! A run is on the board from the event that makes it until the event that ends it; what happens to it here in between
//! takes a slot and nothing else. So a board that was lost is made again from the read model and the events after it.
//!
//! A run that the log has is due, whatever the clock here shows: only the pause before a retry is waited for, and that is counted
//! here, so that no clock that goes wrong or is put back makes it longer than it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::domain::ids::{JobId, RunId, Shard};
use crate::domain::job::settings::RETRY_PAUSE_SECONDS_MAX;
use crate::domain::job::{JobEvent, JobSettings};
use crate::queries::job_plan::{KnownJob, OpenRun};

/// Since when a run waits: what has waited longest is first.
fn from(run: &OpenRun) -> DateTime<Utc> {
    run.retry_at.unwrap_or(run.due_at)
}

/// A run to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The run.
    pub run: OpenRun,
    /// Its job, as it is now.
    pub job: KnownJob,
}

/// What an event means for attempts that may be going on, here or elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The run is not wanted any more.
    Cancelled(RunId),
    /// This attempt has ended: nobody has to have it.
    Ended(RunId, u32),
}

/// The runs of our shards, and the slots of this process.
#[derive(Debug)]
pub struct Board {
    slots: usize,
    shards: BTreeSet<Shard>,
    jobs: BTreeMap<JobId, KnownJob>,
    open: BTreeMap<RunId, OpenRun>,
    /// Runs that take a slot, also of shards that are somebody else's by now.
    here: BTreeSet<RunId>,
    /// Runs that wait for a retry, that somebody else has, or that have just been tried: not to be asked for before.
    rest: BTreeMap<RunId, Instant>,
}

impl Board {
    /// An empty one.
    pub fn new(slots: usize) -> Self {
        Self {
            slots,
            shards: BTreeSet::new(),
            jobs: BTreeMap::new(),
            open: BTreeMap::new(),
            here: BTreeSet::new(),
            rest: BTreeMap::new(),
        }
    }

    /// These shards are ours, with these jobs and open runs; events that follow are to be taken.
    pub fn assigned(
        &mut self,
        shards: &[Shard],
        jobs: Vec<KnownJob>,
        open: Vec<OpenRun>,
        (now, at): (DateTime<Utc>, Instant),
    ) {
        self.revoked(shards);
        self.shards.extend(shards);
        self.jobs.extend(jobs.into_iter().map(|job| (job.job_id, job)));
        for run in open {
            if let Some(pause) = self.pause(&run, now) {
                self.rest(run.run_id, at + pause);
            }
            self.open.insert(run.run_id, run);
        }
    }

    /// How long a run waits for its retry: as long as the log says, and never longer than its job lets it.
    fn pause(&self, run: &OpenRun, now: DateTime<Utc>) -> Option<Duration> {
        let left = (run.retry_at? - now).to_std().ok()?;
        let job = self.jobs.get(&run.job_id);
        Some(job.map_or(left, |job| left.min(longest_pause(&job.settings, run.attempt))))
    }

    fn rest(&mut self, run_id: RunId, until: Instant) {
        let rest = self.rest.entry(run_id).or_insert(until);
        *rest = until.max(*rest);
    }

    /// These shards are somebody else's. What is carried out here goes on under its lease.
    pub fn revoked(&mut self, shards: &[Shard]) {
        self.shards.retain(|shard| !shards.contains(shard));
        self.jobs.retain(|_, job| !shards.contains(&job.shard));
        self.open.retain(|_, run| !shards.contains(&run.shard));
        self.rest.retain(|run_id, _| self.open.contains_key(run_id));
    }

    /// Takes in an event of one of our shards.
    pub fn take(
        &mut self,
        shard: Shard,
        event: &JobEvent,
        (now, at): (DateTime<Utc>, Instant),
    ) -> Option<Told> {
        match event {
            JobEvent::JobDefined(it) => {
                let (name, settings) = (it.name.clone(), it.settings.clone());
                self.jobs.insert(it.job_id, KnownJob { job_id: it.job_id, shard, name, settings });
                None
            }
            JobEvent::JobChanged(it) => {
                if let Some(job) = self.jobs.get_mut(&it.job_id) {
                    job.settings.clone_from(&it.settings);
                }
                None
            }
            JobEvent::JobRemoved(it) => {
                self.jobs.remove(&it.job_id);
                None
            }
            JobEvent::RunScheduled(it) => {
                let (run_id, job_id, due_at) = (it.run_id, it.job_id, it.due_at);
                self.open
                    .insert(run_id, OpenRun { run_id, job_id, shard, due_at, attempt: 1, retry_at: None });
                None
            }
            JobEvent::RunSkipped(_) => None,
            JobEvent::RunFinished(it) => {
                self.close(it.run_id);
                Some(Told::Ended(it.run_id, it.attempt))
            }
            JobEvent::RunFailed(it) => {
                self.rest.remove(&it.run_id);
                match (it.retry_at, self.open.remove(&it.run_id)) {
                    (Some(retry_at), Some(run)) => {
                        let run = OpenRun { attempt: it.attempt + 1, retry_at: Some(retry_at), ..run };
                        if let Some(pause) = self.pause(&run, now) {
                            self.rest(run.run_id, at + pause);
                        }
                        self.open.insert(run.run_id, run);
                    }
                    _ => self.close(it.run_id),
                }
                Some(Told::Ended(it.run_id, it.attempt))
            }
            JobEvent::RunCancelled(it) => {
                self.close(it.run_id);
                Some(Told::Cancelled(it.run_id))
            }
        }
    }

    fn close(&mut self, run_id: RunId) {
        self.open.remove(&run_id);
        self.rest.remove(&run_id);
    }

    /// Whether the run may be tried at some time, and is not being tried.
    fn can_begin(&self, run: &OpenRun) -> bool {
        !self.here.contains(&run.run_id) && self.jobs.contains_key(&run.job_id)
    }

    fn rests(&self, run_id: RunId, at: Instant) -> bool {
        self.rest.get(&run_id).is_some_and(|rest| *rest > at)
    }

    /// Whether there is a slot for a run.
    pub fn has_room(&self) -> bool {
        self.here.len() < self.slots
    }

    /// Takes a slot for the run that has waited longest, if there is a slot and a run that may begin.
    pub fn start(&mut self, at: Instant) -> Option<Start> {
        if !self.has_room() {
            return None;
        }
        let may = |run: &&OpenRun| self.can_begin(run) && !self.rests(run.run_id, at);
        let first = self.open.values().filter(may).min_by_key(|run| (from(run), run.run_id))?;
        let start = Start { run: first.clone(), job: self.jobs.get(&first.job_id)?.clone() };
        self.here.insert(start.run.run_id);
        self.rest.remove(&start.run.run_id);
        Some(start)
    }

    /// Takes a slot for a run of a shard that is somebody else's, if there is one. What is ours begins by [`Board::start`].
    pub fn help(&mut self, run: &OpenRun, at: Instant) -> bool {
        let is_free = !self.here.contains(&run.run_id) && !self.rests(run.run_id, at);
        let helps = self.has_room() && is_free && !self.open.contains_key(&run.run_id);
        if helps {
            self.here.insert(run.run_id);
        }
        helps
    }

    /// The slot of this run is free again. If the run is still open, it is not asked for before `rest`.
    pub fn free(&mut self, run_id: RunId, rest: Instant, at: Instant) {
        self.here.remove(&run_id);
        // Of shards that are not ours nobody tells which runs have ended.
        self.rest.retain(|run_id, rest| *rest > at || self.open.contains_key(run_id));
        self.rest(run_id, rest);
    }

    /// When to look again although nothing happens; none while only an event or a free slot can change anything.
    pub fn wait(&self, at: Instant) -> Option<Duration> {
        if !self.has_room() {
            return None;
        }
        let waiting = self.open.values().filter(|run| self.can_begin(run));
        let wait = waiting.map(|run| {
            let rest = self.rest.get(&run.run_id).map(|rest| rest.saturating_duration_since(at));
            rest.unwrap_or_default()
        });
        wait.min()
    }

    /// Seconds since the oldest open run of our shards could have begun.
    pub fn oldest_seconds(&self, now: DateTime<Utc>) -> f64 {
        let oldest = self.open.values().map(from).min();
        oldest.map_or(0.0, |from| (now - from).as_seconds_f64().max(0.0))
    }

    /// The shards that are ours.
    pub fn shards(&self) -> Vec<Shard> {
        self.shards.iter().copied().collect()
    }
}

/// The pause before this attempt, as the job has it.
fn longest_pause(settings: &JobSettings, attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(2).min(20);
    let seconds = u64::from(settings.retry_pause_seconds) << doublings;
    Duration::from_secs(seconds.min(RETRY_PAUSE_SECONDS_MAX.into()))
}

#[cfg(test)]
mod tests {
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
        JobEvent::JobDefined(JobDefined {
            job_id: job(),
            name: "nightly".into(),
            settings,
            defined_at: now(),
        })
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
        board.take(SHARD, &defined(), (now(), Instant::now()));
        for (number, seconds_ago) in runs {
            assert_eq!(board.take(SHARD, &scheduled(*number, *seconds_ago), (now(), Instant::now())), None);
        }
        board
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
            SHARD,
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
        assert_eq!(board.take(SHARD, &failed(1, 1, Some(5)), (now(), at)), Some(Told::Ended(run(1), 1)));
        board.free(run(1), at, at);
        assert_eq!(started(&mut board, at), None);
        assert_eq!(board.wait(at), Some(Duration::from_secs(5)));
        let start = board.start(at + Duration::from_secs(5)).unwrap();
        assert_eq!((start.run.attempt, start.job.name.as_str()), (2, "nightly"));
        assert_eq!(board.take(SHARD, &failed(1, 2, None), (now(), at)), Some(Told::Ended(run(1), 2)));
        board.free(run(1), at, at);
        assert_eq!(board.start(at + Duration::from_secs(86_400)), None, "failed for good");
        assert_eq!(board.oldest_seconds(now()), 0.0);
    }

    #[test]
    fn a_run_that_is_cancelled_does_not_begin_again() {
        let (mut board, at) = (board(1, &[(1, 10), (2, 5)]), Instant::now());
        assert_eq!(started(&mut board, at), Some(run(1)));
        for number in [1, 2] {
            let cancelled = JobEvent::RunCancelled(RunCancelled { job_id: job(), run_id: run(number) });
            assert_eq!(board.take(SHARD, &cancelled, (now(), at)), Some(Told::Cancelled(run(number))));
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
        };
        board.assigned(&[SHARD], Vec::new(), vec![open], (now(), at));
        assert_eq!(started(&mut board, at), None, "a job that nobody has told of cannot be carried out");
        assert_eq!(board.wait(at), None, "and is not asked for again and again");
        board.take(SHARD, &defined(), (now(), Instant::now()));
        assert_eq!(board.start(at).map(|start| start.run.attempt), Some(2));
        board.take(SHARD, &JobEvent::JobRemoved(JobRemoved { job_id: job() }), (now(), at));
        assert_eq!(board.shards(), [SHARD]);
    }

    #[test]
    fn a_run_that_the_log_has_begins_whatever_the_clock_here_shows() {
        let (mut board, at) = (board(2, &[(1, -600)]), Instant::now());
        assert_eq!(board.wait(at), Some(Duration::ZERO));
        assert_eq!(started(&mut board, at), Some(run(1)), "who scheduled it has another clock");
        // Decided by a clock that was put back afterwards.
        board.take(SHARD, &failed(1, 1, Some(86_400)), (now(), at));
        board.free(run(1), at + Duration::from_secs(1), at);
        assert_eq!(board.wait(at), Some(Duration::from_secs(5)), "no longer than the job's pause");
        assert_eq!(started(&mut board, at + Duration::from_secs(4)), None);
        let late = at + Duration::from_secs(5);
        assert_eq!(started(&mut board, late), Some(run(1)));
        board.take(SHARD, &failed(1, 2, Some(86_400)), (now(), late));
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
}
