//! What tests of scheduled work stand on: a database, processes on it, jobs, and what the log says of their runs.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::stream::{self, StreamExt};
use insight::clock::{Clock, ManualClock};
use insight::commands::{Command, Commands, Settings};
use insight::domain::ids::{JobId, RunId, Version};
use insight::domain::job::{JobCommand, JobEvent, JobKind, JobSettings, Overlap, Schedule};
use insight::domain::portfolio::event::CashMode;
use insight::event_store::read;
use insight::events::Event;
use insight::verify::verify;
use sqlx::{Postgres, Transaction};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::environment::{self, TestDatabase};
use crate::ledger::{Ledger, buy, request};
use crate::processes::{Place, Process};

/// Beside a whole test run on few cores, everything takes longer.
pub const SOON: Duration = Duration::from_secs(30);

pub struct WorkingStage {
    pub place: Place,
    pub database: TestDatabase,
    pub ledger: Ledger,
    kafka: Option<(String, String)>,
}

/// What the row of a lease says.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Lease {
    pub attempt: i32,
    pub owner: String,
    pub lost: i32,
    pub done: Option<i64>,
    pub total: Option<i64>,
}

impl WorkingStage {
    pub async fn new() -> Self {
        Self::with(None).await
    }

    /// Processes read through Kafka.
    pub async fn on_kafka() -> Self {
        let stage = Self::with(Some((environment::kafka_brokers(), environment::topic_prefix()))).await;
        assert!(stage.run("topics", &["topics", "apply"]).finish());
        stage
    }

    async fn with(kafka: Option<(String, String)>) -> Self {
        let database = environment::database().await;
        let ledger = Ledger::start(&database);
        Self { place: Place::new(), database, ledger, kafka }
    }

    pub fn run(&self, name: &str, arguments: &[&str]) -> Process {
        self.run_with(name, arguments, &[])
    }

    pub fn run_with(&self, name: &str, arguments: &[&str], more: &[(&'static str, &str)]) -> Process {
        let (url, backups) = (self.database.url(), self.place.path().join("backups").display().to_string());
        let mut environment = vec![
            ("DATABASE_URL", url.as_str()),
            ("BACKUP_DIR", &backups),
            ("POOL_SIZE", "4"),
            ("RISK_WINDOW", "60"),
            ("RISK_PATHS", "1024"),
            ("RISK_THREADS", "1"),
        ];
        if let Some((brokers, prefix)) = &self.kafka {
            environment.extend([("KAFKA_BROKERS", brokers.as_str()), ("KAFKA_TOPIC_PREFIX", prefix)]);
        }
        environment.extend(more);
        Process::start(self.place.path(), name, arguments, &environment)
    }

    /// Everything that risk stands on, and jobs.
    pub fn read_models(&self) -> Process {
        let names = ["directory", "holdings", "prices", "valuations", "activity", "jobs"];
        self.run("models", &[&["project"], &names[..]].concat())
    }

    /// Portfolios that each hold something.
    pub async fn portfolios(&self, count: usize) {
        let asset = self.ledger.asset().await;
        let open = async || {
            let portfolio = self.ledger.portfolio_only(CashMode::Untracked).await;
            self.ledger.send(buy(portfolio, &asset, "3", "7")).await.unwrap();
        };
        stream::iter(0..count).for_each_concurrent(64, |_| open()).await;
    }

    pub async fn define(&self, name: &str, settings: JobSettings) -> JobId {
        let job_id = JobId::named(name);
        let command = JobCommand::Define { name: name.to_owned(), settings };
        self.ledger.send(Command::Job { job_id, command }).await.unwrap();
        job_id
    }

    /// The same by a clock that shows another time.
    pub async fn define_at(&self, name: &str, settings: JobSettings, now: DateTime<Utc>) -> JobId {
        let (stop, clock) = (CancellationToken::new(), Clock::from(ManualClock::at(now)));
        let (options, pool) = (self.database.options(), self.database.pool.clone());
        let (commands, running) = Commands::start(options, pool, clock, Settings::default(), stop.clone());
        let running = tokio::spawn(running);
        let job_id = JobId::named(name);
        let command = JobCommand::Define { name: name.to_owned(), settings };
        commands.execute(request(Command::Job { job_id, command })).await.unwrap();
        stop.cancel();
        running.await.unwrap().unwrap();
        job_id
    }

    pub async fn run_now(&self, job_id: JobId) -> RunId {
        let run_id = RunId(Uuid::now_v7());
        self.command(job_id, JobCommand::RunNow { run_id }).await;
        run_id
    }

    pub async fn command(&self, job_id: JobId, command: JobCommand) {
        self.ledger.send(Command::Job { job_id, command }).await.unwrap();
    }

    /// What happened to a job and its runs.
    pub async fn events(&self, job_id: JobId) -> Vec<JobEvent> {
        let slice = read::stream_after(&self.database.pool, &job_id.stream(), Version(0), 100_000).await;
        let events = slice.unwrap().events.into_iter().map(|event| event.event().unwrap());
        events.map(|event| if let Event::Job(event) = event { event } else { panic!("{event:?}") }).collect()
    }

    /// Waits for an event of a job, and returns the first.
    pub async fn event<T>(
        &self,
        job_id: JobId,
        within: Duration,
        wanted: impl Fn(&JobEvent) -> Option<T>,
    ) -> T {
        let told = async || {
            let events = self.events(job_id).await;
            events.iter().find_map(&wanted).ok_or(events)
        };
        eventually("an event of a job", within, told).await
    }

    pub async fn lease(&self, run_id: RunId) -> Option<Lease> {
        let sql = "select attempt, owner, lost, done, total from job_leases where run_id = $1";
        sqlx::query_as(sql).bind(run_id.0).fetch_optional(&self.database.pool).await.unwrap()
    }

    /// Waits until somebody has the run.
    pub async fn leased(&self, run_id: RunId, within: Duration) -> Lease {
        eventually("a lease", within, async || self.lease(run_id).await.ok_or(())).await
    }

    /// Waits until somebody else than before has it.
    pub async fn taken_over(&self, run_id: RunId, before: &Lease, within: Duration) -> Lease {
        let other = async || {
            let lease = self.lease(run_id).await;
            lease.clone().filter(|lease| lease.owner != before.owner).ok_or(lease)
        };
        eventually("another owner", within, other).await
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.database.pool).await.unwrap()
    }

    /// Somebody changes a table, and every backup waits until they are done.
    pub async fn in_the_way(&self) -> Transaction<'static, Postgres> {
        let make = "create table if not exists of_somebody_else (id int)";
        sqlx::query(make).execute(&self.database.pool).await.unwrap();
        let mut change = self.database.pool.begin().await.unwrap();
        let lock = "lock table of_somebody_else in access exclusive mode";
        sqlx::query(lock).execute(&mut *change).await.unwrap();
        change
    }

    /// Waits until the reference ledger finds nothing that differs.
    pub async fn assert_verified(&self) {
        let clean = async || {
            let report = verify(&self.database.pool).await.unwrap();
            if report.is_clean() { Ok(()) } else { Err(report.to_string()) }
        };
        eventually("clean report", SOON, clean).await;
    }
}

/// Asks until there is an answer.
///
/// # Panics
/// When there is none in time; with what there was instead.
pub async fn eventually<T, E: Debug>(what: &str, within: Duration, ask: impl AsyncFn() -> Result<T, E>) -> T {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(instead) => assert!(began.elapsed() < within, "no {what} within {within:?}: {instead:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A job of this kind that is due every so many seconds, with limits that nothing comes near.
pub fn every(seconds: u32, kind: JobKind) -> JobSettings {
    JobSettings {
        kind,
        schedule: Schedule::Interval { seconds },
        soft_limit_seconds: 3_600,
        time_limit_seconds: 3_600,
        attempts_max: 3,
        retry_pause_seconds: 1,
        overlap: Overlap::Allow,
        symbols: Vec::new(),
        source: None,
    }
}

/// One that is due by itself long after every test.
pub fn by_hand(kind: JobKind) -> JobSettings {
    every(366 * 86_400, kind)
}

pub fn finished(event: &JobEvent) -> Option<(RunId, u32, String)> {
    match event {
        JobEvent::RunFinished(it) => Some((it.run_id, it.attempt, it.result.clone())),
        _ => None,
    }
}

pub fn failed(event: &JobEvent) -> Option<(RunId, u32, String)> {
    match event {
        JobEvent::RunFailed(it) => Some((it.run_id, it.attempt, it.reason.clone())),
        _ => None,
    }
}

/// How many of these there are.
pub fn count<T>(events: &[JobEvent], wanted: impl Fn(&JobEvent) -> Option<T>) -> usize {
    events.iter().filter_map(wanted).count()
}
