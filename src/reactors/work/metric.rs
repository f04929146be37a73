//! Names of the metrics of workers; `metrics.rs` has the descriptions.

pub(super) const OLDEST: &str = "insight_jobs_oldest_open_run_seconds";
pub(super) const RUN_SECONDS: &str = "insight_job_run_seconds";
pub(super) const FAILURES: &str = "insight_job_failures_total";
pub(super) const LEASES: &str = "insight_job_leases_held";
