//! The rows of `jobs` as a rebuild writes them: every job and every run, whole.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Job, Run, rows};
use crate::domain::ids::RunId;
use crate::projectors::copy::{Table, Written};
use crate::projectors::stored;

pub(super) async fn jobs(
    conn: &mut PgConnection,
    jobs: &BTreeMap<Uuid, Job>,
) -> Result<Written, sqlx::Error> {
    const COLUMNS: &str = "job_id, name, kind, crontab, time_zone, interval_seconds, soft_limit_seconds, \
        time_limit_seconds, attempts_max, retry_pause_seconds, overlap, symbols, source, defined_by, defined_at, \
        defined_position, settings_at, due_taken, removed_at, version, position";
    let mut table = Table::open(conn, "jobs", COLUMNS).await?;
    for (job_id, job) in jobs {
        let settings = &job.settings;
        let (crontab, time_zone, interval_seconds) = rows::schedule(settings);
        let symbols: Vec<&str> = settings.symbols.iter().map(String::as_str).collect();
        table
            .push(&[
                job_id,
                &job.name,
                &stored::name(&settings.kind),
                &crontab,
                &time_zone,
                &interval_seconds,
                &i64::from(settings.soft_limit_seconds),
                &i64::from(settings.time_limit_seconds),
                &i64::from(settings.attempts_max),
                &i64::from(settings.retry_pause_seconds),
                &stored::name(&settings.overlap),
                &symbols.as_slice(),
                &settings.source,
                &job.defined_by,
                &job.defined_at,
                &job.defined_position,
                &job.settings_at,
                &job.due_taken,
                &job.removed_at,
                &job.version,
                &job.position,
            ])
            .await?;
    }
    table.finish().await
}

pub(super) async fn runs(
    conn: &mut PgConnection,
    runs: &BTreeMap<(Uuid, i64), Run>,
) -> Result<Written, sqlx::Error> {
    const COLUMNS: &str = "job_id, scheduled_position, run_id, due_at, trigger, state, missed, retry_of, retried_by, \
        open_run_id, attempt, reason, result, scheduled_at, started_at, ended_at, retry_at, position";
    let id = |id: Option<RunId>| id.map(|id| id.0);
    let mut table = Table::open(conn, "runs", COLUMNS).await?;
    for ((job_id, scheduled_position), run) in runs {
        table
            .push(&[
                job_id,
                scheduled_position,
                &id(run.run_id),
                &run.due_at,
                &stored::name(&run.trigger),
                &stored::name(&run.state),
                &run.missed,
                &id(run.retry_of),
                &id(run.retried_by),
                &id(run.open_run_id),
                &run.attempt,
                &run.reason,
                &run.result,
                &run.scheduled_at,
                &run.started_at,
                &run.ended_at,
                &run.retry_at,
                &run.position,
            ])
            .await?;
    }
    table.finish().await
}
