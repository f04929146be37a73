//! Jobs declared in a file: read strictly, and made so.
//!
//! The file wins over what was changed by command, whenever a scheduler's process starts, and only then: one that takes over
//! from another leaves jobs as they are. What has left the file stays until somebody removes it: a file that was not found whole
//! must not stop the backups.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use sqlx::PgPool;
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use super::ANSWERED_WITHIN;
use crate::commands::{Command, Commands, Refusal, Request};
use crate::domain::fields::Fields;
use crate::domain::ids::JobId;
use crate::domain::job::{JobCommand, JobKind, JobSettings, Overlap, ScheduleWish, SettingsWish, settings};
use crate::domain::rejection::Rejection;
use crate::queries;

/// Who is said to have defined these jobs.
const ACTOR: &str = "jobs-file";
/// Bytes of a file of jobs.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Jobs of a file.
const JOBS_MAX: usize = 1_000;

/// A job as a file declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredJob {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: JobSettings,
}

/// Why jobs could not be declared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    File {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file says something that cannot be: a line each, with the job and the field.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    /// A job could not be defined or changed.
    #[error("the job {name} could not be declared: {refusal}")]
    Refused {
        /// The job.
        name: String,
        /// Why.
        refusal: Refusal,
    },
    /// The jobs that are there cannot be read.
    #[error(transparent)]
    Queries(#[from] queries::Error),
}

/// What declaring did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// Jobs that are new.
    pub defined: Vec<String>,
    /// Jobs that were otherwise.
    pub changed: Vec<String>,
    /// Jobs that were declared once, are not in the file any more, and are still there.
    pub left: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    kind: JobKind,
    schedule: EntrySchedule,
    soft_limit_seconds: Option<u32>,
    time_limit_seconds: Option<u32>,
    attempts_max: Option<u32>,
    retry_pause_seconds: Option<u32>,
    overlap: Option<Overlap>,
    #[serde(default)]
    symbols: Vec<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntrySchedule {
    crontab: Option<String>,
    time_zone: Option<String>,
    interval_seconds: Option<u32>,
}

/// Reads a file of jobs.
///
/// # Errors
/// [`Error::File`]; [`Error::Invalid`] with everything that is wrong.
pub fn read(path: &Path) -> Result<Vec<DeclaredJob>, Error> {
    let file = path.display().to_string();
    let unreadable = |source| Error::File { file: file.clone(), source };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > FILE_BYTES_MAX {
        return Err(Error::Invalid(vec![format!("{file}: is larger than {FILE_BYTES_MAX} bytes")]));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&text)
        .map_err(|wrong| Error::Invalid(wrong.into_iter().map(|wrong| format!("{file}: {wrong}")).collect()))
}

/// Reads jobs from the text of a file: a table `[[jobs]]` each.
fn parse(text: &str) -> Result<Vec<DeclaredJob>, Vec<String>> {
    let document: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        vec![format!("line {line}: {}", error.message())]
    })?;
    let mut wrong = Vec::new();
    let mut entries = Vec::new();
    for (key, value) in document {
        match value {
            toml::Value::Array(tables) if key == "jobs" => entries = tables,
            _ if key == "jobs" => wrong.push("jobs must be a list: write [[jobs]] above each".to_owned()),
            _ => wrong.push(format!("{key} is unknown: only [[jobs]] stand here")),
        }
    }
    if entries.len() > JOBS_MAX {
        wrong.push(format!("has {} jobs, {JOBS_MAX} at most", entries.len()));
        entries.truncate(JOBS_MAX);
    }
    let mut names = BTreeSet::new();
    let mut jobs = Vec::new();
    for (n, entry) in (1..).zip(entries) {
        let name = entry.get("name").and_then(toml::Value::as_str);
        let called = name.map_or_else(|| format!("the job number {n}"), |name| format!("job {name:?}"));
        if let Some(name) = name
            && !names.insert(name.to_owned())
        {
            wrong.push(format!("{called}: name is declared twice"));
        }
        match job(entry) {
            Ok(job) => jobs.push(job),
            Err(reasons) => wrong.extend(reasons.into_iter().map(|reason| format!("{called}: {reason}"))),
        }
    }
    if wrong.is_empty() { Ok(jobs) } else { Err(wrong) }
}

fn job(entry: toml::Value) -> Result<DeclaredJob, Vec<String>> {
    let entry: Entry = serde_path_to_error::deserialize(entry).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.inner().message().trim().to_owned();
        vec![if path == "." { reason } else { format!("{path}: {reason}") }]
    })?;
    let EntrySchedule { crontab, time_zone, interval_seconds } = entry.schedule;
    let wish = SettingsWish {
        kind: entry.kind,
        schedule: ScheduleWish { crontab, time_zone, interval_seconds },
        soft_limit_seconds: entry.soft_limit_seconds,
        time_limit_seconds: entry.time_limit_seconds,
        attempts_max: entry.attempts_max,
        retry_pause_seconds: entry.retry_pause_seconds,
        overlap: entry.overlap,
        symbols: entry.symbols,
        source: entry.source,
    };
    let mut fields = Fields::new();
    settings::check_name(&entry.name, &mut fields);
    let settled = wish.settle(&mut fields);
    if let Some(settings) = &settled {
        settings::check(settings, &mut fields);
    }
    match (settled, fields.finish()) {
        (Some(settings), Ok(())) => Ok(DeclaredJob { name: entry.name, settings }),
        (_, Err(Rejection::InvalidFields(errors))) => {
            Err(errors.into_iter().map(|error| format!("{}: {}", error.field, error.reason)).collect())
        }
        (_, refused) => Err(vec![format!("{refused:?}")]),
    }
}

/// Defines what is missing, changes what differs, and tells the log of both, and of what is there beside the file.
///
/// # Errors
/// [`Error::Refused`], [`Error::Queries`]. What was declared until then stays; the next time goes on.
pub async fn declare(commands: &Commands, pool: &PgPool, jobs: &[DeclaredJob]) -> Result<Declared, Error> {
    let mut declared = Declared::default();
    for job in jobs {
        let DeclaredJob { name, settings } = job.clone();
        let define = JobCommand::Define { name, settings: settings.clone() };
        match send(commands, &job.name, define).await {
            Ok(true) => declared.defined.push(job.name.clone()),
            Ok(false) => {}
            Err(Refusal::Rejected(Rejection::NameTaken { .. })) => {
                let changed = send(commands, &job.name, JobCommand::Change { settings }).await;
                if changed.map_err(|refusal| Error::Refused { name: job.name.clone(), refusal })? {
                    declared.changed.push(job.name.clone());
                }
            }
            Err(refusal) => return Err(Error::Refused { name: job.name.clone(), refusal }),
        }
    }
    let named: BTreeSet<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
    let there = queries::jobs::list_names_defined_by(pool, ACTOR).await?;
    declared.left = there.into_iter().filter(|name| !named.contains(name.as_str())).collect();
    for name in &declared.defined {
        info!(job = name, "job defined, as declared");
    }
    for name in &declared.changed {
        info!(job = name, "job changed, as declared");
    }
    for name in &declared.left {
        warn!(job = name, "job was declared once and is not any more: it goes on until it is removed");
    }
    Ok(declared)
}

/// Returns whether it changed anything.
async fn send(commands: &Commands, name: &str, command: JobCommand) -> Result<bool, Refusal> {
    let command_id = Uuid::now_v7();
    let request = Request {
        command: Command::Job { job_id: JobId::named(name), command },
        command_id,
        // Nobody sends it again: what is declared is compared anew at every start.
        request_hash: command_id.as_bytes().repeat(2).into(),
        actor: ACTOR.into(),
        correlation_id: command_id,
        if_match: None,
        occurred_at: None,
        deadline: Instant::now() + ANSWERED_WITHIN,
    };
    commands.execute(request).await.map(|answer| !answer.events.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::Schedule;

    const GOOD: &str = r#"
        [[jobs]]
        name = "nightly-risk"
        kind = "recompute-risk"
        schedule = { crontab = "30 2 * * *", time_zone = "Europe/Berlin" }

        [[jobs]]
        name = "quotes"
        kind = "fetch-quotes"
        schedule = { interval_seconds = 900 }
        attempts_max = 5
        overlap = "allow"
        symbols = ["AAPL", "^GSPC"]
        source = "yahoo"
    "#;

    #[test]
    fn a_file_says_what_a_command_would() {
        let jobs = parse(GOOD).unwrap();
        assert_eq!(jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), ["nightly-risk", "quotes"]);
        assert_eq!(jobs[1].settings.schedule, Schedule::Interval { seconds: 900 });
        assert_eq!((jobs[0].settings.attempts_max, jobs[1].settings.attempts_max), (3, 5));
        assert_eq!(jobs[1].settings.overlap, Overlap::Allow);
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn what_is_wrong_is_told_by_job_and_field() {
        let job = |rest: &str| format!("[[jobs]]\nname = \"a\"\n{rest}");
        let good = "kind = \"verify\"\nschedule = { interval_seconds = 60 }\n";
        for (text, parts) in [
            (format!("{}{}", job(good), job(good)), vec!["job \"a\": name is declared twice"]),
            (job(&format!("{good}colour = \"red\"")), vec!["job \"a\"", "unknown field `colour`"]),
            (job(&good.replace("verify", "dance")), vec!["job \"a\": kind", "unknown variant `dance`"]),
            (job(&good.replace("60", "0")), vec!["job \"a\": schedule.interval_seconds: must be 1 to"]),
            (job(&good.replace("60", "\"60\"")), vec!["job \"a\": schedule.interval_seconds", "string"]),
            (job(&good.replace("60", "-1")), vec!["job \"a\": schedule.interval_seconds", "-1"]),
            (
                job(&good.replace("interval_seconds", "every")),
                vec!["job \"a\": schedule", "unknown field `every`"],
            ),
            (
                job("kind = \"backup\"\nschedule = { crontab = \"0 0 31 2 *\", time_zone = \"Mars\" }"),
                vec!["schedule.crontab: never comes", "schedule.time_zone: is not"],
            ),
            (job("kind = \"verify\""), vec!["job \"a\"", "missing field `schedule`"]),
            (job(&format!("{good}attempts_max = 0")), vec!["job \"a\": attempts_max: must be 1 to 20"]),
            (job(&format!("{good}source = \"yahoo\"")), vec!["job \"a\": source: is only for"]),
            (format!("[[jobs]]\n{good}"), vec!["the job number 1", "missing field `name`"]),
            (format!("[[jobs]]\nname = 5\n{good}"), vec!["the job number 1: name"]),
            (format!("[[jobs]]\nname = \"A b\"\n{good}"), vec!["job \"A b\": name: must be"]),
            ("[jobs]\nname = \"a\"".to_owned(), vec!["jobs must be a list"]),
            ("colour = 1".to_owned(), vec!["colour is unknown"]),
            ("[[jobs]]\nname = \"a\"\nname = \"b\"".to_owned(), vec!["line 3"]),
            ("jobs = nonsense".to_owned(), vec!["line 1"]),
        ] {
            let told = parse(&text).unwrap_err().join("\n");
            for part in parts {
                assert!(told.contains(part), "{part:?} in {told:?} of {text}");
            }
        }
    }
}
