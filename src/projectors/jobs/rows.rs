//! The rows of `jobs` between memory and tables.

use std::collections::BTreeSet;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Job, Run};
use crate::domain::ids::RunId;
use crate::domain::job::{JobSettings, Schedule};
use crate::projectors::{column, stored};

/// A schedule as columns hold it: crontab, time zone, seconds.
pub(super) type ScheduleColumns<'a> = (Option<&'a str>, Option<&'a str>, Option<i64>);

pub(super) fn schedule(settings: &JobSettings) -> ScheduleColumns<'_> {
    match &settings.schedule {
        Schedule::Crontab { expression, time_zone } => (Some(expression), Some(time_zone), None),
        Schedule::Interval { seconds } => (None, None, Some(i64::from(*seconds))),
    }
}

pub(super) async fn load_jobs(
    conn: &mut PgConnection,
    ids: BTreeSet<Uuid>,
) -> Result<Vec<(Uuid, Job)>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = ids.into_iter().collect();
    let mut jobs = Vec::new();
    for row in sqlx::query_file!("projections/jobs/load_jobs.sql", &ids).fetch_all(conn).await? {
        let schedule = match (row.crontab, row.time_zone, row.interval_seconds) {
            (Some(expression), Some(time_zone), None) => Schedule::Crontab { expression, time_zone },
            (None, None, Some(seconds)) => Schedule::Interval { seconds: count(seconds)? },
            _ => return Err(sqlx::Error::Decode(format!("job {} has no schedule", row.job_id).into())),
        };
        let settings = JobSettings {
            kind: stored::parse(&row.kind)?,
            schedule,
            soft_limit_seconds: count(row.soft_limit_seconds)?,
            time_limit_seconds: count(row.time_limit_seconds)?,
            attempts_max: count(row.attempts_max)?,
            retry_pause_seconds: count(row.retry_pause_seconds)?,
            overlap: stored::parse(&row.overlap)?,
            symbols: row.symbols,
            source: row.source,
        };
        let job = Job {
            name: row.name,
            settings,
            defined_by: row.defined_by,
            defined_at: row.defined_at,
            defined_position: row.defined_position,
            settings_at: row.settings_at,
            due_taken: row.due_taken,
            removed_at: row.removed_at,
            version: row.version,
            position: row.position,
        };
        jobs.push((row.job_id, job));
    }
    Ok(jobs)
}

/// Runs of these jobs by their ids, with the place of the event that scheduled them.
pub(super) async fn load_runs(
    conn: &mut PgConnection,
    keys: BTreeSet<(Uuid, RunId)>,
) -> Result<Vec<(Uuid, i64, Run)>, sqlx::Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = keys.iter().map(|(_, run_id)| run_id.0).collect();
    let mut runs = Vec::new();
    for row in sqlx::query_file!("projections/jobs/load_runs.sql", &ids).fetch_all(conn).await? {
        let run_id = RunId(row.run_id);
        if !keys.contains(&(row.job_id, run_id)) {
            continue;
        }
        let run = Run {
            run_id: Some(run_id),
            due_at: row.due_at,
            trigger: stored::parse(&row.trigger)?,
            state: stored::parse(&row.state)?,
            missed: row.missed,
            retry_of: row.retry_of.map(RunId),
            retried_by: row.retried_by.map(RunId),
            open_run_id: None,
            attempt: row.attempt,
            reason: row.reason,
            result: row.result,
            scheduled_at: row.scheduled_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            retry_at: row.retry_at,
            position: row.position,
        };
        runs.push((row.job_id, row.scheduled_position, run));
    }
    Ok(runs)
}

pub(super) async fn upsert_jobs(conn: &mut PgConnection, rows: &[(Uuid, Job)]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let text = |value: Option<&str>| value.map(str::to_owned);
    let settings = column(rows, |(_, job)| &job.settings);
    sqlx::query_file!(
        "projections/jobs/upsert_jobs.sql",
        &column(rows, |(id, _)| *id),
        &column(rows, |(_, job)| job.name.clone()),
        &column(&settings, |it| stored::name(&it.kind)),
        &column(&settings, |it| text(schedule(it).0)) as _,
        &column(&settings, |it| text(schedule(it).1)) as _,
        &column(&settings, |it| schedule(it).2) as _,
        &column(&settings, |it| i64::from(it.soft_limit_seconds)),
        &column(&settings, |it| i64::from(it.time_limit_seconds)),
        &column(&settings, |it| i64::from(it.attempts_max)),
        &column(&settings, |it| i64::from(it.retry_pause_seconds)),
        &column(&settings, |it| stored::name(&it.overlap)),
        &column(&settings, |it| serde_json::json!(it.symbols)),
        &column(&settings, |it| it.source.clone()) as _,
        &column(rows, |(_, job)| job.defined_by.clone()),
        &column(rows, |(_, job)| job.defined_at),
        &column(rows, |(_, job)| job.defined_position),
        &column(rows, |(_, job)| job.settings_at),
        &column(rows, |(_, job)| job.due_taken) as _,
        &column(rows, |(_, job)| job.removed_at) as _,
        &column(rows, |(_, job)| job.version),
        &column(rows, |(_, job)| job.position),
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn upsert_runs(
    conn: &mut PgConnection,
    rows: &[((Uuid, i64), Run)],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let id = |id: Option<RunId>| id.map(|id| id.0);
    sqlx::query_file!(
        "projections/jobs/upsert_runs.sql",
        &column(rows, |((job_id, _), _)| *job_id),
        &column(rows, |((_, scheduled_position), _)| *scheduled_position),
        &column(rows, |(_, run)| id(run.run_id)) as _,
        &column(rows, |(_, run)| run.due_at),
        &column(rows, |(_, run)| stored::name(&run.trigger)),
        &column(rows, |(_, run)| stored::name(&run.state)),
        &column(rows, |(_, run)| run.missed),
        &column(rows, |(_, run)| id(run.retry_of)) as _,
        &column(rows, |(_, run)| id(run.retried_by)) as _,
        &column(rows, |(_, run)| id(run.open_run_id)) as _,
        &column(rows, |(_, run)| run.attempt),
        &column(rows, |(_, run)| run.reason.clone()) as _,
        &column(rows, |(_, run)| run.result.clone()) as _,
        &column(rows, |(_, run)| run.scheduled_at),
        &column(rows, |(_, run)| run.started_at) as _,
        &column(rows, |(_, run)| run.ended_at) as _,
        &column(rows, |(_, run)| run.retry_at) as _,
        &column(rows, |(_, run)| run.position),
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn count(value: i64) -> Result<u32, sqlx::Error> {
    u32::try_from(value).map_err(|error| sqlx::Error::Decode(error.into()))
}
