//! The role `schedule`: due times become runs.

use super::process::Process;
use crate::reactors::jobs_file;
use crate::reactors::schedule::{self, Parts};

pub(super) fn spawn(process: &Process) -> anyhow::Result<()> {
    // What is wrong with the file is said before anything is scheduled.
    let file = process.settings.jobs.jobs_file.as_deref();
    let declared = file.map(jobs_file::read).transpose()?.unwrap_or_default();
    let (commands, written) = process.commands("append of schedule");
    let (pool, clock, cancel) = (process.pool.clone(), process.clock.clone(), process.shutdown.token());
    process.shutdown.spawn("schedule", async move {
        let _written = written;
        schedule::run(Parts { pool, commands, clock, declared }, cancel).await
    });
    Ok(())
}
