//! `insight topics apply|show`: the topics of `kafka/topics.toml` on the broker.

use std::process::ExitCode;

use super::process::{log_format, need_kafka};
use crate::config::Settings;
use crate::kafka::topics;

/// Creates what is missing.
///
/// # Errors
/// A broker that cannot be reached, or a topic whose partitions differ.
pub async fn apply(settings: &Settings) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(settings), "warn")?;
    let kafka = need_kafka(settings)?;
    let created = topics::apply(&kafka).await?;
    for topic in &created {
        println!("created {topic}");
    }
    if created.is_empty() {
        println!("nothing to do: every topic is as declared");
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints each topic beside what it should be; the exit code tells whether all are as declared.
///
/// # Errors
/// A broker that cannot be reached.
pub async fn show(settings: &Settings) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(settings), "warn")?;
    let kafka = need_kafka(settings)?;
    let mut all_well = true;
    for topic in topics::describe(&kafka).await? {
        let declared = usize::try_from(topic.declared.partitions).unwrap_or_default();
        let found = topic.partitions.map_or_else(|| "missing".to_owned(), |found| found.to_string());
        println!("{}: {found} partitions, {declared} declared", topic.name);
        all_well &= topic.partitions == Some(declared);
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
