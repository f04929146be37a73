//! Scheduled work meanwhile: a job that is due every two seconds, whose schedulers and workers are killed like everybody else.

use std::time::{Duration, Instant};

use insight::event_store::read;
use serde_json::json;
use sqlx::PgPool;

use crate::caller::{Answer, Caller, Request};

const NAME: &str = "chaos-recompute";
const EVERY_SECONDS: u32 = 2;
/// Nothing is appended for so long when nobody has anything to do.
const SILENT_FOR: Duration = Duration::from_secs(2);
/// A dead worker's lease must end first, and a pause before another attempt.
const CARRIED_OUT_WITHIN: Duration = Duration::from_secs(30);

/// Defines the job, as one of the clients does.
pub async fn define(caller: &mut Caller) -> (Request, Answer) {
    let job = json!({"name": NAME, "kind": "recompute-risk", "schedule": {"interval_seconds": EVERY_SECONDS},
        "time_limit_seconds": 60, "attempts_max": 20, "retry_pause_seconds": 1});
    command(caller, "/v1/jobs", job).await
}

/// Waits until a run has been carried out by those whom nobody kills any more.
pub async fn carried_out(pool: &PgPool) {
    let (before, began) = (finished(pool).await, Instant::now());
    while finished(pool).await == before {
        assert!(began.elapsed() < CARRIED_OUT_WITHIN, "due times become runs, and runs are carried out");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Removes it, so that the log comes to rest.
pub async fn remove(caller: &mut Caller, pool: &PgPool) -> (Request, Answer) {
    let removed = command(caller, &format!("/v1/jobs/{NAME}/remove"), json!({})).await;
    let mut head = read::head(pool).await.unwrap();
    loop {
        tokio::time::sleep(SILENT_FOR).await;
        let now = read::head(pool).await.unwrap();
        if now == head {
            return removed;
        }
        head = now;
    }
}

async fn command(caller: &mut Caller, path: &str, body: serde_json::Value) -> (Request, Answer) {
    let request = caller.request(path, body);
    let answer = caller.send(&request).await;
    assert!(answer.is_accepted(), "a job is what it is told to be: {}", answer.body);
    (request, answer)
}

/// How many runs were carried out. Each due time has one run, and each run one end.
pub async fn judge(pool: &PgPool) -> i64 {
    const TWICE: &str = "select (select count(*) from (select from events where event_type in ('RunScheduled', 'RunSkipped') \
            group by stream_id, payload ->> 'due_at' having count(*) > 1) as due) \
        + (select count(*) from (select from events where event_type in ('RunFinished', 'RunCancelled') \
            group by payload ->> 'run_id' having count(*) > 1) as ended)";
    let twice: i64 = sqlx::query_scalar(TWICE).fetch_one(pool).await.unwrap();
    assert_eq!(twice, 0, "a due time is taken once, and a run ends once");
    // An attempt that failed for good has no time for another one.
    const ATTEMPTS: &str = "with ends as (select position, event_type, payload ->> 'run_id' as run, payload ->> 'attempt' as attempt, \
            event_type <> 'RunFailed' or payload ->> 'retry_at' is null as is_last \
            from events where event_type in ('RunFinished', 'RunFailed', 'RunCancelled')) \
        select (select count(*) from (select from ends where attempt is not null group by run, attempt having count(*) > 1) as same) \
            + (select count(*) from ends e join ends last using (run) where last.is_last and e.position > last.position)";
    let again: i64 = sqlx::query_scalar(ATTEMPTS).fetch_one(pool).await.unwrap();
    assert_eq!(again, 0, "an attempt ends once, and nothing comes after the end of a run");
    const REQUESTS: &str = "select count(*) from (select from events where event_type = 'RiskRecomputeRequested' \
        group by shard, payload ->> 'run_id' having count(*) > 1) as asked";
    let asked: i64 = sqlx::query_scalar(REQUESTS).fetch_one(pool).await.unwrap();
    assert_eq!(asked, 0, "a run asks a shard once, however many workers carry it out");
    finished(pool).await
}

async fn finished(pool: &PgPool) -> i64 {
    const FINISHED: &str = "select count(*) from events where event_type = 'RunFinished'";
    sqlx::query_scalar(FINISHED).fetch_one(pool).await.unwrap()
}
