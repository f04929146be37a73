//! Jobs, what they are due by, and what became of their runs.
//!
//! A batch loads the rows that its facts change and writes them again: jobs have few facts, so nothing is kept between
//! batches. Who carries a run out is no fact, and stands in the leases.

mod copying;
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::copy::Written;
use super::{Error, Fact, FromLog, Poison, ReadModel, Readiness, stored};
use crate::domain::ids::{RunId, Shard};
use crate::domain::job::{JobEvent, JobSettings, RunFailed, RunScheduled, RunSkipped, Trigger};
use crate::events::{Envelope, Event, Metadata};
use crate::feed::Topics;

/// The projector of `jobs`: what the rows do not have yet, and what that is made from.
#[derive(Debug, Default)]
pub struct Jobs {
    jobs: BTreeMap<Uuid, Job>,
    /// By job and the event that scheduled it.
    runs: BTreeMap<(Uuid, i64), Run>,
    /// Where a run of a job stands among them.
    by_id: BTreeMap<(Uuid, RunId), i64>,
}

/// A row of `jobs`.
#[derive(Debug)]
struct Job {
    name: String,
    settings: JobSettings,
    defined_by: String,
    defined_at: DateTime<Utc>,
    defined_position: i64,
    settings_at: DateTime<Utc>,
    due_taken: Option<DateTime<Utc>>,
    removed_at: Option<DateTime<Utc>>,
    version: i64,
    position: i64,
}

/// A row of `runs`.
#[derive(Debug)]
struct Run {
    run_id: Option<RunId>,
    due_at: DateTime<Utc>,
    trigger: Trigger,
    state: RunState,
    missed: i64,
    retry_of: Option<RunId>,
    retried_by: Option<RunId>,
    open_run_id: Option<RunId>,
    attempt: i64,
    reason: Option<String>,
    result: Option<String>,
    scheduled_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    retry_at: Option<DateTime<Utc>>,
    position: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RunState {
    Scheduled,
    Retrying,
    Finished,
    Failed,
    Cancelled,
    Skipped,
}

impl ReadModel for Jobs {
    const NAME: &'static str = "jobs";
    const TOPICS: Topics = Topics::Jobs;

    async fn prepare(&mut self, conn: &mut PgConnection, facts: &[Fact]) -> Result<Readiness, Error> {
        let mut jobs = BTreeSet::new();
        let mut runs = BTreeSet::new();
        for fact in facts {
            if let (Event::Job(event), Ok(id)) = (&fact.event, stored::stream_id(&fact.envelope)) {
                jobs.insert(id);
                runs.extend(run_changed_by(event).map(|run_id| (id, run_id)));
            }
        }
        jobs.retain(|id| !self.jobs.contains_key(id));
        runs.retain(|key| !self.by_id.contains_key(key));
        self.jobs.extend(rows::load_jobs(conn, jobs).await?);
        for (job_id, scheduled_position, run) in rows::load_runs(conn, runs).await? {
            self.put(job_id, scheduled_position, run);
        }
        Ok(Readiness::Ready)
    }

    fn apply(&mut self, fact: &Fact) -> Result<(), Poison> {
        let Event::Job(event) = &fact.event else { return Ok(()) };
        let envelope = &*fact.envelope;
        let id = stored::stream_id(envelope)?;
        if let JobEvent::JobDefined(defined) = event {
            let job = Job {
                name: defined.name.clone(),
                settings: defined.settings.clone(),
                defined_by: defined_by(envelope)?,
                defined_at: defined.defined_at,
                defined_position: envelope.position.0,
                settings_at: defined.defined_at,
                due_taken: None,
                removed_at: None,
                version: envelope.version.0,
                position: envelope.position.0,
            };
            self.jobs.insert(id, job);
            return Ok(());
        }
        if !self.jobs.contains_key(&id) {
            return Err(Poison(format!("job {id} was never defined")));
        }
        self.change_run(id, envelope, event)?;
        if let Some(job) = self.jobs.get_mut(&id) {
            job.apply(envelope, event);
        }
        Ok(())
    }

    async fn flush(&mut self, conn: &mut PgConnection) -> Result<(), Error> {
        let batch = std::mem::take(self);
        rows::upsert_jobs(conn, &batch.jobs.into_iter().collect::<Vec<_>>()).await?;
        rows::upsert_runs(conn, &batch.runs.into_iter().collect::<Vec<_>>()).await?;
        Ok(())
    }

    fn forget(&mut self, _shards: &[Shard]) {
        // Nothing outlives a batch, and shards are only taken away between batches or after a failure of one.
        *self = Self::default();
    }
}

impl FromLog for Jobs {
    fn from_nothing() -> Self {
        Self::default()
    }

    fn held_bytes(&self) -> usize {
        // A row, its place by id, and a sentence.
        self.runs.len() * (size_of::<Run>() + 256) + self.jobs.len() * (size_of::<Job>() + 256)
    }

    async fn copy(&mut self, conn: &mut PgConnection) -> Result<Vec<Written>, Error> {
        let Self { jobs, runs, .. } = std::mem::take(self);
        Ok(vec![copying::jobs(conn, &jobs).await?, copying::runs(conn, &runs).await?])
    }
}

impl Jobs {
    fn put(&mut self, job_id: Uuid, scheduled_position: i64, run: Run) {
        if let Some(run_id) = run.run_id {
            self.by_id.insert((job_id, run_id), scheduled_position);
        }
        self.runs.insert((job_id, scheduled_position), run);
    }

    fn run(&mut self, job_id: Uuid, run_id: RunId) -> Result<&mut Run, Poison> {
        let place = self.by_id.get(&(job_id, run_id)).copied();
        let run = place.and_then(|place| self.runs.get_mut(&(job_id, place)));
        run.ok_or_else(|| Poison(format!("run {run_id} was never scheduled")))
    }

    fn change_run(&mut self, job_id: Uuid, envelope: &Envelope, event: &JobEvent) -> Result<(), Poison> {
        match event {
            JobEvent::JobDefined(_) | JobEvent::JobChanged(_) | JobEvent::JobRemoved(_) => {}
            JobEvent::RunScheduled(scheduled) => {
                if let Some(failed) = scheduled.retry_of {
                    let failed = self.run(job_id, failed)?;
                    failed.retried_by = Some(scheduled.run_id);
                    failed.position = envelope.position.0;
                }
                self.put(job_id, envelope.position.0, Run::scheduled(envelope, scheduled));
            }
            JobEvent::RunSkipped(skipped) => {
                self.put(job_id, envelope.position.0, Run::skipped(envelope, skipped));
            }
            JobEvent::RunFinished(finished) => {
                let run = self.run(job_id, finished.run_id)?;
                run.end(RunState::Finished, finished.finished_at, envelope);
                run.attempt = i64::from(finished.attempt);
                run.started_at = Some(finished.started_at);
                run.result = Some(finished.result.clone());
            }
            JobEvent::RunFailed(failed) => self.run(job_id, failed.run_id)?.fail(failed, envelope),
            JobEvent::RunCancelled(cancelled) => {
                let run = self.run(job_id, cancelled.run_id)?;
                run.end(RunState::Cancelled, envelope.recorded_at, envelope);
            }
        }
        Ok(())
    }
}

impl Job {
    /// What every fact does: it moves the version, and may change settings or take a due time.
    fn apply(&mut self, envelope: &Envelope, event: &JobEvent) {
        self.version = envelope.version.0;
        self.position = envelope.position.0;
        match event {
            JobEvent::JobChanged(changed) => {
                self.settings = changed.settings.clone();
                self.settings_at = changed.changed_at;
                self.due_taken = None;
            }
            JobEvent::JobRemoved(_) => self.removed_at = Some(envelope.recorded_at),
            JobEvent::RunScheduled(run) if run.trigger == Trigger::Schedule => {
                self.due_taken = self.due_taken.max(Some(run.due_at));
            }
            JobEvent::RunSkipped(skipped) => self.due_taken = self.due_taken.max(Some(skipped.due_at)),
            _ => {}
        }
    }
}

impl Run {
    fn scheduled(envelope: &Envelope, run: &RunScheduled) -> Self {
        Self {
            run_id: Some(run.run_id),
            due_at: run.due_at,
            trigger: run.trigger,
            state: RunState::Scheduled,
            missed: i64::from(run.missed),
            retry_of: run.retry_of,
            retried_by: None,
            open_run_id: None,
            attempt: 1,
            reason: None,
            result: None,
            scheduled_at: envelope.recorded_at,
            started_at: None,
            ended_at: None,
            retry_at: None,
            position: envelope.position.0,
        }
    }

    fn skipped(envelope: &Envelope, skipped: &RunSkipped) -> Self {
        Self {
            run_id: None,
            due_at: skipped.due_at,
            trigger: Trigger::Schedule,
            state: RunState::Skipped,
            missed: i64::from(skipped.missed),
            retry_of: None,
            retried_by: None,
            open_run_id: Some(skipped.open_run_id),
            attempt: 0,
            reason: None,
            result: None,
            scheduled_at: envelope.recorded_at,
            started_at: None,
            ended_at: Some(envelope.recorded_at),
            retry_at: None,
            position: envelope.position.0,
        }
    }

    fn end(&mut self, state: RunState, ended_at: DateTime<Utc>, envelope: &Envelope) {
        self.state = state;
        self.ended_at = Some(ended_at);
        self.retry_at = None;
        self.position = envelope.position.0;
    }

    fn fail(&mut self, failed: &RunFailed, envelope: &Envelope) {
        let attempt = i64::from(failed.attempt);
        match failed.retry_at {
            Some(retry_at) => {
                self.state = RunState::Retrying;
                self.attempt = attempt + 1;
                self.retry_at = Some(retry_at);
                self.position = envelope.position.0;
            }
            None => {
                self.end(RunState::Failed, failed.failed_at, envelope);
                self.attempt = attempt;
            }
        }
        self.started_at = Some(failed.started_at);
        self.reason = Some(failed.reason.clone());
    }
}

/// The run whose row an event changes; a new run's is not there yet.
fn run_changed_by(event: &JobEvent) -> Option<RunId> {
    match event {
        JobEvent::JobDefined(_) | JobEvent::JobChanged(_) | JobEvent::JobRemoved(_) => None,
        JobEvent::RunScheduled(scheduled) => scheduled.retry_of,
        JobEvent::RunSkipped(_) => None,
        JobEvent::RunFinished(finished) => Some(finished.run_id),
        JobEvent::RunFailed(failed) => Some(failed.run_id),
        JobEvent::RunCancelled(cancelled) => Some(cancelled.run_id),
    }
}

fn defined_by(envelope: &Envelope) -> Result<String, Poison> {
    let metadata = serde_json::from_str::<Metadata>(&envelope.metadata);
    metadata
        .map(|metadata| metadata.actor)
        .map_err(|error| Poison(format!("metadata cannot be read: {error}")))
}
