//! Workers beside a job whose stream is parked: its rows stand still, and what the log says is done is not done again.

use std::time::Duration;

use insight::domain::ids::JobId;
use insight::domain::job::{JobKind, JobSettings};

use crate::processes::Process;
use crate::working_stage::{SOON, WorkingStage, by_hand, count, eventually, failed, finished};

/// Longer than whoever has a free slot leaves a run to its shard's owner, and than it takes to look.
const LEFT_ALONE: Duration = Duration::from_secs(9);

/// From here on the rows of these jobs stand still, and their checkpoints go on.
async fn park(stage: &WorkingStage, models: &mut Process, jobs: &[JobId]) {
    models.stop();
    for job in jobs {
        let stream = job.stream();
        let park = "insert into jobs.parked_streams (stream_id, shard, position, event_id, reason, parked_at) \
            select $1, $2, max(position) + 1, 'x', 'an older program cannot do this', now() from events";
        let park = sqlx::query(park).bind(stream.as_str()).bind(stream.shard().0);
        park.execute(&stage.database.pool).await.unwrap();
    }
    models.start_again();
}

/// Waits until no row is behind the log but those of parked streams.
async fn caught_up(stage: &WorkingStage) {
    let behind = "select count(*) from (select shard, max(position) as position from events \
        where stream_id like 'job-%' group by shard) e left join jobs.checkpoints c using (shard) \
        where coalesce(c.position, 0) < e.position";
    eventually("rows of jobs", SOON, async || match stage.count(behind).await {
        0 => Ok(()),
        n => Err(n),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_a_parked_stream_is_not_done_again_and_is_tried_again_where_the_log_says_so() {
    let stage = WorkingStage::new().await;
    let mut models = stage.read_models();
    let backup = stage.define("backup", by_hand(JobKind::Backup)).await;
    let fetch = JobSettings {
        source: Some("nowhere".into()),
        attempts_max: 2,
        retry_pause_seconds: 5,
        ..by_hand(JobKind::FetchQuotes)
    };
    let fetch = stage.define("fetch", fetch).await;
    for job in [backup, fetch] {
        stage.run_now(job).await;
    }
    caught_up(&stage).await;
    park(&stage, &mut models, &[backup, fetch]).await;
    let mut worker = stage.run("worker", &["work"]);
    stage.event(backup, SOON, finished).await;
    assert_eq!(stage.event(fetch, SOON, failed).await.1, 1);
    worker.kill();
    caught_up(&stage).await;
    let open = "select count(*) from jobs.runs where state = 'scheduled' and attempt = 1";
    assert_eq!(stage.count(open).await, 2, "their rows say that nobody has begun");

    worker.start_again();
    let other = stage.run("other", &["work"]);
    tokio::time::sleep(LEFT_ALONE).await;
    let begun: Vec<String> = [worker.said_lately(), other.said()]
        .iter()
        .flat_map(|said| said.lines().filter(|line| line.contains("run begins")).map(str::to_owned))
        .collect();
    assert!(
        begun.len() == 1 && begun[0].contains("attempt=2"),
        "the second attempt, and no more: {begun:#?}"
    );
    let attempts: Vec<u32> =
        stage.events(fetch).await.iter().filter_map(failed).map(|(_, attempt, _)| attempt).collect();
    assert_eq!((count(&stage.events(backup).await, finished), &attempts[..]), (1, &[1, 2][..]));
    assert_eq!(stage.count("select count(*) from job_leases").await, 0);
}
