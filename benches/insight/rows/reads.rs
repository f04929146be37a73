//! Reads of holdings while nothing is written.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::Settings;
use crate::http::Connection;
use crate::load::{Caller, Load, share_of};
use crate::outcome::Measured;
use crate::processes::{Data, Program, data_folder};
use crate::world::{ASSETS, Accepted, World, read_at};

const CALLERS: usize = 64;
const PORTFOLIOS: usize = 1_000;
/// Each buy is a lot of another asset.
const BUYS_EACH: usize = 10;

/// Portfolios of ten holdings, asked for in turn.
pub async fn holdings(settings: Settings) -> anyhow::Result<Measured> {
    let folder = data_folder()?;
    let program = Program::serve(&["all"], Data::Embedded(folder.path())).await?;
    let world = Arc::new(World::make(program.port, PORTFOLIOS).await?);
    let bytes = fill(program.port, &world).await?;
    let (port, before) = (program.port, program.cpu(None));
    let load = Load::run(CALLERS, settings.measure_for, |caller, until| {
        let portfolios = share_of(&world.portfolios, caller, CALLERS);
        async move {
            let mut connection = Connection::open(port).await?;
            let paths: Vec<String> =
                portfolios.iter().map(|id| format!("/v1/portfolios/{id}/holdings")).collect();
            let mut did = Caller::default();
            for path in paths.iter().cycle() {
                let since = Instant::now();
                if since >= until {
                    break;
                }
                let answer = connection.get(path).await?;
                match answer.status {
                    200 => did.done(since),
                    503 => did.refused(),
                    _ => drop(answer.json::<Value>()?),
                }
            }
            Ok(did)
        }
    })
    .await?;
    let cpu = program.cpu(None).since(before);
    let measured = Measured::default()
        .load(&load)
        .cpu(cpu, load.count())
        .condition("callers", CALLERS)
        .condition("portfolios", PORTFOLIOS)
        .condition("holdings each", BUYS_EACH.min(ASSETS))
        .condition("answer bytes", bytes)
        .condition("roles", "all");
    program.stop().await?;
    Ok(measured)
}

/// Buys, waits until all of it is visible, and says how large an answer is.
async fn fill(port: u16, world: &Arc<World>) -> anyhow::Result<usize> {
    let buyers = (0..CALLERS).map(|caller| {
        let world = world.clone();
        async move {
            let mut connection = Connection::open(port).await?;
            let mut bytes = 0;
            for portfolio in share_of(&world.portfolios, caller, CALLERS) {
                let path = format!("/v1/portfolios/{portfolio}/buy");
                let mut place = String::new();
                for number in 0..BUYS_EACH {
                    let answer =
                        connection.post(&path, &format!("fill-{number}"), &world.buy(number)).await?;
                    place = answer.json::<Accepted>()?.place;
                }
                bytes = read_at(&mut connection, &portfolio, "holdings", &place).await?.body.len();
            }
            anyhow::Ok(bytes)
        }
    });
    let bytes = futures::future::try_join_all(buyers).await?;
    Ok(bytes.into_iter().max().unwrap_or(0))
}
