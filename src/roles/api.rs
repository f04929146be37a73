//! The role `api`: commands in, answers out.

use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::process::{self, Process};
use super::status;
use crate::api::operations::Check;
use crate::api::{self, Parts};
use crate::commands::{self, Commands};
use crate::event_store::{read, seals};
use crate::queries::lag::{Lag, list_lags};

/// A read model that is further behind the log than this is not fresh.
const LAG_MAX: Duration = Duration::from_secs(30);

pub(super) async fn spawn(process: &Process) -> anyhow::Result<()> {
    let address = process.settings.http.listen_address;
    if !address.ip().is_loopback() {
        warn!(%address, "listening beyond this machine: there are no access keys yet, whoever reaches it may do everything");
    }
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;

    let bounds = commands::Settings {
        queue_max: process.settings.writing.queue_max,
        aggregates_max: process.settings.writing.streams_remembered,
        ..commands::Settings::default()
    };
    let token = process.shutdown.token();
    // The write side ends after the last answer: a request that was begun before the end may still bring a command.
    let answered = CancellationToken::new();
    let (commands, appending) = Commands::start(
        process.options.clone(),
        process.pool.clone(),
        process.clock.clone(),
        bounds,
        answered.clone(),
    );
    process.shutdown.spawn("append", appending);
    // Here because every installation has this role; of several processes one seals.
    process.shutdown.spawn("seal", seals::run(process.pool.clone(), process.shutdown.token()));

    let (asked, kafka) = (process.pool.clone(), process::kafka(&process.settings));
    let metrics = process.metrics.clone();
    let parts = Parts {
        commands,
        pool: process.pool.clone(),
        clock: process.clock.clone(),
        checks: checks(process),
        render_metrics: Box::new(move || metrics.render()),
        status: Box::new(move || status::ask(asked.clone(), kafka.clone()).boxed()),
        event_streams_max: process.settings.http.event_streams_max,
        stop: process.shutdown.token(),
    };
    info!(address = %listener.local_addr()?, docs = %format!("http://{address}/docs"), "listening");
    let limits = api::server::Limits::of(process.settings.http.connections_max);
    let serving = api::server::serve(listener, api::router(parts), limits, token);
    process.shutdown.spawn("api", async move {
        let _answered = answered.drop_guard();
        serving.await
    });
    Ok(())
}

/// What must work for this process to be asked: the log, and rows that are not too old.
fn checks(process: &Process) -> Vec<(&'static str, Check)> {
    let pool = process.pool.clone();
    let event_store: Check = Box::new(move || {
        let pool = pool.clone();
        async move { read::head(&pool).await.map(drop).map_err(|error| error.to_string()) }.boxed()
    });
    let pool = process.pool.clone();
    let read_models: Check = Box::new(move || {
        let pool = pool.clone();
        async move { fresh(&list_lags(&pool).await.map_err(|error| error.to_string())?) }.boxed()
    });
    vec![("event store", event_store), ("read models", read_models)]
}

fn fresh(lags: &[Lag]) -> Result<(), String> {
    let late = lags.iter().filter(|lag| lag.seconds > LAG_MAX.as_secs_f64());
    let late: Vec<String> = late
        .map(|lag| {
            format!("{} is {} events, {:.0} s, behind the log", lag.read_model, lag.events, lag.seconds)
        })
        .collect();
    if late.is_empty() { Ok(()) } else { Err(late.join("; ")) }
}
