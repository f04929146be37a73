//! `insight replay`: events of the log on standard output, a line each, for other programs.

use std::io::{BufWriter, ErrorKind, Write, stdout};
use std::process::ExitCode;

use anyhow::bail;
use sqlx::PgPool;

use super::process::log_format;
use super::visit::Visit;
use crate::config::{Replay, Settings};
use crate::domain::ids::{Epoch, Position, StreamId};
use crate::event_store::read;
use crate::events::{CloudEvent, Envelope, EnvelopeLine, Event};
use crate::queries::log::feed::{Fed, Filter, PageSize, page};

/// Events that are read at once, where they are small.
const READ_EVENTS: usize = 5_000;

/// Prints what was asked for. A reader that goes away is no failure.
///
/// # Errors
/// A place or a stream that the log does not have, a database that cannot be read, an output that cannot be written.
pub async fn run(settings: Settings, wanted: Replay) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(&settings), "warn")?;
    if let Some(told) = &wanted.r#type
        && !Event::KINDS.iter().any(|kind| kind.event_type == told)
    {
        let known: Vec<&str> = Event::KINDS.iter().map(|kind| kind.event_type).collect();
        bail!("--type {told}: there is no such type of event; known are {}", known.join(", "));
    }
    let visit = Visit::open(&settings).await?;
    let replayed = replay(&visit.pool, &wanted).await;
    visit.close().await?;
    replayed?;
    Ok(ExitCode::SUCCESS)
}

async fn replay(pool: &PgPool, wanted: &Replay) -> anyhow::Result<()> {
    let head = read::head(pool).await?;
    let from = wanted.from.map_or(Position(1), |(_, position)| Position(position));
    let to = wanted.to.map_or(head, |(_, position)| Position(position));
    for (flag, told, position) in [("--from", wanted.from, from), ("--to", wanted.to, to)] {
        if told.is_some() && position > head {
            bail!("{flag} {position}: the log ends at position {head}");
        }
    }
    if to < from && wanted.to.is_some() {
        bail!("--to {to} stands before --from {from}");
    }
    let filter =
        Filter { event_type: wanted.r#type.clone(), stream: wanted.stream.as_deref().map(StreamId::from) };
    // The end is looked at first, so that both places are known to be of this history.
    if let Some((Some(epoch), position)) = wanted.to {
        find(pool, Some(Epoch(epoch)), Position(position), 1, &filter).await?;
    }
    let epoch = wanted.from.and_then(|(epoch, _)| epoch).map(Epoch);
    if let (Some(_), Some((_, position))) = (epoch, wanted.from) {
        find(pool, epoch, Position(position), 1, &filter).await?;
    }

    let mut out = BufWriter::with_capacity(1 << 16, stdout().lock());
    let mut after = Position(from.0 - 1);
    while after < to {
        let (events, next) = find(pool, None, after, READ_EVENTS, &filter).await?;
        after = next;
        for event in events.iter().take_while(|event| event.position <= to) {
            if !written(writeln!(out, "{}", line(event, wanted.cloudevents)))? {
                return Ok(());
            }
        }
    }
    written(out.flush())?;
    Ok(())
}

async fn find(
    pool: &PgPool,
    epoch: Option<Epoch>,
    after: Position,
    limit: usize,
    filter: &Filter,
) -> anyhow::Result<(Vec<Envelope>, Position)> {
    match page(pool, epoch, after, PageSize::of(limit), filter).await? {
        Fed::Page(found) => Ok((found.events, found.next.1)),
        Fed::NoStream => {
            bail!("there is no stream {}", filter.stream.as_ref().map_or("", StreamId::as_str))
        }
        Fed::Elsewhere => {
            let epoch = epoch.map(|epoch| format!("{epoch}:")).unwrap_or_default();
            bail!("{epoch}{after} is a place of another history than this log's")
        }
    }
}

fn line(event: &Envelope, as_cloud_event: bool) -> String {
    if as_cloud_event { CloudEvent::from(event).line() } else { EnvelopeLine::from(event).line() }
}

/// Whether there is still somebody who reads.
fn written(outcome: std::io::Result<()>) -> anyhow::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => bail!("cannot write: {error}"),
    }
}
