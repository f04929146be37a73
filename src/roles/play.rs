//! `insight demo race` and `insight demo seed`: clients of a server that runs already.

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde::Serialize;
use uuid::Uuid;

use super::healthcheck;
use super::process::log_format;
use crate::config::{At, Race, Seed, Settings};
use crate::demo::{self, Progress};

/// Many clients at one holding. The exit code tells whether every sum was exact.
///
/// # Errors
/// No server, or a request that was refused for another reason than the race.
pub async fn race(settings: Settings, options: Race) -> anyhow::Result<ExitCode> {
    let base_url = base_url(&settings, &options.at).await?;
    let wanted = demo::RaceOptions {
        clients: options.clients,
        trades: options.trades,
        orders: options.orders,
        workers: options.workers,
        seed: options.seed,
        // Every race has portfolios of its own.
        run: Uuid::now_v7().simple().to_string(),
    };
    let report = demo::race(&base_url, &wanted).await?;
    tell(&options.at, &report, demo::render_race)?;
    Ok(if report.is_exact() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Portfolios to try things on.
///
/// # Errors
/// No server, or a request that was refused.
pub async fn seed(settings: Settings, options: Seed) -> anyhow::Result<ExitCode> {
    let base_url = base_url(&settings, &options.at).await?;
    let wanted = demo::SeedOptions {
        investors: options.investors,
        assets: options.assets,
        assets_per_portfolio_max: options.max_assets_per_portfolio,
        seed: options.seed,
    };
    let report = demo::seed(&base_url, &wanted, &Progress::stderr()).await?;
    tell(&options.at, &report, demo::render_seed)?;
    Ok(ExitCode::SUCCESS)
}

fn tell<R: Serialize>(at: &At, report: &R, render: impl Fn(&R) -> String) -> anyhow::Result<()> {
    println!("{}", if at.json { serde_json::to_string_pretty(report)? } else { render(report) });
    Ok(())
}

/// Where the server is; asked first, so that a forgotten one is told at once and not after a minute.
async fn base_url(settings: &Settings, at: &At) -> anyhow::Result<String> {
    crate::telemetry::init_logs(log_format(settings), "error")?;
    if let Some(url) = &at.server {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            bail!("--server {url} does not begin with http:// or https://");
        }
        return Ok(url.clone());
    }
    let address = healthcheck::reachable(settings.http.listen_address);
    let start = "start one with `insight all`, or say where it is with --server";
    match healthcheck::ask_ready(address).await {
        Ok(None) => Ok(format!("http://{address}")),
        Ok(Some(reason)) => bail!("the server at {address} is not ready: {reason}"),
        Err(error) => Err(error).with_context(|| format!("no server answers at {address}: {start}")),
    }
}
