//! From the acknowledgement of a buy until a read shows it, under a steady load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::Settings;
use crate::http::Connection;
use crate::load::{Caller, Load, share_of};
use crate::outcome::Measured;
use crate::processes::{Data, Program, data_folder};
use crate::world::{Accepted, World, read_at};

const CALLERS: usize = 64;
const PORTFOLIOS: usize = 1_000;
const BUYS_PER_SECOND: f64 = 5_000.0;
/// Every so manieth buy is waited for.
const WATCHED_EVERY: usize = 100;

/// What was bought and what was seen of it share one clock: the watcher asks the moment the buy is acknowledged.
pub async fn append_to_visible(settings: Settings) -> anyhow::Result<Measured> {
    let folder = data_folder()?;
    let program = Program::serve(&["all"], Data::Embedded(folder.path())).await?;
    let world = Arc::new(World::make(program.port, PORTFOLIOS).await?);
    let (port, before) = (program.port, program.cpu(None));
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let buys = Load::run(CALLERS, settings.measure_for, |caller, until| {
        let (world, seen) = (world.clone(), seen.clone());
        async move {
            let mut connection = Connection::open(port).await?;
            let mut watcher = Connection::open(port).await?;
            let portfolios = share_of(&world.portfolios, caller, CALLERS);
            let pause = Duration::from_secs_f64(CALLERS as f64 / BUYS_PER_SECOND);
            let first = Instant::now() + pause.mul_f64(caller as f64 / CALLERS as f64);
            let mut did = Caller::default();
            for number in 0.. {
                // A schedule, not a pause after each: who is late catches up, so the rate holds as long as it can.
                let due = first + pause * number;
                if due >= until {
                    break;
                }
                tokio::time::sleep_until(due.into()).await;
                let (since, number) = (Instant::now(), number as usize);
                let portfolio = &portfolios[number % portfolios.len()];
                let path = format!("/v1/portfolios/{portfolio}/buy");
                let key = format!("{caller}-{number}");
                let answer = connection.post(&path, &key, &world.buy(caller + number)).await?;
                let accepted: Accepted = answer.json()?;
                did.done(since);
                if (number + caller).is_multiple_of(WATCHED_EVERY) {
                    let acknowledged = Instant::now();
                    read_at(&mut watcher, portfolio, "holdings", &accepted.place).await?;
                    seen.lock().expect("nobody panics while holding this").push(acknowledged.elapsed());
                }
            }
            Ok(did)
        }
    })
    .await?;
    let cpu = program.cpu(None).since(before);
    let seen = std::mem::take(&mut *seen.lock().expect("all callers have ended"));
    if seen.is_empty() {
        bail!("nothing was watched: measure for longer");
    }
    let visible = Load::of(buys.took, &seen);
    let measured = Measured::default()
        .figure("visible after, p50", visible.latency_ms(0.50), "ms")
        .figure("visible after, p99", visible.latency_ms(0.99), "ms")
        .figure("buys reached", buys.per_second(), "/s")
        .figure("buy, p99", buys.latency_ms(0.99), "ms")
        .cpu(cpu, buys.count())
        .condition("buys wanted a second", BUYS_PER_SECOND)
        .condition("watched", visible.count())
        .condition("portfolios", PORTFOLIOS)
        .condition("roles", "all");
    program.stop().await?;
    Ok(measured)
}
