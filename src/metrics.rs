//! Every metric, with its description; base units. Nothing else names one.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

/// Registers names, units and descriptions with the recorder that is installed.
pub fn describe() {
    describe_histogram!(
        "insight_append_commit_seconds",
        Unit::Seconds,
        "Time to commit one batch to the log"
    );
    describe_histogram!("insight_append_batch_commands", Unit::Count, "Commands in a batch");
    describe_counter!("insight_commands_total", Unit::Count, "Commands executed, by outcome");
    describe_histogram!(
        "insight_command_seconds",
        Unit::Seconds,
        "Time from a command's arrival to its answer"
    );
    describe_counter!(
        "insight_commands_decided_again_total",
        Unit::Count,
        "Commands decided again because a stream had moved on"
    );
}

/// A batch was committed.
pub fn batch_appended(commands: usize, took: Duration) {
    histogram!("insight_append_commit_seconds").record(took);
    histogram!("insight_append_batch_commands").record(commands as f64);
}

/// Commands go into the next batch once more.
pub fn commands_decided_again(commands: usize) {
    if commands > 0 {
        counter!("insight_commands_decided_again_total").increment(commands as u64);
    }
}

/// A command has its answer; `outcome` is `accepted`, `refused` or `busy`.
pub fn command_executed(outcome: &'static str, took: Duration) {
    counter!("insight_commands_total", "outcome" => outcome).increment(1);
    histogram!("insight_command_seconds").record(took);
}
