//! Holdings from the log: by the live projector that finds a log before it, and by a rebuild.

use std::time::{Duration, Instant};

use anyhow::bail;
use insight::domain::asset::{AssetClass, AssetEvent, AssetListed};
use insight::domain::currency::Currency;
use insight::domain::ids::{AssetId, InvestorId, PortfolioId, StreamId, Version};
use insight::domain::portfolio::event::{CashMode, CostBasis, PortfolioEvent, PortfolioOpened};
use insight::event_store::{self, Append, Appender, Outcome};
use insight::events::NewEvent;
use sqlx::PgPool;
use tokio::time::sleep;
use uuid::Uuid;

use super::event_store::{append, buy_of, recorded};
use crate::Settings;
use crate::machine::Cpu;
use crate::outcome::Measured;
use crate::processes::{Data, Database, Program};

const PORTFOLIOS: usize = 1_000;
const ASSETS: usize = 20;
const BUYS_EACH: usize = 200;
/// Of portfolios: each is opened, and buys.
const EVENTS: i64 = (PORTFOLIOS * (1 + BUYS_EACH)) as i64;
const POLL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(300);

/// `insight project holdings` starts behind the whole log, and is timed from its first rows to its last.
pub async fn live(_: Settings) -> anyhow::Result<Measured> {
    let database = Database::start().await?;
    let pool = database.pool().await?;
    fill(&database, &pool).await?;
    let program = Program::run(&["project", "holdings"], Data::At(&database))?;
    let (begun, before) = (applied_beyond(&pool, 0).await?, program.cpu(Some(&database)));
    let since = Instant::now();
    applied_beyond(&pool, EVENTS - 1).await?;
    let (took, cpu) = (since.elapsed(), program.cpu(Some(&database)).since(before));
    program.stop().await?;
    database.stop().await?;
    // What the first look has found was done before the clock ran.
    Ok(measured(EVENTS - begun, took, cpu))
}

/// `insight rebuild holdings`, from its start to its end.
pub async fn rebuild(_: Settings) -> anyhow::Result<Measured> {
    let database = Database::start().await?;
    fill(&database, &database.pool().await?).await?;
    let before = Cpu::so_far(&[], database.postmaster());
    let since = Instant::now();
    Program::run(&["rebuild", "holdings"], Data::At(&database))?.wait().await?;
    let took = since.elapsed();
    // The process has ended, so only what the server used can be told.
    let cpu = Cpu::so_far(&[], database.postmaster()).since(before);
    let measured = measured(EVENTS, took, cpu);
    database.stop().await?;
    Ok(measured)
}

fn measured(events: i64, took: Duration, cpu: Cpu) -> Measured {
    Measured::default()
        .figure("rate", events as f64 / took.as_secs_f64().max(1e-3), "events/s")
        .figure("all of it", took.as_secs_f64(), "s")
        .cpu(cpu, usize::try_from(events).unwrap_or(0))
        .condition("events", events)
        .condition("portfolios", PORTFOLIOS)
        .condition("assets", ASSETS)
}

/// Waits until more than so many events of portfolios are in the rows, and says how many are.
async fn applied_beyond(pool: &PgPool, events: i64) -> anyhow::Result<i64> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let versions = sqlx::query_scalar("select coalesce(sum(version), 0)::bigint from holdings.ledgers");
        // The tables may not be there yet.
        let applied: i64 = versions.fetch_one(pool).await.unwrap_or(0);
        if applied > events {
            return Ok(applied);
        }
        sleep(POLL).await;
    }
    bail!("the projector did not reach event {events} within {PATIENCE:?}")
}

/// A log of portfolios that buy in turn.
async fn fill(database: &Database, pool: &PgPool) -> anyhow::Result<()> {
    event_store::schema::apply(pool).await?;
    let mut appender = Appender::new(database.options());
    let assets: Vec<AssetId> = (0..ASSETS).map(|_| AssetId(Uuid::now_v7())).collect();
    let listings = assets
        .iter()
        .enumerate()
        .map(|(number, id)| append(id.stream(), Version(0), vec![listed(*id, number)]));
    store(&mut appender, listings.collect()).await?;

    let portfolios: Vec<PortfolioId> = (0..PORTFOLIOS).map(|_| PortfolioId(Uuid::now_v7())).collect();
    let openings = portfolios.iter().map(|id| append(id.stream(), Version(0), vec![opened(*id)]));
    store(&mut appender, openings.collect()).await?;
    let streams: Vec<StreamId> = portfolios.iter().map(|id| id.stream()).collect();
    for turn in 0..BUYS_EACH {
        let buys = streams.iter().enumerate().map(|(number, stream)| {
            let asset = assets[(turn + number) % assets.len()];
            let bought = recorded(PortfolioEvent::AssetBought(buy_of(asset)));
            append(stream.clone(), Version(1 + turn as i64), vec![bought])
        });
        store(&mut appender, buys.collect()).await?;
    }
    appender.close().await;
    Ok(())
}

async fn store(appender: &mut Appender, batch: Vec<Append>) -> anyhow::Result<()> {
    let answered = appender.append(&batch).await?;
    match answered.outcomes.iter().find(|outcome| !matches!(outcome, Outcome::Accepted { .. })) {
        None => Ok(()),
        Some(other) => bail!("an append nobody contends with was answered {other:?}"),
    }
}

fn listed(asset_id: AssetId, number: usize) -> NewEvent {
    recorded(AssetEvent::AssetListed(AssetListed {
        asset_id,
        symbol: format!("B{number:03}").parse().expect("capital letters and digits"),
        name: format!("Bench {number}"),
        class: AssetClass::Equity,
        currency: Currency::usd(),
        quote_unit: "1".parse().expect("a number"),
        isin: None,
        exchange: None,
    }))
}

fn opened(portfolio_id: PortfolioId) -> NewEvent {
    recorded(PortfolioEvent::PortfolioOpened(PortfolioOpened {
        portfolio_id,
        investor_id: InvestorId(Uuid::nil()),
        name: "Bench".into(),
        base_currency: Currency::usd(),
        time_zone: "UTC".into(),
        cost_basis: CostBasis::Fifo,
        fees_in_cost: false,
        cash: CashMode::Untracked,
        allow_short: false,
    }))
}
