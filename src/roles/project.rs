//! The role `project NAME`: events to the rows of a read model.

use super::process::Process;
use crate::config;
use crate::projectors::risk::{Engine, Risk};
use crate::projectors::{self, activity, directory, holdings, jobs, prices, valuations};
use crate::risk;

/// Every read model, in an order in which each comes after what it is made from.
pub(super) const NAMES: &[&str] =
    &["directory", "holdings", "prices", "activity", "valuations", "risk", "jobs"];

/// How risk is computed, as told.
pub(super) fn engine(settings: &config::Risk) -> Engine {
    Engine {
        window: settings.risk_window,
        simulation: risk::Settings {
            seed: settings.risk_seed,
            degrees_of_freedom: settings.risk_degrees_of_freedom,
            paths: settings.risk_paths,
        },
        threads: settings.risk_threads,
    }
}

pub(super) async fn spawn(process: &Process, name: &str) -> anyhow::Result<()> {
    let bounds = projectors::Settings {
        batch_events_max: process.settings.reading.batch_events_max,
        parked_streams_max: process.settings.reading.parked_streams_max,
    };
    let (source, pool, cancel) = (process.source(), process.pool.clone(), process.shutdown.token());
    let task = if name == "risk" { name.to_owned() } else { format!("project {name}") };
    let tasks = &process.shutdown;
    match name {
        "directory" => {
            let model = directory::Directory::default();
            tasks.spawn(task, projectors::run_with(model, source, pool, cancel, bounds));
        }
        "holdings" => {
            let model = holdings::Holdings::default();
            tasks.spawn(task, projectors::run_with(model, source, pool, cancel, bounds));
        }
        "prices" => {
            let model = prices::Prices::default();
            tasks.spawn(task, projectors::run_with(model, source, pool, cancel, bounds));
        }
        "activity" => {
            let model = activity::Activity::default();
            tasks.spawn(task, projectors::run_with(model, source, pool, cancel, bounds));
        }
        "jobs" => {
            let model = jobs::Jobs::default();
            tasks.spawn(task, projectors::run_with(model, source, pool, cancel, bounds));
        }
        "valuations" => {
            let model = valuations::Valuations::open(&source, &pool).await?;
            tasks.spawn(task, projectors::run_with(model, source, pool, cancel, bounds));
        }
        "risk" => {
            let model = Risk::open(&source, &pool, engine(&process.settings.risk)).await?;
            tasks.spawn(task, projectors::run_with(model, source, pool, cancel, bounds));
        }
        other => anyhow::bail!("there is no read model {other}"),
    }
    Ok(())
}
