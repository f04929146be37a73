//! The role `schedule`: due times become runs.

use super::process::Process;
use crate::reactors::schedule::{self, Parts};

pub(super) fn spawn(process: &Process) {
    let (commands, written) = process.commands("append of schedule");
    let (pool, clock, cancel) = (process.pool.clone(), process.clock.clone(), process.shutdown.token());
    process.shutdown.spawn("schedule", async move {
        let _written = written;
        schedule::run(Parts { pool, commands, clock }, cancel).await
    });
}
