//! `insight jobs …`: jobs and their runs on the command line.
//!
//! It works on the database, whoever serves it: what it wishes goes through the write side as a client's commands do, and
//! what it shows is read from the read model, which a process with the projector of jobs keeps up.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::process::log_format;
use super::visit::Visit;
use crate::clock::Clock;
use crate::commands::{self, Answer, Command, Commands, Request};
use crate::config::Settings;
use crate::demo::table::{Side, Table};
use crate::domain::fields::Fields;
use crate::domain::ids::{JobId, RunId, Version};
use crate::domain::job::{self, Job, JobCommand, JobSettings, Schedule, ScheduleWish, SettingsWish};
use crate::event_store::read;
use crate::events::Event;
use crate::projectors::schema;
use crate::queries::freshness::{Freshness, Visibility};
use crate::queries::jobs::{JobRow, RunRow, find_job, last_event, list_failed_runs, list_jobs, list_runs};
use crate::queries::{LIMIT_MAX, PageRequest};

/// How long a command may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// How long the rows may take to follow the log.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// Who is said to have sent commands from here.
const ACTOR: &str = "command line";
/// Events of a job that are read at once.
const READ_EVENTS: i64 = 1_000;

/// What to do.
#[derive(Debug, Clone)]
pub enum Verb {
    /// Shows every job.
    List,
    /// Shows one.
    Show {
        /// Id or name.
        job: String,
    },
    /// Defines a job.
    Define {
        /// Its name.
        name: String,
        /// Its settings.
        told: Told,
    },
    /// Changes settings; what is not told stays.
    Change {
        /// Id or name.
        job: String,
        /// New settings.
        told: Told,
    },
    /// Removes a job.
    Remove {
        /// Id or name.
        job: String,
    },
    /// Runs a job now.
    Run {
        /// Id or name.
        job: String,
    },
    /// Cancels a run, or all that are open.
    Cancel {
        /// Id or name.
        job: String,
        /// The run.
        run: Option<Uuid>,
    },
    /// Tries a run again that failed for good.
    Retry {
        /// Id or name.
        job: String,
        /// The run.
        run: Uuid,
    },
    /// Shows runs.
    Runs {
        /// Id or name.
        job: String,
        /// In this state.
        state: Option<String>,
        /// So many.
        limit: u32,
    },
    /// Shows what failed for good.
    Failed {
        /// So many.
        limit: u32,
    },
}

/// Settings as flags tell them.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// What it does.
    pub kind: Option<String>,
    /// Five fields.
    pub crontab: Option<String>,
    /// Of the crontab.
    pub time_zone: Option<String>,
    /// An interval in seconds.
    pub every: Option<u32>,
    /// In seconds.
    pub soft_limit: Option<u32>,
    /// In seconds.
    pub time_limit: Option<u32>,
    /// At one run.
    pub attempts: Option<u32>,
    /// In seconds.
    pub retry_pause: Option<u32>,
    /// `skip` or `allow`.
    pub overlap: Option<String>,
    /// What to fetch.
    pub symbols: Option<Vec<String>>,
    /// Where.
    pub source: Option<String>,
}

/// Does it. The exit code of `failed` tells whether something has failed for good.
///
/// # Errors
/// A database that cannot be used; what the command was refused for.
pub async fn run(settings: Settings, verb: Verb) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(&settings), "error")?;
    let visit = Visit::open(&settings).await?;
    let done = async {
        schema::apply_all(&visit.pool).await?;
        obey(&visit.pool, verb).await
    };
    let done = done.await;
    visit.close().await?;
    done
}

async fn obey(pool: &PgPool, verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::List => list(pool).await?,
        Verb::Show { job } => show(pool, id(&job)).await?,
        Verb::Runs { job, state, limit } => runs(pool, id(&job), state.as_deref(), limit).await?,
        Verb::Failed { limit } => return failed(pool, limit).await,
        Verb::Define { name, told } => {
            let settings = settle(SettingsWish::try_from(told)?)?;
            let answer =
                send(pool, JobId::named(&name), JobCommand::Define { name: name.clone(), settings }, None);
            println!(
                "{name} {}",
                if answer.await?.events.is_empty() { "is so already" } else { "is defined" }
            );
        }
        Verb::Change { job, told } => change(pool, &job, told).await?,
        Verb::Remove { job } => {
            send(pool, id(&job), JobCommand::Remove, None).await?;
            println!("{job} is removed");
        }
        Verb::Run { job } => {
            let run_id = RunId(Uuid::now_v7());
            send(pool, id(&job), JobCommand::RunNow { run_id }, None).await?;
            println!("run {run_id} of {job} is to be carried out");
        }
        Verb::Cancel { job, run } => {
            let command =
                run.map_or(JobCommand::CancelOpen, |run| JobCommand::CancelRun { run_id: RunId(run) });
            let events = send(pool, id(&job), command, None).await?.events;
            let cancelled = events.iter().filter(|event| event.event_type == "RunCancelled").count();
            println!("{cancelled} {} of {job} cancelled", if cancelled == 1 { "run" } else { "runs" });
        }
        Verb::Retry { job, run } => {
            let new_run_id = RunId(Uuid::now_v7());
            send(pool, id(&job), JobCommand::RetryRun { run_id: RunId(run), new_run_id }, None).await?;
            println!("run {new_run_id} of {job} tries it again");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A job by its id or its name.
fn id(job: &str) -> JobId {
    job.parse().unwrap_or_else(|_| JobId::named(job))
}

/// Changes what is told upon what the log says, and nothing that has moved on meanwhile.
async fn change(pool: &PgPool, job: &str, told: Told) -> anyhow::Result<()> {
    let job_id = id(job);
    let (stream, mut known) = (job_id.stream(), Job::initial());
    let mut version = Version(0);
    loop {
        let events = read::stream_after(pool, &stream, version, READ_EVENTS).await?.events;
        for envelope in &events {
            if let Event::Job(event) = envelope.event()? {
                known.evolve(&event);
            }
            version = envelope.version;
        }
        if events.is_empty() {
            break;
        }
    }
    let Some(definition) = known.definition() else { bail!("there is no such job: {job}") };
    let settings = settle(told.upon(&definition.settings)?)?;
    let answer = send(pool, job_id, JobCommand::Change { settings }, Some(version)).await?;
    println!("{job} {}", if answer.events.is_empty() { "is so already" } else { "is changed" });
    Ok(())
}

fn settle(wish: SettingsWish) -> anyhow::Result<JobSettings> {
    let mut fields = Fields::new();
    let settings = wish.settle(&mut fields);
    if let Some(settings) = &settings {
        job::settings::check(settings, &mut fields);
    }
    fields.finish()?;
    settings.context("the settings are not complete")
}

/// Sends one command through a write side of its own.
async fn send(
    pool: &PgPool,
    job_id: JobId,
    command: JobCommand,
    if_match: Option<Version>,
) -> anyhow::Result<Answer> {
    let (options, stop) = ((*pool.connect_options()).clone(), CancellationToken::new());
    let (commands, written) =
        Commands::start(options, pool.clone(), Clock::System, commands::Settings::default(), stop.clone());
    let writing = tokio::spawn(written);
    let command_id = Uuid::now_v7();
    let request = Request {
        command: Command::Job { job_id, command },
        command_id,
        request_hash: command_id.as_bytes().repeat(2).into(),
        actor: ACTOR.into(),
        correlation_id: command_id,
        if_match,
        occurred_at: None,
        deadline: Instant::now() + ANSWERED_WITHIN,
    };
    let answer = commands.execute(request).await;
    stop.cancel();
    writing.await.context("the write side panicked")??;
    answer.map_err(anyhow::Error::from)
}

/// Waits until the rows follow the log, and says so where they do not.
async fn follow(pool: &PgPool) -> anyhow::Result<()> {
    let Some(last) = last_event(pool).await? else { return Ok(()) };
    let epoch = read::epoch_at_head(pool).await?;
    let deadline = Instant::now() + SEEN_WITHIN;
    let seen = Freshness::new(pool.clone()).wait_for(epoch, last, &["jobs"], None, deadline).await?;
    if let Visibility::NotYet { reached } = seen {
        eprintln!("these rows stand at {reached} of {last}: no process projects jobs, or it is behind");
    }
    Ok(())
}

async fn list(pool: &PgPool) -> anyhow::Result<()> {
    follow(pool).await?;
    let mut table = Table::new(&[
        ("job", Side::Left),
        ("kind", Side::Left),
        ("when", Side::Left),
        ("next", Side::Left),
        ("last run", Side::Left),
        ("", Side::Left),
        ("open", Side::Right),
        ("failed", Side::Right),
    ]);
    let mut page = PageRequest { limit: LIMIT_MAX, ..PageRequest::default() };
    let mut count = 0;
    loop {
        let found = list_jobs(pool, &page).await?.data;
        for job in &found.items {
            count += 1;
            table.row([
                job.name.clone(),
                job.kind.clone(),
                when(job),
                shown(job.next_due()),
                shown(job.last_due_at),
                job.last_state.clone().unwrap_or_default(),
                job.open_runs.to_string(),
                job.failed_runs.to_string(),
            ]);
        }
        page.after = found.next;
        if page.after.is_none() {
            break;
        }
    }
    if count == 0 {
        println!("no job is defined")
    } else {
        print!("{table}")
    }
    Ok(())
}

async fn show(pool: &PgPool, id: JobId) -> anyhow::Result<()> {
    follow(pool).await?;
    let Some(found) = find_job(pool, id).await? else { bail!("there is no such job") };
    let job = found.data;
    let pairs = [
        ("job", job.name.clone()),
        ("id", job.job_id.to_string()),
        ("kind", job.kind.clone()),
        ("when", when(&job)),
        ("next", shown(job.next_due())),
        ("soft limit", format!("{} s", job.soft_limit_seconds)),
        ("time limit", format!("{} s", job.time_limit_seconds)),
        ("attempts", format!("{}, the second after {} s", job.attempts_max, job.retry_pause_seconds)),
        ("overlap", job.overlap.clone()),
        ("symbols", if job.symbols.is_empty() { "-".to_owned() } else { job.symbols.join(" ") }),
        ("source", job.source.clone().unwrap_or_else(|| "-".to_owned())),
        ("defined", format!("{} by {}", shown(Some(job.defined_at)), job.defined_by)),
        ("changed", shown(Some(job.settings_at))),
        ("open runs", job.open_runs.to_string()),
        ("failed runs", job.failed_runs.to_string()),
    ];
    for (name, value) in pairs {
        println!("{name:<12}{value}");
    }
    Ok(())
}

async fn runs(pool: &PgPool, id: JobId, state: Option<&str>, limit: u32) -> anyhow::Result<()> {
    follow(pool).await?;
    let found = list_runs(pool, id, state, &PageRequest { limit, after: None }).await?.data.items;
    if found.is_empty() && find_job(pool, id).await?.is_none() {
        bail!("there is no such job");
    }
    print_runs(&found, "no run");
    Ok(())
}

async fn failed(pool: &PgPool, limit: u32) -> anyhow::Result<ExitCode> {
    follow(pool).await?;
    let found = list_failed_runs(pool, &PageRequest { limit, after: None }).await?.data.items;
    print_runs(&found, "nothing has failed for good");
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_runs(runs: &[RunRow], none: &str) {
    if runs.is_empty() {
        println!("{none}");
        return;
    }
    let mut table = Table::new(&[
        ("run", Side::Left),
        ("job", Side::Left),
        ("due", Side::Left),
        ("state", Side::Left),
        ("attempt", Side::Right),
        ("took", Side::Right),
        ("", Side::Left),
    ]);
    for run in runs {
        table.row([
            run.run_id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            run.job.clone(),
            shown(Some(run.due_at)),
            run.state.clone(),
            run.attempt.to_string(),
            took(run),
            what(run),
        ]);
    }
    print!("{table}");
}

/// What there is to say of a run, in one line.
fn what(run: &RunRow) -> String {
    let progress = match (run.done, run.total) {
        (Some(done), Some(total)) => format!(", {done} of {total}"),
        (Some(done), None) => format!(", {done}"),
        _ => String::new(),
    };
    match run.state.as_str() {
        "running" => format!("by {}{progress}", run.owner.as_deref().unwrap_or("nobody")),
        "finished" => run.result.clone().unwrap_or_default(),
        "retrying" => format!("again {}: {}", shown(run.retry_at), run.reason.as_deref().unwrap_or_default()),
        "skipped" => "another run was open".to_owned(),
        _ => run.reason.clone().unwrap_or_default(),
    }
}

fn took(run: &RunRow) -> String {
    let took = run.started_at.zip(run.ended_at).map(|(from, to)| (to - from).as_seconds_f64());
    took.map_or_else(String::new, |seconds| format!("{seconds:.1} s"))
}

fn when(job: &JobRow) -> String {
    match (&job.crontab, &job.time_zone, job.interval_seconds) {
        (Some(crontab), Some(zone), _) => format!("{crontab} ({zone})"),
        (_, _, seconds) => format!("every {} s", seconds.unwrap_or_default()),
    }
}

fn shown(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.format("%Y-%m-%d %H:%M:%SZ").to_string())
}

impl TryFrom<Told> for SettingsWish {
    type Error = anyhow::Error;

    fn try_from(told: Told) -> anyhow::Result<Self> {
        let kind = told.kind.as_deref().context("kind is missing")?;
        Ok(Self {
            kind: word("kind", kind)?,
            schedule: ScheduleWish {
                crontab: told.crontab,
                time_zone: told.time_zone,
                interval_seconds: told.every,
            },
            soft_limit_seconds: told.soft_limit,
            time_limit_seconds: told.time_limit,
            attempts_max: told.attempts,
            retry_pause_seconds: told.retry_pause,
            overlap: told.overlap.as_deref().map(|overlap| word("overlap", overlap)).transpose()?,
            symbols: told.symbols.unwrap_or_default(),
            source: told.source,
        })
    }
}

impl Told {
    /// These settings, and what is not told as it was.
    fn upon(self, known: &JobSettings) -> anyhow::Result<SettingsWish> {
        let schedule = match (self.crontab, self.time_zone, self.every, &known.schedule) {
            (None, None, None, Schedule::Interval { seconds }) => {
                ScheduleWish { interval_seconds: Some(*seconds), ..ScheduleWish::default() }
            }
            // A new zone alone is one of the crontab that is known, and the other way round.
            (crontab, time_zone, None, Schedule::Crontab { expression, time_zone: zone }) => ScheduleWish {
                crontab: crontab.or_else(|| Some(expression.clone())),
                time_zone: time_zone.or_else(|| Some(zone.clone())),
                interval_seconds: None,
            },
            (crontab, time_zone, interval_seconds, _) => {
                ScheduleWish { crontab, time_zone, interval_seconds }
            }
        };
        let overlap = self.overlap.as_deref().map(|overlap| word("overlap", overlap)).transpose()?;
        Ok(SettingsWish {
            kind: self.kind.as_deref().map_or(Ok(known.kind), |kind| word("kind", kind))?,
            schedule,
            soft_limit_seconds: self.soft_limit.or(match self.time_limit {
                // Another time limit has another nine tenths.
                Some(_) => None,
                None => Some(known.soft_limit_seconds),
            }),
            time_limit_seconds: self.time_limit.or(Some(known.time_limit_seconds)),
            attempts_max: self.attempts.or(Some(known.attempts_max)),
            retry_pause_seconds: self.retry_pause.or(Some(known.retry_pause_seconds)),
            overlap: overlap.or(Some(known.overlap)),
            symbols: self.symbols.unwrap_or_else(|| known.symbols.clone()),
            source: self.source.or_else(|| known.source.clone()),
        })
    }
}

/// One of the words of a setting.
fn word<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> anyhow::Result<T> {
    let value = serde_json::Value::String(text.to_owned());
    serde_json::from_value(value).map_err(|error| anyhow::anyhow!("{name}: {error}"))
}
