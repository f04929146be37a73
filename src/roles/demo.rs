//! `insight demo`: starts the system, plays a history through its API, shows what came of it, and goes on serving.
//!
//! Embedded, everything is one process with a private PostgreSQL in a temporary folder, the same at every run, so
//! that a run after `kill -9` takes over what that one left. With `--kafka` the roles are processes of their own,
//! as an operator would run them, two of them sharing the work of risk.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::process::{self, Process, log_format, need_kafka};
use super::{all, healthcheck};
use crate::config::{Bus, Demo, Settings, Storage};
use crate::demo::{self, Progress};
use crate::kafka;
use crate::shutdown::Shutdown;

/// How long the system may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Processes of the distributed form.
const PROCESSES: [&[&str]; 9] = [
    &["relay"],
    &["api"],
    &["project", "directory"],
    &["project", "holdings"],
    &["project", "prices"],
    &["project", "valuations"],
    &["project", "activity", "jobs"],
    &["risk"],
    &["risk"],
];

/// Plays the demo.
///
/// # Errors
/// What kept the system from starting, or a request that was refused.
pub async fn run(mut settings: Settings, options: Demo) -> anyhow::Result<ExitCode> {
    // What a person came to see are the tables.
    crate::telemetry::init_logs(log_format(&settings), "error")?;
    settings.http.listen_address = free_address(settings.http.listen_address).await?;
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    if options.kafka {
        distributed(settings, &options, &shutdown).await
    } else {
        embedded(settings, &options, &shutdown).await
    }
}

async fn embedded(mut settings: Settings, options: &Demo, shutdown: &Shutdown) -> anyhow::Result<ExitCode> {
    let temporary = settings.storage.database_url.is_none() && settings.storage.data_dir.is_none();
    if temporary {
        settings.storage.data_dir = Some(temporary_folder());
    }
    let folder = settings.storage.data_folder();
    let roles = all(&settings);
    eprintln!(
        "starting everything in one process (insight all), listening on {}",
        settings.http.listen_address
    );
    let process = Process::start(settings.clone(), shutdown.clone(), &roles).await?;
    process.spawn(&roles).await?;
    let played = play(&settings, options, shutdown).await;
    shutdown.request();
    let ended = shutdown.finish().await;
    process.close().await;
    if temporary {
        // What it holds can be played again.
        let _ = std::fs::remove_dir_all(&folder);
    }
    ended?;
    played
}

async fn distributed(settings: Settings, options: &Demo, shutdown: &Shutdown) -> anyhow::Result<ExitCode> {
    let kafka = need_kafka(&settings)?;
    if settings.storage.database_url.is_none() {
        bail!("DATABASE_URL is not set: processes share one PostgreSQL");
    }
    kafka::topics::apply(&kafka).await?;
    let (database, _) = process::database(&settings).await?;
    process::prepare(&database, &settings).await?.close().await;
    let logs = temporary_folder().with_extension("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot write {}", logs.display()))?;
    eprintln!("starting {} processes on Kafka, logs in {}", PROCESSES.len(), logs.display());
    let mut children = Vec::new();
    for (number, arguments) in PROCESSES.iter().enumerate() {
        children.push(start(arguments, number, &settings, &logs)?);
    }
    let played = play(&settings, options, shutdown).await;
    for child in &mut children {
        terminate(child).await;
    }
    played
}

/// Waits for the API, plays, prints; then serves on until asked to end.
async fn play(settings: &Settings, options: &Demo, shutdown: &Shutdown) -> anyhow::Result<ExitCode> {
    wait_until_ready(settings, shutdown).await?;
    let base_url = format!("http://{}", settings.http.listen_address);
    let wanted = demo::Options {
        investors: options.investors,
        assets: options.assets,
        seed: options.seed,
        ..demo::Options::default()
    };
    let progress = Progress::stderr();
    let report = tokio::select! {
        report = demo::play(&base_url, &wanted, &progress) => report?,
        () = shutdown.requested() => bail!("interrupted"),
    };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", demo::render(&report));
    }
    if !options.once {
        eprintln!("serving on {base_url} until Ctrl-C");
        shutdown.requested().await;
    }
    Ok(ExitCode::SUCCESS)
}

async fn wait_until_ready(settings: &Settings, shutdown: &Shutdown) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + READY_WITHIN;
    loop {
        let asked = healthcheck::ask_ready(settings.http.listen_address).await;
        match asked {
            Ok(None) => return Ok(()),
            _ if shutdown.is_requested() => bail!("interrupted"),
            Ok(Some(reason)) if tokio::time::Instant::now() > deadline => bail!("not ready: {reason}"),
            Err(error) if tokio::time::Instant::now() > deadline => return Err(error),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn start(arguments: &[&str], number: usize, settings: &Settings, logs: &Path) -> anyhow::Result<Child> {
    let name = format!("{}-{number}.log", arguments.join("-"));
    let log = std::fs::File::create(logs.join(&name)).with_context(|| format!("cannot write {name}"))?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let Storage { database_url, .. } = &settings.storage;
    let Bus { kafka_brokers, kafka_topic_prefix } = &settings.bus;
    let child = Command::new(program)
        .args(arguments)
        // One address is not for nine of them.
        .env_remove("METRICS_ADDRESS")
        // In the environment, not among the arguments: they may hold a password.
        .envs(database_url.as_ref().map(|url| ("DATABASE_URL", url)))
        .envs(kafka_brokers.as_ref().map(|brokers| ("KAFKA_BROKERS", brokers)))
        .env("KAFKA_TOPIC_PREFIX", kafka_topic_prefix)
        .arg("--listen-address")
        .arg(settings.http.listen_address.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // A terminal's Ctrl-C is for us; we end them.
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    child.with_context(|| format!("cannot start insight {}", arguments.join(" ")))
}

/// Asks a process to end, and makes sure.
async fn terminate(child: &mut Child) {
    if let Some(id) = child.id() {
        // The standard library only kills; asking lets it leave its consumer group at once.
        let asked = Command::new("kill").arg("-TERM").arg(id.to_string()).status().await;
        if asked.is_ok() && tokio::time::timeout(Duration::from_secs(10), child.wait()).await.is_ok() {
            return;
        }
    }
    let _ = child.kill().await;
}

/// The address as told, or another port of it where that one is taken.
async fn free_address(wanted: SocketAddr) -> anyhow::Result<SocketAddr> {
    if TcpListener::bind(wanted).await.is_ok() {
        return Ok(wanted);
    }
    let listener = TcpListener::bind(SocketAddr::new(wanted.ip(), 0)).await?;
    let address = listener.local_addr()?;
    eprintln!("{wanted} is taken, using {address}");
    Ok(address)
}

/// The same folder for every demo of this user.
fn temporary_folder() -> PathBuf {
    let user = std::env::var("USER").unwrap_or_else(|_| "user".into());
    std::env::temp_dir().join(format!("portfolio-insight-demo-{user}"))
}
