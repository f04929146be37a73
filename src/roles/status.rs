//! `insight status`: how the installation is doing, in a table or as the document that the API answers.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use sqlx::PgPool;

use super::process::{self, log_format};
use super::visit::Visit;
use crate::config::Settings;
use crate::kafka::groups::{self, Member};
use crate::kafka::{KafkaSettings, topics};
use crate::queries;
use crate::queries::status::{Bus, BusNames, Owner, ReadModel, Status, Work, Worker, WorkerRun, load};
use crate::relay;

/// How long the brokers may take to say who is in a group.
const ASKED_WITHIN: Duration = Duration::from_secs(3);

/// Prints it. The exit code tells whether something is stuck.
///
/// # Errors
/// A database that cannot be asked.
pub async fn run(settings: Settings, as_json: bool) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(&settings), "error")?;
    let visit = Visit::open(&settings).await?;
    let asked = ask(visit.pool.clone(), process::kafka(&settings)).await;
    visit.close().await?;
    let status = asked?;
    if as_json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}", table(&status));
    }
    Ok(if status.stuck.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks the database and, where there is a bus, the brokers.
pub(super) async fn ask(pool: PgPool, kafka: Option<KafkaSettings>) -> Result<Status, queries::Error> {
    let Some(kafka) = kafka else { return load(&pool, None).await };
    let kafka = KafkaSettings { request_timeout: ASKED_WITHIN, ..kafka };
    let names = BusNames {
        relay_lock: relay::lock_name(&kafka),
        topics: topics::all_shards().filter_map(|shard| Some((shard.0, kafka.topic_of(shard)?))).collect(),
    };
    let mut status = load(&pool, Some(&names)).await?;
    let wanted = status.read_models.iter().map(|it| format!("projector.{}", it.name)).collect();
    let asked = tokio::time::timeout(ASKED_WITHIN, groups::members(&kafka, wanted)).await;
    match asked {
        Ok(Ok(found)) => {
            for (read_model, members) in status.read_models.iter_mut().zip(found) {
                read_model.owners = members.into_iter().map(owner).collect();
            }
        }
        Ok(Err(error)) => trouble(&mut status, error.to_string()),
        Err(_) => trouble(&mut status, format!("no answer from {} within {ASKED_WITHIN:?}", kafka.brokers)),
    }
    status.judge();
    Ok(status)
}

fn trouble(status: &mut Status, reason: String) {
    if let Some(bus) = &mut status.bus {
        bus.trouble = Some(reason);
    }
}

fn owner(member: Member) -> Owner {
    let shards = member.shards.iter().map(|shard| shard.0).collect();
    Owner { who: member.client_id, host: Some(member.host), shards }
}

fn table(status: &Status) -> String {
    let mut text = String::new();
    let head = &status.head;
    let since = head.recorded_at.map_or("empty".to_owned(), |at| format!("recorded {}", at.to_rfc3339()));
    let mut line = |line: String| writeln!(text, "{}", line.trim_end()).expect("memory takes text");
    line(format!(
        "log ends at {}:{}, {since}, {:.0} events/s\n",
        head.epoch, head.position, status.appended_per_second
    ));
    line(format!(
        "{:<15}{:>12}{:>10}{:>9}{:>11}{:>8}  {}",
        "", "position", "behind", "", "events/s", "parked", "owners"
    ));
    for it in &status.read_models {
        let ReadModel { name, position, lag_events, lag_seconds, events_per_second, .. } = it;
        let name = format!("{name} v{}", it.shape_version);
        let shape = if it.shape.is_some() { owners(&it.owners) } else { "no tables".to_owned() };
        line(format!(
            "{name:<15}{position:>12}{lag_events:>10}{lag_seconds:>7.1} s{events_per_second:>11.0}{:>8}  {shape}",
            it.parked_count
        ));
    }
    for it in status.read_models.iter().filter(|it| it.skipped_count > 0) {
        line(format!("{}: {} skipped on purpose", it.name, it.skipped_count));
    }
    for it in &status.read_models {
        for parked in &it.parked {
            line(format!(
                "{}: {} is parked at {}: {}",
                it.name, parked.stream_id, parked.position, parked.reason
            ));
        }
    }
    let Work { scheduler, jobs, open_runs, waiting_seconds, workers } = &status.work;
    line(format!("\nscheduler: {}", scheduler.as_ref().map_or("nobody", |scheduler| &scheduler.who)));
    let waits = match *waiting_seconds {
        seconds if seconds > 0.0 => format!(", one waits for {seconds:.0} s"),
        _ => String::new(),
    };
    line(format!("{jobs} jobs, {open_runs} open runs{waits}"));
    for worker in workers {
        let Worker { who, slots, shards, runs } = worker;
        line(format!("worker {who}: {} of {slots} slots in use, shards {}", runs.len(), ranges(shards)));
        runs.iter().for_each(|run| line(told(run)));
    }
    if let Some(Bus { relay, topics, .. }) = &status.bus {
        line(format!("\nrelay: {}", relay.as_ref().map_or("nobody", |relay| &relay.who)));
        for topic in topics {
            line(format!(
                "{:<24}{:>12}{:>10}{:>7.1} s",
                topic.name, topic.position, topic.lag_events, topic.lag_seconds
            ));
        }
    }
    for reason in &status.stuck {
        line(format!("\nstuck: {reason}"));
    }
    text
}

fn told(run: &WorkerRun) -> String {
    let WorkerRun { job, run_id, attempt, seconds, done, total } = run;
    let job = job.as_deref().unwrap_or("a job");
    let progress = match (done, total) {
        (Some(done), Some(total)) => format!(", {done} of {total}"),
        _ => String::new(),
    };
    format!("  {job}, run {run_id}, attempt {attempt}, for {seconds:.0} s{progress}")
}

fn owners(owners: &[Owner]) -> String {
    let told = owners.iter().map(|owner| format!("{} ({})", owner.who, ranges(&owner.shards)));
    if owners.is_empty() { "nobody".to_owned() } else { told.collect::<Vec<_>>().join(", ") }
}

/// `0-3 7` for 0, 1, 2, 3 and 7.
fn ranges(shards: &[i16]) -> String {
    let mut runs: Vec<(i16, i16)> = Vec::new();
    for shard in shards {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *shard => *last = *shard,
            _ => runs.push((*shard, *shard)),
        }
    }
    let told = runs.iter().map(
        |(first, last)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        },
    );
    if runs.is_empty() { "no shards".to_owned() } else { told.collect::<Vec<_>>().join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_told_in_runs() {
        assert_eq!(ranges(&[]), "no shards");
        assert_eq!(ranges(&[0, 1, 2, 3, 7, 9, 10]), "0-3 7 9-10");
    }
}
