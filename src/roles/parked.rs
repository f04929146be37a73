//! `insight parked list|retry|skip`: streams that hold an event which could not be applied.

use std::process::ExitCode;

use super::process::log_format;
use super::project::engine;
use super::read_model_names;
use super::visit::Visit;
use crate::config::Settings;
use crate::domain::ids::StreamId;
use crate::projectors::schema;
use crate::projectors::unpark::{Cure, ParkedStream, Unparked, list_parked, list_skipped, unpark};

/// Prints the parked streams of one read model or of all, and the events that are done without.
///
/// # Errors
/// A database that cannot be asked.
pub async fn list(settings: Settings, read_model: Option<String>) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(&settings), "error")?;
    let visit = Visit::open(&settings).await?;
    let names = match &read_model {
        Some(name) => vec![name.as_str()],
        None => read_model_names(),
    };
    let listed = async {
        schema::apply_all(&visit.pool).await?;
        let mut count = 0;
        for name in names {
            for parked in list_parked(&visit.pool, name).await? {
                count += 1;
                println!("{}", told(name, &parked));
            }
            for it in list_skipped(&visit.pool, name).await? {
                let at = it.skipped_at.to_rfc3339();
                println!(
                    "{name}: {} was skipped at {} on {at}: {} ({})",
                    it.stream_id, it.position, it.reason, it.poison
                );
            }
        }
        if count == 0 {
            println!("nothing is parked");
        }
        anyhow::Ok(())
    };
    let listed = listed.await;
    visit.close().await?;
    listed?;
    Ok(ExitCode::SUCCESS)
}

/// Catches up one parked stream, or all of a read model. The exit code tells whether one is still parked.
///
/// # Errors
/// A stream that is not parked, a database that cannot be used.
pub async fn retry(settings: Settings, read_model: &str, stream: Option<&str>) -> anyhow::Result<ExitCode> {
    cure(settings, read_model, stream, Cure::Retry).await
}

/// Does without the bad event of a stream, for good, and goes on after it.
///
/// # Errors
/// As [`retry`].
pub async fn skip(
    settings: Settings,
    read_model: &str,
    stream: &str,
    reason: &str,
) -> anyhow::Result<ExitCode> {
    cure(settings, read_model, Some(stream), Cure::Skip(reason)).await
}

async fn cure(
    settings: Settings,
    read_model: &str,
    stream: Option<&str>,
    cure: Cure<'_>,
) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(&settings), "off")?;
    let visit = Visit::open(&settings).await?;
    let cured = async {
        schema::apply_all(&visit.pool).await?;
        let streams = match stream {
            Some(stream) => vec![StreamId::from(stream)],
            None => list_parked(&visit.pool, read_model).await?.into_iter().map(|it| it.stream_id).collect(),
        };
        if streams.is_empty() {
            println!("nothing is parked in {read_model}");
        }
        let mut all_well = true;
        for stream in streams {
            match unpark(read_model, &visit.pool, &stream, cure, engine(&settings.risk)).await? {
                Unparked::CaughtUp { events } => {
                    println!("{read_model}: {stream} has caught up, {events} events were applied");
                }
                Unparked::Again(parked) => {
                    all_well = false;
                    println!("{}", told(read_model, &parked));
                }
            }
        }
        if all_well && read_model == "prices" {
            println!("processes that project valuations or risk hold prices in memory: restart them");
        }
        anyhow::Ok(all_well)
    };
    let cured = cured.await;
    visit.close().await?;
    Ok(if cured? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told(read_model: &str, parked: &ParkedStream) -> String {
    let ParkedStream { stream_id, position, event_id, reason } = parked;
    format!("{read_model}: {stream_id} is parked at {position}, event {event_id}: {reason}")
}
