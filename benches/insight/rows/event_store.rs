//! The event store alone: callers append one event each to streams of their own, at the version they know; whatever waits goes
//! into one batch.

use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use chrono::{DateTime, NaiveDate};
use insight::domain::currency::Currency;
use insight::domain::ids::{AssetId, PortfolioId, StreamId, Version};
use insight::domain::portfolio::event::{PortfolioEvent, Settlement, Trade};
use insight::event_store::{self, Append, Appender, Outcome, Part};
use insight::events::{Event, NewEvent};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::Settings;
use crate::load::{Caller, Load};
use crate::machine::Cpu;
use crate::outcome::Measured;
use crate::processes::Database;

const BATCH_COMMANDS_MAX: usize = 1_024;
const STREAMS: usize = 1_000;

type Queue = mpsc::Sender<(Append, oneshot::Sender<Outcome>)>;

/// As many as there are callers in the comparison with other event stores.
pub async fn callers_64(settings: Settings) -> anyhow::Result<Measured> {
    appends(64, settings).await
}

/// Enough to fill batches.
pub async fn callers_1024(settings: Settings) -> anyhow::Result<Measured> {
    appends(1_024, settings).await
}

async fn appends(callers: usize, settings: Settings) -> anyhow::Result<Measured> {
    let database = Database::start().await?;
    event_store::schema::apply(&database.pool().await?).await?;
    let (queue, waiting) = mpsc::channel(callers);
    let appending = tokio::spawn(append_what_waits(Appender::new(database.options()), waiting));
    let before = Cpu::so_far(&[], database.postmaster());
    let load = Load::run(callers, settings.measure_for, |_, until| {
        append_until(until, STREAMS.div_ceil(callers), queue.clone())
    })
    .await?;
    let cpu = Cpu::so_far(&[], database.postmaster()).since(before);
    drop(queue);
    let batches = appending.await??;
    let each = |us: u64| us as f64 / load.count().max(1) as f64;
    let measured = Measured::default()
        .load(&load)
        .figure("events a batch", load.count() as f64 / batches as f64, "")
        .figure("CPU an event, PostgreSQL", each(cpu.postgres_us), "µs")
        .figure("CPU an event, callers too", each(cpu.client_us), "µs")
        .condition("callers", callers)
        .condition("streams", STREAMS.max(callers))
        .condition("payload bytes", bought().payload.len());
    database.stop().await?;
    Ok(measured)
}

/// Drains what has queued up while the batch before was committing, and counts the batches.
async fn append_what_waits(
    mut appender: Appender,
    mut waiting: mpsc::Receiver<(Append, oneshot::Sender<Outcome>)>,
) -> anyhow::Result<usize> {
    let (mut batches, mut drained) = (0, Vec::with_capacity(BATCH_COMMANDS_MAX));
    while waiting.recv_many(&mut drained, BATCH_COMMANDS_MAX).await > 0 {
        let (batch, answers): (Vec<Append>, Vec<_>) = drained.drain(..).unzip();
        let answered = appender.append(&batch).await?;
        batches += 1;
        for (answer, outcome) in answers.into_iter().zip(answered.outcomes) {
            // A caller whose time is up no longer listens.
            let _ = answer.send(outcome);
        }
    }
    appender.close().await;
    Ok(batches)
}

async fn append_until(until: Instant, streams: usize, queue: Queue) -> anyhow::Result<Caller> {
    let mut streams: Vec<(StreamId, Version)> =
        (0..streams).map(|_| (PortfolioId(Uuid::now_v7()).stream(), Version(0))).collect();
    let mut did = Caller::default();
    for turn in 0.. {
        let since = Instant::now();
        if since >= until {
            break;
        }
        let which = turn % streams.len();
        let (stream_id, version) = &mut streams[which];
        let (answer, answered) = oneshot::channel();
        queue.send((append(stream_id.clone(), *version, vec![bought()]), answer)).await?;
        match answered.await? {
            Outcome::Accepted { .. } => *version = version.next(),
            other => bail!("an append nobody contends with was answered {other:?}"),
        }
        did.done(since);
    }
    Ok(did)
}

/// An append to one stream.
pub fn append(stream_id: StreamId, expected: Version, events: Vec<NewEvent>) -> Append {
    Append {
        command_id: Uuid::now_v7(),
        request_hash: Arc::from([7_u8; 32].as_slice()),
        correlation_id: Uuid::nil(),
        causation_position: None,
        actor: "bench".into(),
        parts: vec![Part { stream_id, expected: Some(expected), events }],
        guards: Vec::new(),
        details: None,
        refused: None,
    }
}

/// The event of a small buy.
fn bought() -> NewEvent {
    recorded(PortfolioEvent::AssetBought(buy_of(AssetId(Uuid::nil()))))
}

/// A small buy.
pub fn buy_of(asset_id: AssetId) -> Trade {
    let text = "the constants are numbers";
    Trade {
        asset_id,
        quantity: "12".parse().expect(text),
        price: "104.25".parse().expect(text),
        currency: Currency::usd(),
        amount: "1251".parse().expect(text),
        fee: "1".parse().expect(text),
        tax: "0".parse().expect(text),
        fx_rate: None,
        settle: Settlement::Asset,
        cash: None,
        trade_date: NaiveDate::from_ymd_opt(2020, 3, 2).expect("a day"),
        note: None,
    }
}

/// A fact as the log takes it.
pub fn recorded(fact: impl Into<Event>) -> NewEvent {
    let fact = fact.into();
    let kind = fact.kind();
    NewEvent {
        event_type: kind.event_type,
        schema_version: kind.schema_version,
        payload: fact.encode(),
        occurred_at: DateTime::UNIX_EPOCH,
    }
}
