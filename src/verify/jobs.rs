//! Jobs and runs as events tell them, and their rows compared.
//!
//! | question | answer |
//! | --- | --- |
//! | which due times are taken | those that were scheduled or skipped since the settings were given last, up to the latest |
//! | which run may end | one that was scheduled and has not ended, in the attempt that is on |
//! | what may be tried again | what failed for good, once |

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::payload::{Payload, Unreadable};
use super::reference::{Reference, require_id};
use super::rows::{Cell, Row, Rows, Scope, Table};
use crate::events::{Envelope, Metadata};

const JOBS: Table = Table { name: "jobs.jobs", keys: &["job_id"] };
const RUNS: Table = Table { name: "jobs.runs", keys: &["job_id", "scheduled_position"] };

/// A job and everything that was to be run of it.
#[derive(Debug, Clone)]
pub struct Job {
    name: String,
    settings: Settings,
    defined_by: String,
    defined_at: DateTime<Utc>,
    defined_position: i64,
    settings_at: DateTime<Utc>,
    due_taken: Option<DateTime<Utc>>,
    removed_at: Option<DateTime<Utc>>,
    version: i64,
    position: i64,
    /// In the order of the log.
    runs: Vec<Run>,
    /// Where a run stands among them.
    by_id: BTreeMap<String, usize>,
}

/// As the payload has them.
#[derive(Debug, Clone)]
struct Settings {
    kind: String,
    /// Crontab and zone.
    crontab: Option<(String, String)>,
    interval: Option<i64>,
    soft_limit: i64,
    time_limit: i64,
    attempts_max: i64,
    retry_pause: i64,
    overlap: String,
    symbols: Vec<String>,
    source: Option<String>,
}

/// A run, or a due time that was skipped.
#[derive(Debug, Clone, Default)]
struct Run {
    scheduled_position: i64,
    run_id: Option<String>,
    due_at: DateTime<Utc>,
    trigger: String,
    state: &'static str,
    missed: i64,
    retry_of: Option<String>,
    retried_by: Option<String>,
    open_run_id: Option<String>,
    attempt: i64,
    reason: Option<String>,
    result: Option<String>,
    scheduled_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    retry_at: Option<DateTime<Utc>>,
    position: i64,
}

/// Takes in the next event of a job's stream.
pub(super) fn take(
    jobs: &mut BTreeMap<String, Job>,
    id: &str,
    event: &Envelope,
    payload: &Payload,
) -> Result<(), Unreadable> {
    require_id(payload, "job_id", id)?;
    let job = jobs.get_mut(id);
    let is_there = job.as_ref().is_some_and(|job| job.removed_at.is_none());
    if &*event.event_type == "JobDefined" {
        if is_there {
            return Err(Unreadable(format!("defines job {id} twice")));
        }
        let mut defined = Job::defined(event, payload)?;
        if let Some(removed) = job {
            defined.runs = std::mem::take(&mut removed.runs);
            defined.by_id = std::mem::take(&mut removed.by_id);
        }
        jobs.insert(id.to_owned(), defined);
        return Ok(());
    }
    match job {
        Some(job) if is_there => job.take(event, payload),
        _ => Err(Unreadable(format!("is about job {id}, which is not there"))),
    }
}

impl Job {
    fn defined(event: &Envelope, payload: &Payload) -> Result<Self, Unreadable> {
        let metadata = serde_json::from_str::<Metadata>(&event.metadata);
        let defined_at = payload.instant("defined_at")?;
        Ok(Self {
            name: payload.text("name")?,
            settings: Settings::read(payload)?,
            defined_by: metadata.map_err(|error| Unreadable(error.to_string()))?.actor,
            defined_at,
            defined_position: event.position.0,
            settings_at: defined_at,
            due_taken: None,
            removed_at: None,
            version: event.version.0,
            position: event.position.0,
            runs: Vec::new(),
            by_id: BTreeMap::new(),
        })
    }

    fn take(&mut self, event: &Envelope, payload: &Payload) -> Result<(), Unreadable> {
        match &*event.event_type {
            "JobChanged" => {
                self.settings = Settings::read(payload)?;
                self.settings_at = payload.instant("changed_at")?;
                self.due_taken = None;
            }
            "JobRemoved" => self.removed_at = Some(event.recorded_at),
            "RunScheduled" => self.scheduled(event, payload)?,
            "RunSkipped" => {
                let open_run_id = payload.text("open_run_id")?;
                self.open(&open_run_id)?;
                let due_at = payload.instant("due_at")?;
                self.take_due(due_at)?;
                self.runs.push(Run {
                    missed: payload.optional_whole("missed")?.unwrap_or_default(),
                    trigger: "schedule".to_owned(),
                    state: "skipped",
                    open_run_id: Some(open_run_id),
                    ended_at: Some(event.recorded_at),
                    ..Run::new(event, due_at)
                });
            }
            "RunFinished" => {
                let finished_at = payload.instant("finished_at")?;
                let (started_at, result) = (payload.instant("started_at")?, payload.text("result")?);
                let run = self.attempted(payload)?;
                run.end("finished", finished_at, event);
                (run.started_at, run.result) = (Some(started_at), Some(result));
            }
            "RunFailed" => self.failed(event, payload)?,
            "RunCancelled" => {
                self.open(&payload.text("run_id")?)?.end("cancelled", event.recorded_at, event);
            }
            other => return Err(Unreadable(format!("{other} does not belong into {}", event.stream_id))),
        }
        self.version = event.version.0;
        self.position = event.position.0;
        Ok(())
    }

    fn scheduled(&mut self, event: &Envelope, payload: &Payload) -> Result<(), Unreadable> {
        let (run_id, trigger) = (payload.text("run_id")?, payload.text("trigger")?);
        let (due_at, retry_of) = (payload.instant("due_at")?, payload.optional_text("retry_of")?);
        if self.by_id.contains_key(&run_id) {
            return Err(Unreadable(format!("schedules the run {run_id} twice")));
        }
        if (trigger == "retry") != retry_of.is_some() {
            return Err(Unreadable(format!("is a {trigger} of {retry_of:?}")));
        }
        if trigger == "schedule" {
            self.take_due(due_at)?;
        }
        if let Some(failed) = &retry_of {
            let is_failed = |run: &&mut Run| run.state == "failed" && run.retried_by.is_none();
            let failed = self.run(failed).filter(is_failed);
            let failed = failed.ok_or_else(|| Unreadable("tries again what has not failed".into()))?;
            failed.retried_by = Some(run_id.clone());
            failed.position = event.position.0;
        }
        self.by_id.insert(run_id.clone(), self.runs.len());
        self.runs.push(Run {
            run_id: Some(run_id),
            trigger,
            state: "scheduled",
            missed: payload.optional_whole("missed")?.unwrap_or_default(),
            retry_of,
            attempt: 1,
            ..Run::new(event, due_at)
        });
        Ok(())
    }

    fn failed(&mut self, event: &Envelope, payload: &Payload) -> Result<(), Unreadable> {
        let (retry_at, failed_at) = (payload.optional_instant("retry_at")?, payload.instant("failed_at")?);
        let (started_at, reason) = (payload.instant("started_at")?, payload.text("reason")?);
        let run = self.attempted(payload)?;
        match retry_at {
            None => run.end("failed", failed_at, event),
            Some(_) => {
                run.state = "retrying";
                run.attempt += 1;
                run.retry_at = retry_at;
                run.position = event.position.0;
            }
        }
        (run.started_at, run.reason) = (Some(started_at), Some(reason));
        Ok(())
    }

    fn take_due(&mut self, due_at: DateTime<Utc>) -> Result<(), Unreadable> {
        if due_at <= self.settings_at || self.due_taken.is_some_and(|taken| due_at <= taken) {
            return Err(Unreadable(format!("takes the due time {due_at}, which is over")));
        }
        self.due_taken = Some(due_at);
        Ok(())
    }

    fn run(&mut self, run_id: &str) -> Option<&mut Run> {
        self.runs.get_mut(*self.by_id.get(run_id)?)
    }

    fn open(&mut self, run_id: &str) -> Result<&mut Run, Unreadable> {
        let open = self.run(run_id).filter(|run| ["scheduled", "retrying"].contains(&run.state));
        open.ok_or_else(|| Unreadable(format!("is about the run {run_id}, which is not open")))
    }

    /// The run whose attempt an event ends.
    fn attempted(&mut self, payload: &Payload) -> Result<&mut Run, Unreadable> {
        let attempt = payload.whole("attempt")?;
        let run = self.open(&payload.text("run_id")?)?;
        if run.attempt == attempt {
            Ok(run)
        } else {
            Err(Unreadable(format!("ends attempt {attempt} when attempt {} is on", run.attempt)))
        }
    }
}

impl Settings {
    fn read(payload: &Payload) -> Result<Self, Unreadable> {
        let missing = |name: &str| Unreadable(format!("has no `{name}`"));
        let settings = payload.object("settings").ok_or_else(|| missing("settings"))?;
        let schedule = settings.object("schedule").ok_or_else(|| missing("schedule"))?;
        let crontab = schedule.object("crontab");
        let interval = schedule.object("interval");
        if crontab.is_some() == interval.is_some() {
            return Err(Unreadable("is due by neither a crontab nor an interval".into()));
        }
        let crontab = crontab.map(|it| Ok((it.text("expression")?, it.text("time_zone")?))).transpose()?;
        Ok(Self {
            kind: settings.text("kind")?,
            crontab,
            interval: interval.map(|it| it.whole("seconds")).transpose()?,
            soft_limit: settings.whole("soft_limit_seconds")?,
            time_limit: settings.whole("time_limit_seconds")?,
            attempts_max: settings.whole("attempts_max")?,
            retry_pause: settings.whole("retry_pause_seconds")?,
            overlap: settings.text("overlap")?,
            symbols: settings.texts("symbols")?,
            source: settings.optional_text("source")?,
        })
    }
}

impl Run {
    fn new(event: &Envelope, due_at: DateTime<Utc>) -> Self {
        let position = event.position.0;
        let scheduled_at = event.recorded_at;
        Self { scheduled_position: position, due_at, scheduled_at, position, ..Self::default() }
    }

    fn end(&mut self, state: &'static str, ended_at: DateTime<Utc>, event: &Envelope) {
        self.state = state;
        self.ended_at = Some(ended_at);
        self.retry_at = None;
        self.position = event.position.0;
    }
}

/// Compares all of it.
pub(super) async fn check(rows: &mut Rows<'_>, reference: &Reference) -> Result<(), sqlx::Error> {
    let jobs = reference.jobs.iter().map(|(id, job)| (id.clone(), vec![job_row(id, job)]));
    rows.compare(&JOBS, &Scope::All, jobs).await?;
    let of = |id: &String, job: &Job| job.runs.iter().map(|run| run_row(id, run)).collect::<Vec<_>>();
    let runs = reference.jobs.iter().map(|(id, job)| (id.clone(), of(id, job)));
    rows.compare(&RUNS, &Scope::All, runs).await
}

fn job_row(id: &String, job: &Job) -> Row {
    let settings = &job.settings;
    let (crontab, zone) = settings.crontab.as_ref().map(|(crontab, zone)| (crontab, zone)).unzip();
    vec![
        ("job_id", id.into()),
        ("name", (&job.name).into()),
        ("kind", (&settings.kind).into()),
        ("crontab", crontab.into()),
        ("time_zone", zone.into()),
        ("interval_seconds", settings.interval.into()),
        ("soft_limit_seconds", settings.soft_limit.into()),
        ("time_limit_seconds", settings.time_limit.into()),
        ("attempts_max", settings.attempts_max.into()),
        ("retry_pause_seconds", settings.retry_pause.into()),
        ("overlap", (&settings.overlap).into()),
        ("symbols", Cell::Text(serde_json::json!(settings.symbols).to_string())),
        ("source", settings.source.as_ref().into()),
        ("defined_by", (&job.defined_by).into()),
        ("defined_at", job.defined_at.into()),
        ("defined_position", job.defined_position.into()),
        ("settings_at", job.settings_at.into()),
        ("due_taken", job.due_taken.into()),
        ("removed_at", job.removed_at.into()),
        ("version", job.version.into()),
        ("position", job.position.into()),
    ]
}

fn run_row(job_id: &String, run: &Run) -> Row {
    vec![
        ("job_id", job_id.into()),
        ("scheduled_position", run.scheduled_position.into()),
        ("run_id", run.run_id.as_ref().into()),
        ("due_at", run.due_at.into()),
        ("trigger", (&run.trigger).into()),
        ("state", run.state.into()),
        ("missed", run.missed.into()),
        ("retry_of", run.retry_of.as_ref().into()),
        ("retried_by", run.retried_by.as_ref().into()),
        ("open_run_id", run.open_run_id.as_ref().into()),
        ("attempt", run.attempt.into()),
        ("reason", run.reason.as_ref().into()),
        ("result", run.result.as_ref().into()),
        ("scheduled_at", run.scheduled_at.into()),
        ("started_at", run.started_at.into()),
        ("ended_at", run.ended_at.into()),
        ("retry_at", run.retry_at.into()),
        ("position", run.position.into()),
    ]
}
