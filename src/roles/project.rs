//! The role `project NAME`: events to the rows of a read model.

use super::process::Process;
use crate::projectors::{self, activity, directory, holdings};

/// Every read model that has a projector.
pub(super) const NAMES: &[&str] = &["directory", "holdings", "activity"];

pub(super) fn spawn(process: &Process, name: &str) -> anyhow::Result<()> {
    let bounds = projectors::Settings {
        batch_events_max: process.settings.reading.batch_events_max,
        parked_streams_max: process.settings.reading.parked_streams_max,
    };
    let (source, pool, cancel) = (process.source.clone(), process.pool.clone(), process.shutdown.token());
    let task = format!("project {name}");
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
        "activity" => {
            let model = activity::Activity::default();
            tasks.spawn(task, projectors::run_with(model, source, pool, cancel, bounds));
        }
        other => anyhow::bail!("there is no read model {other}"),
    }
    Ok(())
}
