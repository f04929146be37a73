//! Who schedules, who works at what, and what waits for somebody.

use serde::Serialize;
use sqlx::PgPool;
use sqlx::types::Uuid;

use super::look::has_table;
use super::{Owner, WAITS_MAX_SECONDS, owners};
use crate::postgres::LockHolder;
use crate::queries::job_plan::SCHEDULER_LOCK;

/// Scheduled work.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Work {
    /// Who makes runs of due times; none if nobody does.
    pub scheduler: Option<Owner>,
    /// Jobs that become due by themselves.
    pub jobs: i64,
    /// Runs that may begin or are being carried out.
    pub open_runs: i64,
    /// How long the first of them that nobody carries out has waited.
    pub waiting_seconds: f64,
    /// Processes that carry out runs.
    pub workers: Vec<Worker>,
}

/// A process that carries out runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Worker {
    /// The process, as it calls itself.
    pub who: String,
    /// Runs that it carries out at once.
    pub slots: i16,
    /// The shards whose runs it takes.
    pub shards: Vec<i16>,
    /// What it carries out.
    pub runs: Vec<WorkerRun>,
}

/// A run that is being carried out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkerRun {
    /// The name of its job, if that is known.
    pub job: Option<String>,
    /// The run.
    pub run_id: Uuid,
    /// The attempt, from 1.
    pub attempt: i32,
    /// Since so long.
    pub seconds: f64,
    /// How much is done, if that is known.
    pub done: Option<i64>,
    /// Of how much.
    pub total: Option<i64>,
}

impl Work {
    /// What does not get on.
    pub(super) fn stuck(&self) -> Vec<String> {
        let mut stuck = Vec::new();
        if self.jobs > 0 && self.scheduler.is_none() {
            let jobs = if self.jobs == 1 {
                "1 job becomes".to_owned()
            } else {
                format!("{} jobs become", self.jobs)
            };
            stuck.push(format!("{jobs} due by schedule, and nobody schedules"));
        }
        if self.waiting_seconds > WAITS_MAX_SECONDS && self.workers.is_empty() {
            stuck.push(format!("a run has waited for {:.0} s, and nobody works", self.waiting_seconds));
        }
        stuck
    }
}

pub(super) async fn work(pool: &PgPool, holders: &[(String, LockHolder)]) -> Result<Work, sqlx::Error> {
    // Where the rows of jobs are not there yet, there is no name to show.
    let has_rows = has_table(pool, "jobs.runs").await?;
    let scheduler = owners(holders, SCHEDULER_LOCK, &[]).into_iter().next();
    let workers = workers(pool, has_rows).await?;
    if !has_rows {
        return Ok(Work { scheduler, workers, ..Work::default() });
    }
    const JOBS: &str = "select count(*) from jobs.jobs where removed_at is null";
    const RUNS: &str = "select count(*), coalesce(extract(epoch from clock_timestamp() - \
            min(coalesce(r.retry_at, r.scheduled_at)) filter (where l.run_id is null)), 0)::float8 \
        from jobs.runs r left join public.job_leases l on l.run_id = r.run_id and l.leased_until > clock_timestamp() \
        where r.state in ('scheduled', 'retrying') and (r.retry_at is null or r.retry_at <= clock_timestamp())";
    let jobs: i64 = sqlx::query_scalar(JOBS).fetch_one(pool).await?;
    let (open_runs, waiting_seconds): (i64, f64) = sqlx::query_as(RUNS).fetch_one(pool).await?;
    Ok(Work { scheduler, jobs, open_runs, waiting_seconds: waiting_seconds.max(0.0), workers })
}

async fn workers(pool: &PgPool, has_rows: bool) -> Result<Vec<Worker>, sqlx::Error> {
    const WORKERS: &str = "select owner, slots, shards from job_workers \
        where seen_at > clock_timestamp() - interval '15 seconds' order by owner";
    const NAMED: &str = "select l.owner, j.name, l.run_id, l.attempt, \
            extract(epoch from clock_timestamp() - l.started_at)::float8, l.done, l.total \
        from job_leases l left join jobs.jobs j on j.job_id = l.job_id \
        where l.leased_until > clock_timestamp() order by l.started_at";
    const UNNAMED: &str = "select l.owner, null::text, l.run_id, l.attempt, \
            extract(epoch from clock_timestamp() - l.started_at)::float8, l.done, l.total \
        from job_leases l where l.leased_until > clock_timestamp() order by l.started_at";
    type Run = (String, Option<String>, Uuid, i32, f64, Option<i64>, Option<i64>);
    let found: Vec<(String, i16, Vec<i16>)> = sqlx::query_as(WORKERS).fetch_all(pool).await?;
    let runs: Vec<Run> = sqlx::query_as(if has_rows { NAMED } else { UNNAMED }).fetch_all(pool).await?;
    let workers = found.into_iter().map(|(who, slots, shards)| {
        let mine = runs.iter().filter(|(owner, ..)| *owner == who);
        let runs = mine.map(|(_, job, run_id, attempt, seconds, done, total)| WorkerRun {
            job: job.clone(),
            run_id: *run_id,
            attempt: *attempt,
            seconds: *seconds,
            done: *done,
            total: *total,
        });
        Worker { slots, shards, runs: runs.collect(), who }
    });
    Ok(workers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_nobody_does_is_stuck() {
        let idle = Work { waiting_seconds: 31.0, ..Work::default() };
        assert_eq!(idle.stuck(), ["a run has waited for 31 s, and nobody works"]);
        let worker = Worker { who: "w".into(), slots: 2, shards: vec![33], runs: Vec::new() };
        let busy = Work { workers: vec![worker], jobs: 1, ..idle };
        assert_eq!(busy.stuck(), ["1 job becomes due by schedule, and nobody schedules"]);
        let scheduler = Some(Owner { who: "s".into(), host: None, shards: Vec::new() });
        assert!(Work { scheduler, ..busy }.stuck().is_empty());
    }
}
