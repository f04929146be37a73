//! What the process says about itself: logs on standard error, metrics for Prometheus.
//!
//! Both are installed once a process, by whoever starts it; everybody else only uses the `tracing` and `metrics` macros. The
//! metrics come without a server of their own: whoever is asked over HTTP serves what [`MetricsHandle::render`] gives.

use std::io::IsTerminal;
use std::thread;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Environment variables that hold the log filter; the first one that is set wins.
const FILTERS: [&str; 2] = ["LOG", "RUST_LOG"];

/// How often the recorder moves its raw samples into buckets, so that they do not pile up while nobody scrapes.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Buckets of every histogram whose name ends in `_seconds`: from a group commit to a backup of an hour.
const SECONDS: [f64; 18] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
    600.0, 3_600.0,
];

/// Buckets of every other histogram: counts and sizes, in powers of four.
const COUNTS: [f64; 11] =
    [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0];

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Why logs or metrics could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter in the environment cannot be read.
    #[error("{variable} is no log filter such as `info` or `warn,insight=debug`")]
    Filter {
        /// The environment variable.
        variable: &'static str,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody has installed a subscriber or recorder before.
    #[error("{0} were installed twice in one process")]
    Twice(&'static str),
}

/// Sends the logs of this process to standard error, filtered by `LOG` (or `RUST_LOG`; `default` when neither is set).
///
/// # Errors
/// A filter that cannot be read, or a second call.
pub fn init_logs(format: LogFormat, default: &str) -> Result<(), Error> {
    let logs = tracing_subscriber::fmt().with_env_filter(filter(default)?).with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(true).try_init(),
    };
    installed.map_err(|_| Error::Twice("logs"))
}

/// The filter of the first variable that is set to something.
fn filter(default: &str) -> Result<EnvFilter, Error> {
    let set = FILTERS.iter().find_map(|variable| {
        std::env::var(variable).ok().filter(|value| !value.is_empty()).map(|value| (*variable, value))
    });
    let Some((variable, value)) = set else {
        return Ok(EnvFilter::new(default));
    };
    EnvFilter::try_new(value).map_err(|source| Error::Filter { variable, source })
}

/// Collects the metrics of this process from now on. `describe` registers their descriptions (`metrics::describe_*!`), and is
/// called once the recorder stands.
///
/// # Errors
/// A second call.
pub fn metrics_recorder(describe: impl FnOnce()) -> Result<MetricsHandle, Error> {
    let prometheus = PrometheusBuilder::new()
        .set_buckets(&COUNTS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS))
        .expect("the lists of buckets are not empty")
        .install_recorder()
        .map_err(|_| Error::Twice("metrics"))?;
    describe();
    keep_up(prometheus.clone());
    Ok(MetricsHandle { prometheus })
}

/// A thread rather than a task: it must also run while the runtime is busy, and there is nothing to join at the end.
fn keep_up(prometheus: PrometheusHandle) {
    let upkeep = move || {
        loop {
            thread::sleep(UPKEEP_EVERY);
            prometheus.run_upkeep();
        }
    };
    thread::Builder::new().name("metrics".to_owned()).spawn(upkeep).expect("a process can start a thread");
}

/// The metrics collected so far. Cheap to clone.
#[derive(Clone)]
pub struct MetricsHandle {
    prometheus: PrometheusHandle,
}

impl MetricsHandle {
    /// All metrics in Prometheus' text format, to be served as `text/plain; version=0.0.4`.
    #[must_use]
    pub fn render(&self) -> String {
        self.prometheus.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_described_histogram_is_rendered_with_buckets_in_seconds() {
        let handle = metrics_recorder(|| {
            metrics::describe_histogram!(
                "insight_test_seconds",
                metrics::Unit::Seconds,
                "how long a test takes"
            );
        })
        .unwrap();
        metrics::histogram!("insight_test_seconds").record(0.003);

        let text = handle.render();
        assert!(text.contains("# HELP insight_test_seconds how long a test takes"), "{text}");
        assert!(text.contains("# TYPE insight_test_seconds histogram"), "{text}");
        assert!(text.contains(r#"insight_test_seconds_bucket{le="0.0025"} 0"#), "{text}");
        assert!(text.contains(r#"insight_test_seconds_bucket{le="0.005"} 1"#), "{text}");
        assert!(matches!(metrics_recorder(|| ()), Err(Error::Twice("metrics"))));
    }
}
