//! Durable buys over HTTP: 64 callers, each with portfolios of its own, each waiting for its answer.

use std::sync::Arc;
use std::time::Instant;

use crate::Settings;
use crate::http::Connection;
use crate::load::{Caller, Load, share_of};
use crate::outcome::Measured;
use crate::processes::{Data, Database, Program, data_folder};
use crate::world::{Accepted, World, read_at};

const CALLERS: usize = 64;
const PORTFOLIOS: usize = 1_000;

/// `insight api` and nothing else.
pub async fn api_alone(settings: Settings) -> anyhow::Result<Measured> {
    let database = Database::start().await?;
    let program = Program::serve(&["api"], Data::At(&database)).await?;
    let (measured, _) = buys(&program, Some(&database), settings).await?;
    program.stop().await?;
    database.stop().await?;
    Ok(measured.condition("roles", "api"))
}

/// `insight all`; at the end, how long the last command takes to be seen.
pub async fn all_roles(settings: Settings) -> anyhow::Result<Measured> {
    let folder = data_folder()?;
    let program = Program::serve(&["all"], Data::Embedded(folder.path())).await?;
    let (measured, last) = buys(&program, None, settings).await?;
    let lag = Instant::now();
    if let Some((portfolio, place)) = last {
        read_at(&mut Connection::open(program.port).await?, &portfolio, "holdings", &place).await?;
    }
    let measured =
        measured.figure("lag at the end", lag.elapsed().as_secs_f64(), "s").condition("roles", "all");
    program.stop().await?;
    Ok(measured)
}

async fn buys(
    program: &Program,
    database: Option<&Database>,
    settings: Settings,
) -> anyhow::Result<(Measured, Option<(String, String)>)> {
    let world = Arc::new(World::make(program.port, PORTFOLIOS).await?);
    let (port, before) = (program.port, program.cpu(database));
    let last = Arc::new(std::sync::Mutex::new(None));
    let load = Load::run(CALLERS, settings.measure_for, |caller, until| {
        let (world, last) = (world.clone(), last.clone());
        async move {
            let mut connection = Connection::open(port).await?;
            let portfolios = share_of(&world.portfolios, caller, CALLERS);
            let paths: Vec<String> = portfolios.iter().map(|id| format!("/v1/portfolios/{id}/buy")).collect();
            let (mut did, mut number, mut seen) = (Caller::default(), 0, None);
            while Instant::now() < until {
                let since = Instant::now();
                let which = number % paths.len();
                let key = format!("{caller}-{number}");
                let answer = connection.post(&paths[which], &key, &world.buy(caller + number)).await?;
                number += 1;
                match answer.status {
                    201 => {
                        did.done(since);
                        seen = Some((which, answer));
                    }
                    // Overload is an answer, and counted as one.
                    503 => did.refused(),
                    _ => drop(answer.json::<Accepted>()?),
                }
            }
            if let Some((which, answer)) = seen {
                let place = answer.json::<Accepted>()?.place;
                *last.lock().expect("no caller panics while it holds this") =
                    Some((portfolios[which].clone(), place));
            }
            Ok(did)
        }
    })
    .await?;
    let cpu = program.cpu(database).since(before);
    let last: Option<(String, String)> = last.lock().expect("all callers have ended").take();
    let head = last.as_ref().and_then(|(_, place)| place.rsplit(':').next()?.parse::<i64>().ok());
    let measured = Measured::default()
        .load(&load)
        .cpu(cpu, load.count())
        .condition("callers", CALLERS)
        .condition("portfolios", PORTFOLIOS)
        .condition("body bytes", world.buy(0).len())
        .condition("events in the log", head);
    Ok((measured, last))
}
