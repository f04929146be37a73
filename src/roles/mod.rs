//! What `insight <role>` starts: wiring and nothing else.
//!
//! A process is a set of roles around one database. Every role is a task of the process's [`Shutdown`]: if one
//! ends early, all end, loudly. Restart is the only recovery path.

mod api;
pub mod demo;
pub mod epoch;
pub mod explain;
pub mod fetch;
pub mod generate;
pub mod healthcheck;
pub mod jobs;
pub mod log_transfer;
pub mod parked;
pub mod play;
mod process;
mod project;
pub mod rebuild;
mod relay;
pub mod replay;
mod schedule;
mod scrape;
pub mod seal;
pub mod status;
pub mod topics;
pub mod verify;
mod visit;
mod work;

use std::process::ExitCode;

use crate::config::Settings;
use crate::shutdown::Shutdown;

use process::Process;

/// One part of the system that can run alone or with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// HTTP.
    Api,
    /// Log to Kafka.
    Relay,
    /// The projector of the read model of this name.
    Project(String),
    /// Due times to runs.
    Schedule,
    /// Runs to what they are for.
    Work,
}

/// The names `insight project` takes.
pub fn projector_names() -> Vec<&'static str> {
    project::NAMES.iter().copied().filter(|name| *name != "risk").collect()
}

/// The names `insight rebuild` takes.
pub fn read_model_names() -> Vec<&'static str> {
    project::NAMES.to_vec()
}

/// Every role; the relay where there is a bus.
pub fn all(settings: &Settings) -> Vec<Role> {
    let relay = process::kafka(settings).is_some().then_some(Role::Relay);
    let projectors = project::NAMES.iter().map(|name| Role::Project((*name).into()));
    [Role::Api].into_iter().chain(relay).chain(projectors).chain([Role::Schedule, Role::Work]).collect()
}

/// Runs roles until the process is asked to end.
///
/// # Errors
/// What kept the process from starting, or the first role that failed.
pub async fn run(settings: Settings, roles: impl FnOnce(&Settings) -> Vec<Role>) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(process::log_format(&settings), "info,sqlx::postgres::notice=warn")?;
    let roles = roles(&settings);
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let starting = async {
        let process = Process::start(settings, shutdown.clone(), &roles).await?;
        process.spawn(&roles).await?;
        anyhow::Ok(process)
    };
    let process = tokio::select! {
        started = starting => started?,
        () = shutdown.overdue() => anyhow::bail!("asked to end before everything had started"),
    };
    let ended = shutdown.finish().await;
    if let Err(failure) = &ended
        && process.is_embedded()
    {
        epoch::begin_after(failure, &process.pool).await;
    }
    process.close().await;
    ended?;
    Ok(ExitCode::SUCCESS)
}
