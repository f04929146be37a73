//! Every metric, with what it says; base units. A module that records one names it, and a test compares both.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, histogram};

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

use Kind::{Counter, Gauge, Histogram};

/// Name, kind, unit and meaning.
const ALL: &[(&str, Kind, Unit, &str)] = &[
    ("insight_append_commit_seconds", Histogram, Unit::Seconds, "Time to commit one batch to the log"),
    ("insight_append_batch_commands", Histogram, Unit::Count, "Commands in a batch"),
    (
        "insight_commands_total",
        Counter,
        Unit::Count,
        "Commands executed, by outcome: accepted, refused, busy",
    ),
    ("insight_command_seconds", Histogram, Unit::Seconds, "Time from a command's arrival to its answer"),
    (
        "insight_commands_decided_again_total",
        Counter,
        Unit::Count,
        "Commands decided again because a stream had moved on",
    ),
    ("insight_http_requests_total", Counter, Unit::Count, "Requests answered, by route, method and status"),
    (
        "insight_http_request_seconds",
        Histogram,
        Unit::Seconds,
        "Time to answer a request, by route and method",
    ),
    ("insight_relay_active", Gauge, Unit::Count, "1 where this process copies the log, 0 where it waits"),
    ("insight_relay_events_total", Counter, Unit::Count, "Events that the broker has acknowledged"),
    ("insight_relay_in_flight_events", Gauge, Unit::Count, "Events sent and not yet acknowledged"),
    ("insight_relay_lag_events", Gauge, Unit::Count, "Events of the log that are not in the topics yet"),
    (
        "insight_relay_restarts_total",
        Counter,
        Unit::Count,
        "Times that the relay walked the topics' tails again",
    ),
    (
        "insight_kafka_consumers_remade_total",
        Counter,
        Unit::Count,
        "Consumers made anew because they stood still",
    ),
    (
        "insight_kafka_records_malformed_total",
        Counter,
        Unit::Count,
        "Records that are not ours or cannot be read",
    ),
    ("insight_kafka_consumer_in_trouble", Gauge, Unit::Count, "1 while the broker cannot be reached"),
    ("insight_feed_events_total", Counter, Unit::Count, "Events handed to a read model"),
    (
        "insight_feed_dropped_total",
        Counter,
        Unit::Count,
        "Records dropped: seen before, or of a dead history",
    ),
    ("insight_feed_gaps_total", Counter, Unit::Count, "Breaks in a shard's chain"),
    (
        "insight_feed_repairs_total",
        Counter,
        Unit::Count,
        "Times that the store was asked instead of the broker",
    ),
    ("insight_feed_repaired_events_total", Counter, Unit::Count, "Events that came from the store that way"),
    (
        "insight_feed_window_end_position",
        Gauge,
        Unit::Count,
        "Last position that the store's reader has seen",
    ),
    ("insight_projector_events_total", Counter, Unit::Count, "Events folded into rows, by read model"),
    (
        "insight_projector_flush_seconds",
        Histogram,
        Unit::Seconds,
        "Time to write rows and checkpoint, by read model",
    ),
    ("insight_projector_lag_events", Gauge, Unit::Count, "Events between the rows and the head of the log"),
    (
        "insight_projector_lag_seconds",
        Gauge,
        Unit::Seconds,
        "Age of the oldest event that is not in the rows",
    ),
    ("insight_scheduler_active", Gauge, Unit::Count, "1 where this process schedules, 0 where it waits"),
    (
        "insight_scheduler_due_total",
        Counter,
        Unit::Count,
        "Due times, by outcome: scheduled or skipped here, taken before or passed over while a run is open",
    ),
    (
        "insight_scheduler_longest_wait_seconds",
        Gauge,
        Unit::Seconds,
        "How long the oldest run that could go on has been waiting for a worker, of all jobs; 0 where this process waits",
    ),
    (
        "insight_jobs_oldest_open_run_seconds",
        Gauge,
        Unit::Seconds,
        "How long the oldest open run of this worker's shards has been due",
    ),
    ("insight_job_run_seconds", Histogram, Unit::Seconds, "Time of an attempt, by kind and outcome"),
    ("insight_job_failures_total", Counter, Unit::Count, "Attempts that failed, by kind"),
    ("insight_job_leases_held", Gauge, Unit::Count, "Runs that this worker carries out now"),
    (
        "insight_projector_parked_streams",
        Gauge,
        Unit::Count,
        "Streams set aside because an event cannot be applied",
    ),
    (
        "insight_market_data_assets_total",
        Counter,
        Unit::Count,
        "Assets asked for, by what (quotes, history, rates) and outcome: fetched, unchanged, held, refused",
    ),
    ("insight_market_data_prices_total", Counter, Unit::Count, "Prices appended by fetches, by what"),
    ("insight_market_data_retries_total", Counter, Unit::Count, "Requests sent to sources again, by what"),
    ("insight_market_data_fetch_seconds", Histogram, Unit::Seconds, "Time of a fetch, by what"),
    (
        "insight_market_data_last_fetch_timestamp_seconds",
        Gauge,
        Unit::Seconds,
        "When a fetch came to its end last, since 1970, by what",
    ),
];

/// Tells the recorder that is installed about every metric.
pub fn describe() {
    for (name, kind, unit, meaning) in ALL {
        match kind {
            Counter => describe_counter!(*name, *unit, *meaning),
            Gauge => describe_gauge!(*name, *unit, *meaning),
            Histogram => describe_histogram!(*name, *unit, *meaning),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Names in quotes that are metrics, below a folder.
    fn named_in(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                named_in(&path, names);
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let quoted = text.split('"').skip(1).step_by(2).filter(|quoted| quoted.starts_with("insight_"));
            let is_name = |quoted: &&str| quoted.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            names.extend(quoted.filter(is_name).map(str::to_owned));
        }
    }

    #[test]
    fn every_metric_that_is_recorded_is_described_and_the_other_way_round() {
        let mut named = BTreeSet::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for module in ["api", "commands", "feed", "kafka", "market_data", "projectors", "reactors", "relay"] {
            named_in(&source.join(module), &mut named);
        }
        let own = ["append_commit_seconds", "append_batch_commands", "commands_total", "command_seconds"];
        named.extend(own.map(|name| format!("insight_{name}")));
        named.insert("insight_commands_decided_again_total".into());
        // The channel that announces the head is no metric.
        named.remove("insight_head");
        let described: BTreeSet<String> = ALL.iter().map(|(name, ..)| (*name).to_owned()).collect();
        assert_eq!(named, described);
    }
}
