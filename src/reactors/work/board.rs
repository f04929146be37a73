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

use crate::domain::ids::{JobId, Position, RunId, Shard};
use crate::domain::job::settings::RETRY_PAUSE_SECONDS_MAX;
use crate::domain::job::{JobEvent, JobSettings};
use crate::events::Envelope;
use crate::queries::job_plan::{KnownJob, OpenRun};

/// Since when a run waits: what has waited longest is first.
fn from(run: &OpenRun) -> DateTime<Utc> {
    run.retry_at.unwrap_or(run.scheduled_at)
}

/// Where an event stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logged {
    /// Its shard.
    pub shard: Shard,
    /// Its position.
    pub position: Position,
    /// When the log took it.
    pub recorded_at: DateTime<Utc>,
}

impl From<&Envelope> for Logged {
    fn from(envelope: &Envelope) -> Self {
        Self { shard: envelope.shard, position: envelope.position, recorded_at: envelope.recorded_at }
    }
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

    /// Takes in an event of one of our shards, or one that the log was asked for: that comes again, and later than it.
    pub fn take(
        &mut self,
        Logged { shard, position, recorded_at }: Logged,
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
                let (attempt, retry_at, scheduled_at) = (1, None, recorded_at);
                let run =
                    OpenRun { run_id, job_id, shard, due_at, attempt, retry_at, scheduled_at, position };
                self.open.insert(run_id, run);
                None
            }
            JobEvent::RunSkipped(_) => None,
            JobEvent::RunFinished(it) => {
                self.close(it.run_id);
                Some(Told::Ended(it.run_id, it.attempt))
            }
            JobEvent::RunFailed(it) => {
                let told = Some(Told::Ended(it.run_id, it.attempt));
                if self.open.get(&it.run_id).is_some_and(|run| run.position >= position) {
                    return told;
                }
                self.rest.remove(&it.run_id);
                match (it.retry_at, self.open.remove(&it.run_id)) {
                    (Some(retry_at), Some(run)) => {
                        let run =
                            OpenRun { attempt: it.attempt + 1, retry_at: Some(retry_at), position, ..run };
                        if let Some(pause) = self.pause(&run, now) {
                            self.rest(run.run_id, at + pause);
                        }
                        self.open.insert(run.run_id, run);
                    }
                    _ => self.close(it.run_id),
                }
                told
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

    /// Seconds since the first of the open runs of our shards could have begun: of one that is tried again, since that was asked for.
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
mod tests;
