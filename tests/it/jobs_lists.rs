//! Lists of jobs read what they show, however much stands beside it.

use insight::domain::ids::JobId;
use insight::queries::PageRequest;
use insight::queries::job_plan::{find_changes, find_longest_wait};
use insight::queries::jobs::{list_failed_runs, list_jobs, list_runs};
use serde_json::Value;
use sqlx::postgres::PgArguments;
use sqlx::{Arguments, AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::environment;

/// Runs that stand beside those that are asked for.
const MANY: i64 = 30_000;
const PAGE: PageRequest = PageRequest { limit: 50, after: None };

/// Jobs of these names; the first has been removed.
async fn jobs(pool: &PgPool, names: &[&str]) {
    const SQL: &str = "insert into jobs.jobs (job_id, name, kind, interval_seconds, soft_limit_seconds, time_limit_seconds, \
        attempts_max, retry_pause_seconds, overlap, symbols, defined_by, defined_at, defined_position, settings_at, \
        version, position, removed_at) \
        select $1, $2, 'verify', 60, 50, 60, 3, 5, 'skip', '{}', 'test', now(), 0, now(), 1, 1, case when $3 then now() end";
    for (n, name) in names.iter().enumerate() {
        let insert = sqlx::query(SQL).bind(JobId::named(name).0).bind(name).bind(n == 0);
        insert.execute(pool).await.unwrap();
    }
}

/// Runs in a state, after these places of the log.
async fn runs(pool: &PgPool, job: &str, state: &str, after: i64, count: i64) {
    const SQL: &str = "insert into jobs.runs (job_id, scheduled_position, run_id, due_at, trigger, state, missed, attempt, \
        scheduled_at, position) \
        select $1, i, md5($1 || 'run' || i)::uuid, now(), 'schedule', $2, 0, 1, now() - interval '1 hour', i \
        from generate_series($3 + 1, $3 + $4) i";
    let insert = sqlx::query(SQL).bind(JobId::named(job).0).bind(state).bind(after).bind(count);
    insert.execute(pool).await.unwrap();
    sqlx::raw_sql("analyze jobs.runs; analyze jobs.jobs").execute(pool).await.unwrap();
}

/// How many rows of runs a statement looks at.
async fn looked_at(pool: &PgPool, statement: &str, arguments: PgArguments) -> i64 {
    let sql = format!("explain (analyze, format json) {statement}");
    let plan: Value = sqlx::query_scalar_with(AssertSqlSafe(sql), arguments).fetch_one(pool).await.unwrap();
    fn count(node: &Value) -> f64 {
        let number = |name: &str| node[name].as_f64().unwrap_or_default();
        let own = if node["Relation Name"] == "runs" {
            (number("Actual Rows") + number("Rows Removed by Filter")) * number("Actual Loops")
        } else {
            0.0
        };
        own + node["Plans"].as_array().into_iter().flatten().map(count).sum::<f64>()
    }
    count(&plan[0]["Plan"]) as i64
}

macro_rules! arguments {
    ($($value:expr),*) => {{
        let mut arguments = PgArguments::default();
        $(arguments.add($value).unwrap();)*
        arguments
    }};
}

#[tokio::test]
async fn runs_in_a_state_are_found_without_the_others() {
    let database = environment::database().await;
    let pool = &database.pool;
    jobs(pool, &["gone", "often"]).await;
    runs(pool, "often", "failed", 0, 55).await;
    runs(pool, "often", "finished", 55, MANY).await;
    runs(pool, "often", "scheduled", MANY + 55, 3).await;
    let often = JobId::named("often");
    let lease = "insert into job_leases (run_id, job_id, shard, attempt, owner, started_at, leased_until) \
        select run_id, job_id, 33, 1, 'worker', now(), now() + interval '1 minute' from jobs.runs \
        where state = 'scheduled' order by scheduled_position limit 1";
    sqlx::query(lease).execute(pool).await.unwrap();
    for (state, count) in
        [("failed", 50), ("finished", 50), ("scheduled", 2), ("running", 1), ("retrying", 0), ("skipped", 0)]
    {
        let found = list_runs(pool, often, Some(state), &PAGE).await.unwrap().data.items;
        assert_eq!(found.len(), count, "{state}");
        assert!(found.iter().all(|run| run.state == state), "{state}");
        let statement = include_str!("../../projections/jobs/list_runs_in_state.sql");
        if state != "running" {
            let arguments = arguments!(often.0, state, None::<i64>, 51_i64);
            // Of a few it may sort all.
            assert!(looked_at(pool, statement, arguments).await <= 60, "{state}");
        }
    }
    let statement = include_str!("../../projections/jobs/list_running_runs.sql");
    assert!(looked_at(pool, statement, arguments!(often.0, None::<i64>, 51_i64)).await <= 3);
    assert_eq!(list_runs(pool, often, None, &PAGE).await.unwrap().data.items.len(), 50);
}

#[tokio::test]
async fn a_jobs_last_run_is_found_behind_the_due_times_that_were_skipped() {
    let database = environment::database().await;
    let pool = &database.pool;
    jobs(pool, &["gone", "stuck"]).await;
    runs(pool, "stuck", "finished", 0, 5).await;
    runs(pool, "stuck", "skipped", 5, MANY).await;
    let found = list_jobs(pool, &PAGE).await.unwrap().data.items;
    assert_eq!(
        found.iter().map(|job| (&*job.name, job.last_position)).collect::<Vec<_>>(),
        [("stuck", Some(5))]
    );
    let statement = include_str!("../../projections/jobs/list_jobs.sql");
    let looked_at = looked_at(pool, statement, arguments!(None::<Uuid>, None::<String>, 51_i64)).await;
    assert!(looked_at <= 10, "{looked_at}");
}

#[tokio::test]
async fn what_failed_is_listed_as_far_as_it_can_be_tried_again_and_removed_jobs_are_not_in_the_way() {
    let database = environment::database().await;
    let pool = &database.pool;
    jobs(pool, &["gone", "fails", "other"]).await;
    runs(pool, "other", "failed", 0, 3).await;
    runs(pool, "fails", "failed", 1_000, 250).await;
    runs(pool, "gone", "failed", 2_000, MANY).await;
    let found = list_failed_runs(pool, &PageRequest { limit: 500, after: None }).await.unwrap().data.items;
    let of = |job: &str| -> Vec<i64> {
        found.iter().filter(|run| run.job == job).map(|run| run.scheduled_position).collect()
    };
    assert_eq!((of("gone").len(), of("fails").last(), of("fails").len()), (0, Some(&1_051), 200));
    assert_eq!(of("other"), [3, 2, 1]);
    assert!(found.is_sorted_by_key(|run| -run.scheduled_position));
    let statement = include_str!("../../projections/jobs/list_failed_runs.sql");
    let looked_at = looked_at(pool, statement, arguments!(None::<i64>, 51_i64)).await;
    // A mean of rows a job, rounded.
    assert!((203..=210).contains(&looked_at), "{looked_at}");
    // What was tried again makes no room for what the write side has forgotten.
    let retried = "update jobs.runs set retried_by = run_id where job_id = $1 and scheduled_position > 1060";
    sqlx::query(retried).bind(JobId::named("fails").0).execute(pool).await.unwrap();
    let found = list_failed_runs(pool, &PageRequest { limit: 500, after: None }).await.unwrap().data.items;
    let left = found.iter().filter(|run| run.job == "fails").map(|run| run.scheduled_position);
    assert!(left.eq((1_051..=1_060).rev()), "{}", found.len());
    let jobs = list_jobs(pool, &PAGE).await.unwrap().data.items;
    let failed: Vec<_> = jobs.iter().map(|job| (&*job.name, job.failed_runs)).collect();
    assert_eq!(failed, [("fails", 10), ("other", 3)]);
}

#[tokio::test]
async fn how_long_runs_wait_is_told_without_a_worker() {
    let database = environment::database().await;
    let pool = &database.pool;
    assert_eq!(find_longest_wait(pool).await.unwrap(), 0.0);
    jobs(pool, &["gone", "often"]).await;
    runs(pool, "often", "scheduled", 0, 2).await;
    let wait = async || find_longest_wait(pool).await.unwrap();
    assert!((3_600.0..3_700.0).contains(&wait().await));
    // Of what waits for another attempt, since that might have begun.
    sqlx::raw_sql("update jobs.runs set state = 'retrying', retry_at = now() - interval '5 minutes'")
        .execute(pool)
        .await
        .unwrap();
    assert!((300.0..400.0).contains(&wait().await));
    sqlx::raw_sql("update jobs.runs set retry_at = now() + interval '5 minutes'")
        .execute(pool)
        .await
        .unwrap();
    assert_eq!(wait().await, 0.0);
    // Somebody is at it, until the lease ends.
    sqlx::raw_sql("update jobs.runs set retry_at = null").execute(pool).await.unwrap();
    let lease = "insert into job_leases (run_id, job_id, shard, attempt, owner, started_at, leased_until) \
        select run_id, job_id, 33, 1, 'worker', now(), now() + interval '10 seconds' from jobs.runs";
    sqlx::query(lease).execute(pool).await.unwrap();
    assert_eq!(wait().await, 0.0);
    // Of a time before the clock was put back.
    sqlx::raw_sql("update job_leases set leased_until = now() + interval '1 hour'")
        .execute(pool)
        .await
        .unwrap();
    assert!(wait().await > 3_600.0);
    sqlx::raw_sql("update job_leases set leased_until = now() - interval '1 second'")
        .execute(pool)
        .await
        .unwrap();
    assert!(wait().await > 3_600.0);
}

#[tokio::test]
async fn a_stream_that_is_caught_up_later_is_a_change_although_no_checkpoint_moves() {
    let database = environment::database().await;
    let pool = &database.pool;
    let state = async || find_changes(pool).await.unwrap().state;
    let park = "insert into jobs.parked_streams (stream_id, shard, position, event_id, reason, parked_at) \
        values ('job-1', 33, $1, 'x', 'x', now())";
    let before = state().await;
    assert_eq!(state().await, before);
    sqlx::query(park).bind(7_i64).execute(pool).await.unwrap();
    let parked = state().await;
    sqlx::query("update jobs.parked_streams set position = 8").execute(pool).await.unwrap();
    let further = state().await;
    sqlx::query("delete from jobs.parked_streams").execute(pool).await.unwrap();
    assert_eq!(state().await, before);
    assert!(before != parked && parked != further && further != before);
}
