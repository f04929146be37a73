//! `insight topics apply|show`: the topics of `kafka/topics.toml` on the broker.

use std::process::ExitCode;

use super::process::{log_format, need_kafka};
use crate::config::Settings;
use crate::kafka::topics;

/// Creates what is missing, and sets what may change.
///
/// # Errors
/// A broker that cannot be reached, or a topic whose partitions differ.
pub async fn apply(settings: &Settings) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(settings), "warn")?;
    let kafka = need_kafka(settings)?;
    let applied = topics::apply(&kafka).await?;
    for topic in &applied.created {
        println!("created {topic}");
    }
    for (topic, differences) in &applied.changed {
        for topics::Difference { setting, wanted, .. } in differences {
            println!("set {setting} of {topic} to {wanted}");
        }
    }
    if applied.created.is_empty() && applied.changed.is_empty() {
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
    let described = topics::describe(&kafka).await?;
    let differences = topics::differences(&kafka, &described).await?;
    let mut all_well = differences.is_empty();
    for topic in &described {
        let declared = topic.wanted();
        let found = topic.partitions.map_or_else(|| "missing".to_owned(), |found| found.to_string());
        println!("{}: {found} partitions, {declared} declared", topic.name);
        for difference in differences.get(&topic.name).into_iter().flatten() {
            println!("  {difference}");
        }
        all_well &= topic.partitions == Some(declared);
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
