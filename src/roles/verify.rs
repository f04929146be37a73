//! `insight verify`: the log against its promises, its seals and its copy on Kafka, the rows against a reference ledger.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use sqlx::PgPool;
use tokio::time::Instant;

use super::process::{ACQUIRE_WITHIN, check_topics, close, log_format, need_kafka};
use super::visit::reach;
use crate::config::{self, Settings};
use crate::event_store::seal::SealAt;
use crate::kafka::KafkaSettings;
use crate::postgres::{self, Session};
use crate::verify::{self, Options, Progress, Sample, SealsReport, TopicReport};

/// Prints what differs; the exit code tells whether anything does.
///
/// # Errors
/// A database that cannot be reached or read.
pub async fn run(settings: Settings, what: config::Verify) -> anyhow::Result<ExitCode> {
    // Rows of a whole table come in one statement, which may take its time.
    crate::telemetry::init_logs(log_format(&settings), "warn,sqlx::query=error")?;
    // Before anything is started: what is wrong with them does not depend on the database.
    let kept = what.seals.as_deref().map(read_kept).transpose()?;
    let sample = sample(&what)?;
    let kafka = what.topic.then(|| need_kafka(&settings)).transpose()?;
    let (options, embedded) = reach(&settings).await?;
    let session = Session {
        connections_max: settings.storage.pool_size,
        acquire_timeout: ACQUIRE_WITHIN,
        ..Session::of("insight verify")
    };
    // Nothing is made or migrated: what is missing is a difference.
    let pool = postgres::connect(options, &session).await?;
    let verified = match (kept, kafka) {
        (Some(kept), _) => seals(&pool, kept, what.json).await,
        (None, Some(kafka)) => topic(&pool, &kafka, what.json).await,
        (None, None) => everything(&pool, Options { sample }, what.json).await,
    };
    close(&pool).await;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    Ok(if verified? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn everything(pool: &PgPool, options: Options, json: bool) -> anyhow::Result<bool> {
    let began = Instant::now();
    let bar = Bar::new();
    let report = verify::verify_with(pool, options, &mut |progress| bar.show(progress)).await?;
    drop(bar);
    if json {
        print_json(&report)?;
    } else {
        println!("{report} ({})", rate(report.head, "events", began.elapsed()));
    }
    Ok(report.is_clean())
}

async fn seals(pool: &PgPool, kept: Vec<SealAt>, json: bool) -> anyhow::Result<bool> {
    let began = Instant::now();
    let bar = Bar::new();
    let report = verify::verify_seals(pool, kept, &mut |progress| bar.show(progress)).await?;
    drop(bar);
    if json {
        print_json(&report)?;
        return Ok(report.is_clean());
    }
    let SealsReport { head, sealed_events, kept, kept_agreeing, differences, difference_count } = &report;
    for verify::Difference { place, found, .. } in differences {
        println!("{place}: {found}");
    }
    println!(
        "{sealed_events} of {head} events are under stored seals, {kept_agreeing} of {kept} kept seals are of this log"
    );
    let verdict = verdict("every seal is that of this log", *difference_count);
    println!("{verdict} ({})", rate(*head, "events", began.elapsed()));
    Ok(report.is_clean())
}

async fn topic(pool: &PgPool, kafka: &KafkaSettings, json: bool) -> anyhow::Result<bool> {
    let began = Instant::now();
    check_topics(kafka).await?;
    let bar = Bar::new();
    let report = verify::verify_topic(pool, kafka, &mut |progress| bar.show(progress)).await?;
    drop(bar);
    if json {
        print_json(&report)?;
        return Ok(report.is_clean());
    }
    let TopicReport { head, records, events, copies, dead, removed, to_come, differences, difference_count } =
        &report;
    for verify::Difference { place, found, .. } in differences {
        println!("{place}: {found}");
    }
    println!("{records} records: {events} events once, {copies} copies, {dead} of dead histories");
    println!("of {head} events in the log {removed} were removed by retention, {to_come} are to come");
    let verdict = verdict("the topics hold what the log holds", *difference_count);
    let records = i64::try_from(*records).unwrap_or(i64::MAX);
    println!("{verdict} ({})", rate(records, "records", began.elapsed()));
    Ok(report.is_clean())
}

fn verdict(clean: &str, differences: u64) -> String {
    match differences {
        0 => clean.to_owned(),
        1 => "1 difference".to_owned(),
        n => format!("{n} differences"),
    }
}

fn rate(count: i64, what: &str, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(0.001);
    format!("{count} {what} in {seconds:.1} s, {:.0}/s", count as f64 / seconds)
}

fn print_json(report: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(report)?);
    Ok(())
}

/// Kept seals as told: each is one, or a file of them. A file without any would vouch for nothing, and say that all is well.
fn read_kept(given: &[String]) -> anyhow::Result<Vec<SealAt>> {
    let mut kept = Vec::new();
    for given in given {
        if let Ok(seal) = given.parse() {
            kept.push(seal);
            continue;
        }
        let text = std::fs::read_to_string(given).with_context(|| {
            format!("--seals {given}: neither a seal as POSITION:HEX nor a file that can be read")
        })?;
        if text.trim().is_empty() {
            bail!("--seals {given}: this file holds no seal");
        }
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            match line.parse() {
                Ok(seal) => kept.push(seal),
                Err(reason) => bail!("--seals {given}, line {number}: {line:?} {reason}"),
            }
        }
    }
    Ok(kept)
}

fn sample(what: &config::Verify) -> anyhow::Result<Option<Sample>> {
    let Some(size) = &what.sample else { return Ok(None) };
    let size = size.parse().map_err(|reason| anyhow::anyhow!("--sample {size:?} {reason}"))?;
    // The low bits of a random id are as good as any.
    let seed = what.seed.unwrap_or_else(|| uuid::Uuid::now_v7().as_u64_pair().1 & 0xffff_ffff);
    Ok(Some(Sample { size, seed }))
}

/// How far it is, for people who watch.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let is_watched = std::io::stderr().is_terminal();
        let target = if is_watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style =
            ProgressStyle::with_template("{prefix:12} {bar:30} {human_pos} of {human_len}, {eta} left");
        let bar = ProgressBar::with_draw_target(None, target);
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    fn show(&self, Progress { stage, done, total }: Progress) {
        if self.0.prefix() != stage {
            self.0.set_prefix(stage);
            self.0.reset();
        }
        self.0.set_length(total);
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_seals_are_given_one_by_one_or_in_a_file() {
        let (one, other) = (format!("5:{}", "ab".repeat(32)), format!("4096:{}", "01".repeat(32)));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept").display().to_string();
        std::fs::write(&path, format!("{other}\n\n{one}\n")).unwrap();
        assert_eq!(read_kept(&[one.clone(), path.clone()]).unwrap().len(), 3);
        std::fs::write(&path, format!("{other}\nnonsense\n")).unwrap();
        let error = read_kept(std::slice::from_ref(&path)).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("nonsense"), "{error}");
        for nothing in ["", " \n\n"] {
            std::fs::write(&path, nothing).unwrap();
            let error = read_kept(&[one.clone(), path.clone()]).unwrap_err().to_string();
            assert!(error.contains("kept") && error.contains("no seal"), "{error}");
        }
        let error = read_kept(&["5:abc".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("5:abc"), "{error}");
    }
}
