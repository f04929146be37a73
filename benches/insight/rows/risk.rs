//! Risk: the kernel alone, and from a trade to the figures that anyone can read.

use std::fmt::Write;
use std::time::Instant;

use anyhow::{Context, bail};
use chrono::{Datelike, NaiveDate, Weekday};
use insight::risk::{Column, ExposureVector, Pool, Scenarios, TailFigures, engine};
use serde_json::Value;

use crate::Settings;
use crate::http::Connection;
use crate::load::Load;
use crate::outcome::Measured;
use crate::processes::{Data, Program, data_folder};
use crate::world::{ASSETS, Accepted, World, read_at};

const PORTFOLIOS: usize = 1_000;
const BATCHES: usize = 16;
pub(super) const HELD: usize = 20;
const TRADES: usize = 200;
/// Days of closes: enough for the model's window.
const CLOSES: usize = 1_100;

/// Every core computes whole portfolios on one shared matrix.
pub async fn exact_figures(_: Settings) -> anyhow::Result<Measured> {
    kernel(HELD, 100_000, Pool::new(0)?)
}

/// One core, 500 assets, each portfolio holding 20 of them.
pub async fn whole_market_tick(_: Settings) -> anyhow::Result<Measured> {
    kernel(500, 16_384, Pool::new(1)?)
}

fn kernel(assets: usize, scenarios: usize, pool: Pool) -> anyhow::Result<Measured> {
    let matrix = scenario_matrix(assets, scenarios);
    let portfolios: Vec<ExposureVector> =
        (0..PORTFOLIOS).map(|number| exposures(number, assets)).collect::<Result<_, _>>()?;
    let mut times = Vec::new();
    for _ in 0..3 {
        let since = Instant::now();
        let figures = pool.map(&portfolios, |exposures| engine::tail_figures(&matrix, exposures));
        times.push(since.elapsed());
        if !figures.iter().all(TailFigures::is_complete) {
            bail!("a figure is missing");
        }
    }
    let best = times.into_iter().min().context("three times were taken")?;
    Ok(Measured::default()
        .figure("1,000 portfolios", best.as_secs_f64() * 1_000.0, "ms")
        .figure(
            "a portfolio, a core",
            best.as_secs_f64() * 1_000.0 * pool.threads() as f64 / PORTFOLIOS as f64,
            "ms",
        )
        .figure("portfolios", PORTFOLIOS as f64 / best.as_secs_f64(), "/s")
        .condition("threads", pool.threads())
        .condition("scenarios", scenarios)
        .condition("assets", assets)
        .condition("held", HELD)
        .condition("best of", 3))
}

/// Returns that share a market factor; what they are does not change what they cost.
fn scenario_matrix(assets: usize, scenarios: usize) -> Scenarios {
    let per_batch = scenarios / BATCHES;
    let mut random = Lehmer(1);
    let block = |_| {
        let market: Vec<f64> = (0..per_batch).map(|_| 0.01 * random.bell()).collect();
        let column = |_| market.iter().map(|r| r + 0.01 * random.bell()).collect::<Vec<f64>>();
        (0..assets).flat_map(column).collect::<Vec<f64>>()
    };
    Scenarios::from_blocks(assets, per_batch, (0..BATCHES).map(block).collect())
}

fn exposures(number: usize, assets: usize) -> Result<ExposureVector, insight::risk::Error> {
    let mut random = Lehmer(2 + number as u64);
    let held = (0..HELD).map(|k| (number * 7 + k * (assets / HELD)) % assets);
    let amounts: Vec<(Column, f64)> =
        held.map(|asset| (Column::Risky(asset), 1_000.0 * (1.0 + random.uniform()))).collect();
    ExposureVector::new(Column::Numeraire, &amounts)
}

/// A small generator: these numbers only have to differ.
struct Lehmer(u64);

impl Lehmer {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn bell(&mut self) -> f64 {
        (0..4).map(|_| self.uniform()).sum::<f64>() * 1.732 - 3.464
    }
}

/// One trade after the other; each is timed until the risk of its portfolio reflects it.
pub async fn after_a_trade(_: Settings) -> anyhow::Result<Measured> {
    let folder = data_folder()?;
    let program = Program::serve(&["all"], Data::Embedded(folder.path())).await?;
    let world = World::make(program.port, 100).await?;
    let mut connection = Connection::open(program.port).await?;
    let closes: Value = connection.post_lines("/v1/prices", "closes", &closes(&world)).await?.json()?;
    if closes["rejected"] != 0 {
        bail!("closes were rejected: {closes}");
    }
    let closes = closes["place"].as_str().context("a place")?.to_owned();
    for portfolio in world.portfolios.iter() {
        for number in 0..HELD {
            let path = format!("/v1/portfolios/{portfolio}/buy");
            connection
                .post(&path, &format!("fill-{number}"), &world.buy(number))
                .await?
                .json::<Accepted>()?;
        }
    }
    // The model is made some seconds after the last close.
    for portfolio in world.portfolios.iter() {
        let risk: Value = read_at(&mut connection, portfolio, "risk", &closes).await?.json()?;
        if !risk["value_at_risk_99"].is_number() {
            bail!("there is no figure to begin with: {risk}");
        }
    }
    let (began, before) = (Instant::now(), program.cpu(None));
    let mut times = Vec::with_capacity(TRADES);
    for number in 0..TRADES {
        let portfolio = &world.portfolios[number % world.portfolios.len()];
        let path = format!("/v1/portfolios/{portfolio}/buy");
        let answer = connection.post(&path, &format!("trade-{number}"), &world.buy(number)).await?;
        let since = Instant::now();
        read_at(&mut connection, portfolio, "risk", &answer.json::<Accepted>()?.place).await?;
        times.push(since.elapsed());
    }
    let cpu = program.cpu(None).since(before);
    let load = Load::of(began.elapsed(), &times);
    let measured = Measured::default()
        .figure("visible after, p50", load.latency_ms(0.50), "ms")
        .figure("visible after, p99", load.latency_ms(0.99), "ms")
        .cpu(cpu, TRADES)
        .condition("trades", TRADES)
        .condition("portfolios", world.portfolios.len())
        .condition("holdings each", HELD.min(ASSETS))
        .condition("scenarios", "750 + 1,000 + 16,384")
        .condition("roles", "all");
    program.stop().await?;
    Ok(measured)
}

/// A close on every weekday for every asset.
pub(super) fn closes(world: &World) -> String {
    let start = NaiveDate::from_ymd_opt(2018, 1, 1).expect("a day");
    let weekdays = start.iter_days().filter(|day| !matches!(day.weekday(), Weekday::Sat | Weekday::Sun));
    let days: Vec<NaiveDate> = weekdays.take(CLOSES).collect();
    let mut lines = String::new();
    for (number, symbol) in world.assets.iter().enumerate() {
        let mut random = Lehmer(number as u64);
        let mut price = 50.0;
        for day in &days {
            price *= 1.0 + 0.02 * random.bell();
            let _ = writeln!(lines, r#"{{"asset":"{symbol}","day":"{day}","price":"{price:.4}"}}"#);
        }
    }
    lines
}
