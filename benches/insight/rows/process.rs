//! The process itself: how much memory it takes when nothing happens, and how long it takes to start.

use std::time::Duration;

use tokio::time::sleep;

use crate::Settings;
use crate::machine::resident_bytes;
use crate::outcome::Measured;
use crate::processes::{Data, Program, data_folder};
use crate::world::World;

const QUIET: Duration = Duration::from_secs(5);
const STARTS: usize = 3;

/// Resident memory some seconds after a start on an empty folder, and after a thousand portfolios were opened.
pub async fn idle_memory(_: Settings) -> anyhow::Result<Measured> {
    const MEGABYTE: f64 = 1_000_000.0;
    let folder = data_folder()?;
    let program = Program::serve(&["all"], Data::Embedded(folder.path())).await?;
    sleep(QUIET).await;
    let empty = resident_bytes(program.id())? as f64 / MEGABYTE;
    World::make(program.port, 1_000).await?;
    sleep(QUIET).await;
    let filled = resident_bytes(program.id())? as f64 / MEGABYTE;
    program.stop().await?;
    Ok(Measured::default()
        .figure("resident, empty", empty, "MB")
        .figure("resident, 1,000 portfolios", filled, "MB")
        .condition("quiet for seconds", QUIET.as_secs())
        .condition("roles", "all"))
}

/// From the start of the process to the first "ready", the private server included.
pub async fn start(_: Settings) -> anyhow::Result<Measured> {
    let folder = data_folder()?;
    let program = Program::serve(&["all"], Data::Embedded(folder.path())).await?;
    let first = program.ready_after;
    World::make(program.port, 100).await?;
    program.stop().await?;
    let mut again = Vec::new();
    for _ in 0..STARTS {
        let program = Program::serve(&["all"], Data::Embedded(folder.path())).await?;
        again.push(program.ready_after);
        program.stop().await?;
    }
    let slowest = again.iter().max().copied().unwrap_or_default();
    Ok(Measured::default()
        .figure("ready after, new folder", first.as_secs_f64(), "s")
        .figure("ready after, slowest", slowest.as_secs_f64(), "s")
        .condition("starts", STARTS)
        .condition("roles", "all"))
}
