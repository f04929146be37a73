//! Scheduled work: a job that computes the risk of every portfolio anew, from the call that runs it to the word that it is done.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::risk::{HELD, closes};
use crate::Settings;
use crate::http::Connection;
use crate::outcome::Measured;
use crate::processes::{Data, Program, data_folder};
use crate::world::{Accepted, World, read_at};

const PORTFOLIOS: usize = 10_000;
const CALLERS: usize = 64;
const RUNS: usize = 3;
const FINISHED_WITHIN: Duration = Duration::from_secs(300);

/// Every portfolio holds the same number of assets.
pub async fn every_portfolio(_: Settings) -> anyhow::Result<Measured> {
    let folder = data_folder()?;
    let program = Program::serve(&["all"], Data::Embedded(folder.path())).await?;
    let world = World::make(program.port, PORTFOLIOS).await?;
    let mut connection = Connection::open(program.port).await?;
    let posted: Value = connection.post_lines("/v1/prices", "closes", &closes(&world)).await?.json()?;
    if posted["rejected"] != 0 {
        bail!("closes were rejected: {posted}");
    }
    let closed = posted["place"].as_str().context("a place")?.to_owned();
    let last = fill(&world, program.port).await?;
    // Everything that there is to compute without being asked is computed.
    for portfolio in world.portfolios.iter().take(CALLERS) {
        read_at(&mut connection, portfolio, "risk", &closed).await?;
    }
    for (portfolio, place) in last {
        read_at(&mut connection, &portfolio, "risk", &place).await?;
    }

    let job = json!({
        "name": "nightly", "kind": "recompute-risk", "schedule": { "interval_seconds": 31_622_400 }, "attempts_max": 1,
    });
    connection.post("/v1/jobs", "job", &job.to_string()).await?.json::<Accepted>()?;
    let before = program.cpu(None);
    let mut times = Vec::new();
    for run in 0..RUNS {
        let since = Instant::now();
        let asked = connection.post("/v1/jobs/nightly/run", &format!("run-{run}"), "{}").await?;
        wait(&mut connection, run + 1, &asked.json::<Accepted>()?.place).await?;
        times.push(since.elapsed());
    }
    let cpu = program.cpu(None).since(before);
    let slowest = times.iter().max().copied().unwrap_or_default();
    let best = times.iter().min().copied().unwrap_or_default();
    let rate = |took: Duration| PORTFOLIOS as f64 / took.as_secs_f64();
    program.stop().await?;
    Ok(Measured::default()
        .figure("portfolios, slowest run", rate(slowest), "/s")
        .figure("portfolios, fastest run", rate(best), "/s")
        .cpu(cpu, PORTFOLIOS * RUNS)
        .condition("portfolios", PORTFOLIOS)
        .condition("holdings each", HELD)
        .condition("scenarios", "750 + 1,000 + 16,384")
        .condition("runs", RUNS)
        .condition("roles", "all"))
}

/// Buys what each portfolio holds; gives some of the last places.
async fn fill(world: &World, port: u16) -> anyhow::Result<Vec<(String, String)>> {
    let callers = (0..CALLERS).map(|caller| async move {
        let mut connection = Connection::open(port).await?;
        let mut last = None;
        for portfolio in world.portfolios.iter().skip(caller).step_by(CALLERS) {
            for number in 0..HELD {
                let path = format!("/v1/portfolios/{portfolio}/buy");
                let key = format!("{portfolio}-{number}");
                let answer = connection.post(&path, &key, &world.buy(number)).await?;
                last = Some((portfolio.clone(), answer.json::<Accepted>()?.place));
            }
        }
        anyhow::Ok(last)
    });
    Ok(futures::future::try_join_all(callers).await?.into_iter().flatten().collect())
}

/// Waits until so many runs have finished, the last of which was asked for at this place.
async fn wait(connection: &mut Connection, runs: usize, place: &str) -> anyhow::Result<()> {
    let since = Instant::now();
    let path = format!("/v1/jobs/nightly/runs?min_position={place}&max_wait_ms=10000");
    while since.elapsed() < FINISHED_WITHIN {
        let told: Value = connection.get(&path).await?.json()?;
        let states: Vec<&str> = states(&told);
        if states.contains(&"failed") {
            bail!("a run has failed: {told}");
        }
        if states.iter().filter(|state| **state == "finished").count() >= runs {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
    bail!("no end of the run within {FINISHED_WITHIN:?}")
}

fn states(told: &Value) -> Vec<&str> {
    let runs = told["items"].as_array().into_iter().flatten();
    runs.filter_map(|run| run["state"].as_str()).collect()
}
