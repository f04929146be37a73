//! Lists of portfolios, filtered and ordered, and the first ones: over 100,000 portfolios whose rows were made by SQL.
//!
//! Two loads. `lists` asks what people ask: thirty-two callers, two dozen questions, so that many ask the same at once. The
//! other one asks nothing twice: every question has a cursor or a filter of its own, and all of it is read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::Settings;
use crate::http::Connection;
use crate::load::{Caller, Load};
use crate::machine;
use crate::outcome::Measured;
use crate::processes::{Data, Database, Program};

const CALLERS: usize = 32;
const PORTFOLIOS: usize = 100_000;
const ORDERS: [&str; 6] = ["name", "asset_count", "volatility", "sharpe", "value", "risk"];

/// What people ask.
pub async fn asked_by_many(settings: Settings) -> anyhow::Result<Measured> {
    let mut questions: Vec<String> = Vec::new();
    for by in ORDERS {
        questions.push(format!("/v1/portfolios?order={by}"));
        questions.push(format!("/v1/portfolios?order=-{by}"));
    }
    for band in ["low", "medium", "high"] {
        questions.push(format!("/v1/portfolios?risk_band={band}&order=-sharpe"));
        questions.push(format!("/v1/portfolios?risk_band={band}&order=name"));
    }
    for sharpe in ["0.5", "1", "2.5"] {
        questions.push(format!("/v1/portfolios?min_sharpe={sharpe}&order=volatility"));
    }
    for by in ["sharpe", "volatility", "value"] {
        questions.push(format!("/v1/portfolios/top?limit=10&by={by}"));
    }
    measure(settings, move |caller, turn| questions[(caller * 7 + turn) % questions.len()].clone()).await
}

/// What nobody else asks at the time.
pub async fn asked_by_one(settings: Settings) -> anyhow::Result<Measured> {
    measure(settings, |caller, turn| {
        let drawn = (caller * 7_919 + turn * 104_729) % 100_003;
        let (by, sign) = (ORDERS[drawn % 6], if drawn % 2 == 0 { "" } else { "-" });
        let part = drawn as f64 / 100_003.0;
        match drawn % 4 {
            0 => format!("/v1/portfolios?order={sign}{by}&min_sharpe={:.6}", part * 2.0 - 1.0),
            1 => format!("/v1/portfolios?order={sign}{by}&value_min={drawn}"),
            2 => format!("/v1/portfolios?order={sign}{by}&risk_band=high&value_min={drawn}"),
            _ => {
                format!("/v1/portfolios?order={sign}sharpe&risk_band=low&min_sharpe={:.6}", part * 2.0 - 1.0)
            }
        }
    })
    .await
}

async fn measure(
    settings: Settings,
    question: impl Fn(usize, usize) -> String + Send + Sync + 'static,
) -> anyhow::Result<Measured> {
    let database = Database::start().await?;
    let pool = database.pool().await?;
    insight::event_store::schema::apply(&pool).await.context("the log's tables")?;
    insight::projectors::schema::apply_all(&pool).await.context("the read models' tables")?;
    let rows =
        include_str!("../../../tests/data/many_rows.sql").replace("$portfolios", &PORTFOLIOS.to_string());
    sqlx::raw_sql(AssertSqlSafe(rows)).execute(&pool).await.context("the rows")?;
    // As autovacuum would have by the time that somebody asks.
    sqlx::raw_sql("vacuum analyze").execute(&pool).await?;
    pool.close().await;

    let load_before = machine::load_average();
    let program = Program::serve(&["api"], Data::At(&database)).await?;
    let (port, before) = (program.port, program.cpu(Some(&database)));
    let mut slowest = (Duration::ZERO, String::new());
    let mut bytes = 0;
    {
        let mut connection = Connection::open(port).await?;
        for turn in 0..200 {
            let path = question(turn % CALLERS, turn);
            let since = Instant::now();
            let answer = connection.get(&path).await?;
            bytes = bytes.max(answer.body.len());
            drop(answer.json::<Value>()?);
            slowest = slowest.max((since.elapsed(), path));
        }
    }
    let question = Arc::new(question);
    let load = Load::run(CALLERS, settings.measure_for, |caller, until| {
        let question = question.clone();
        async move {
            let mut connection = Connection::open(port).await?;
            let mut did = Caller::default();
            for turn in 0.. {
                let path = question(caller, turn);
                let since = Instant::now();
                if since >= until {
                    break;
                }
                let answer = connection.get(&path).await?;
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
    let cpu = program.cpu(Some(&database)).since(before);
    let measured = Measured::default()
        .load(&load)
        .figure("alone, the slowest of 200", slowest.0.as_secs_f64() * 1_000.0, "ms")
        .cpu(cpu, load.count())
        .condition("callers", CALLERS)
        .condition("portfolios", PORTFOLIOS)
        .condition("answer bytes", bytes)
        .condition("the slowest alone", slowest.1)
        .condition("load average before", load_before)
        .condition("load average after", machine::load_average())
        .condition("roles", "api");
    program.stop().await?;
    database.stop().await?;
    Ok(measured)
}
