//! Prices in bulk: NDJSON bodies of ticks, one after the other, on a few connections.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use serde::Deserialize;
use serde_json::json;

use crate::Settings;
use crate::http::Connection;
use crate::load::{Caller, Load};
use crate::outcome::Measured;
use crate::processes::{Data, Database, Program};
use crate::world::Accepted;

const CALLERS: usize = 4;
const LINES: usize = 20_000;
/// More than the lines that one window groups, so that no two ticks of a window are of the same asset.
const MANY_ASSETS: usize = 2_000;

#[derive(Deserialize)]
struct PricesAnswer {
    accepted: usize,
    rejected: usize,
}

/// All lines of a body are of one asset.
pub async fn thousand_an_event(settings: Settings) -> anyhow::Result<Measured> {
    prices(1_000, CALLERS, |caller, _| caller, settings).await
}

/// Neighbouring lines are of different assets.
pub async fn one_an_event(settings: Settings) -> anyhow::Result<Measured> {
    prices(1, MANY_ASSETS, |_, line| line % MANY_ASSETS, settings).await
}

async fn prices(
    an_event: usize,
    assets: usize,
    asset_of: fn(usize, usize) -> usize,
    settings: Settings,
) -> anyhow::Result<Measured> {
    let database = Database::start().await?;
    let program = Program::serve(&["api"], Data::At(&database)).await?;
    list(program.port, assets).await?;
    let (port, before) = (program.port, program.cpu(Some(&database)));
    let bodies = Load::run(CALLERS, settings.measure_for, |caller, until| async move {
        let mut connection = Connection::open(port).await?;
        let (mut did, mut number) = (Caller::default(), 0);
        while Instant::now() < until {
            let body = body(number, |line| asset_of(caller, line));
            let since = Instant::now();
            let answer = connection.post_lines("/v1/prices", &format!("{caller}-{number}"), &body).await?;
            number += 1;
            match answer.status {
                503 => did.refused(),
                _ => {
                    let answer: PricesAnswer = answer.json()?;
                    if answer.rejected > 0 || answer.accepted != LINES {
                        bail!("{} of {LINES} prices were accepted", answer.accepted);
                    }
                    did.done(since);
                }
            }
        }
        Ok(did)
    })
    .await?;
    let cpu = program.cpu(Some(&database)).since(before);
    let prices = bodies.count() * LINES;
    let measured = Measured::default()
        .figure("rate", prices as f64 / bodies.took.as_secs_f64(), "prices/s")
        .figure("a body, p50", bodies.latency_ms(0.5), "ms")
        .cpu(cpu, prices)
        .condition("callers", CALLERS)
        .condition("lines a body", LINES)
        .condition("body bytes", body(0, |line| asset_of(0, line)).len())
        .condition("assets", assets)
        .condition("prices an event", an_event)
        .condition("roles", "api");
    program.stop().await?;
    database.stop().await?;
    Ok(measured)
}

async fn list(port: u16, assets: usize) -> anyhow::Result<()> {
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let listers = (0..32).map(|_| {
        let next = next.clone();
        async move {
            let mut connection = Connection::open(port).await?;
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= assets {
                    return anyhow::Ok(());
                }
                let symbol = format!("P{number}");
                let body = json!({ "symbol": symbol, "name": symbol, "class": "equity", "currency": "USD" });
                connection.post("/v1/assets", &symbol, &body.to_string()).await?.json::<Accepted>()?;
            }
        }
    });
    futures::future::try_join_all(listers).await?;
    Ok(())
}

/// Ticks a second apart, later in each body.
fn body(number: usize, asset_of: impl Fn(usize) -> usize) -> String {
    let mut body = String::with_capacity(LINES * 80);
    for line in 0..LINES {
        let second = number * LINES + line;
        let (day, hour, minute) = (1 + second / 86_400, second / 3_600 % 24, second / 60 % 60);
        let (month, day) = (1 + day / 28 % 12, 1 + day % 28);
        let _ = writeln!(
            body,
            r#"{{"asset":"P{}","at":"2021-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z","price":"10.{:03}"}}"#,
            asset_of(line),
            second % 60,
            line % 1_000,
        );
    }
    body
}
