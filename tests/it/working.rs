//! Workers on real servers: what they carry out, and what is left of it when they are killed, frozen or told to end. A run of
//! `recompute-risk` goes on for as long as nobody computes risk.

use std::time::{Duration, Instant};

use insight::domain::ids::AssetId;
use insight::domain::job::{JobCommand, JobEvent, JobKind, JobSettings};
use insight::domain::portfolio::event::CashMode;
use uuid::Uuid;

use crate::ledger::{buy, list};
use crate::working_stage::{SOON, WorkingStage, by_hand, count, eventually, failed, finished};

const REQUESTS: &str = "select count(*) from events where event_type = 'RiskRecomputeRequested'";
const ROWS: &str = "select count(*) from risk.portfolio_risks";
const PATHS_MAX: &str = "1048576";
/// A lease, and time for a machine that has other things to do.
const TAKEN_OVER: Duration = Duration::from_secs(40);

/// Rows of risk that have not obeyed the last request of their shard.
async fn behind(stage: &WorkingStage) -> i64 {
    stage
        .count(
            "select count(*) from risk.portfolio_risks r where r.request_position <> coalesce((select max(position) \
             from events e where e.stream_id = 'shard-' || r.shard), 0)",
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_worker_is_killed_is_taken_over_and_has_one_effect() {
    let stage = WorkingStage::new().await;
    stage.portfolios(40).await;
    let _models = stage.read_models();
    let mut risk = stage.run("risk", &["risk"]);
    eventually("rows of risk", SOON, async || {
        let rows = stage.count("select count(*) from risk.portfolio_risks").await;
        if rows == 40 { Ok(()) } else { Err(rows) }
    })
    .await;
    risk.kill();
    let job = stage.define("nightly", by_hand(JobKind::RecomputeRisk)).await;
    let run = stage.run_now(job).await;
    let (mut first, mut second) = (stage.run("first", &["work"]), stage.run("second", &["work"]));
    let lease = stage.leased(run, SOON).await;
    eventually("requests", SOON, async || {
        let requests = stage.count(REQUESTS).await;
        if requests == 32 { Ok(()) } else { Err(requests) }
    })
    .await;
    // Without Kafka one of them has all shards; whichever it is.
    let (killed, left) = if first.said().contains("run begins") {
        first.kill();
        ("first", &second)
    } else {
        second.kill();
        ("second", &first)
    };
    let began = Instant::now();
    let taken = stage.taken_over(run, &lease, TAKEN_OVER).await;
    println!("{killed} was killed; taken over after {:?}", began.elapsed());
    assert_eq!((taken.attempt, taken.lost), (1, 1));
    let progress = eventually("progress", SOON, async || {
        let lease = stage.lease(run).await;
        lease.clone().and_then(|lease| Some((lease.done?, lease.total?))).ok_or(lease)
    })
    .await;
    assert_eq!(progress, (0, 40));
    risk.start_again();
    let (_, attempt, result) = stage.event(job, SOON, finished).await;
    assert_eq!(attempt, 1, "a worker that was lost is no failure of the run");
    assert!(result.starts_with("40 portfolios computed anew"), "{result}");
    assert_eq!(stage.count(REQUESTS).await, 32, "one request a shard, whoever asked");
    assert_eq!(behind(&stage).await, 0);
    eventually("end of the lease", SOON, async || stage.lease(run).await.map_or(Ok(()), Err)).await;
    let events = stage.events(job).await;
    assert_eq!((count(&events, finished), count(&events, failed)), (1, 0));
    assert!(!left.said().contains("panicked"));
    stage.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_a_free_slot_takes_what_a_busy_one_leaves() {
    let stage = WorkingStage::new().await;
    let _jobs = stage.read_models();
    let job = stage.define("nightly", by_hand(JobKind::RecomputeRisk)).await;
    let (first, second) = (stage.run_now(job).await, stage.run_now(job).await);
    let one_slot = [("WORKER_SLOTS", "1")];
    // Without Kafka one of them owns all shards, and the other one waits to.
    let mut workers = ["one", "other"].map(|name| stage.run_with(name, &["work"], &one_slot));
    let owners = "select count(distinct owner) from job_leases where leased_until > clock_timestamp()";
    eventually("owners of both runs", SOON, async || match stage.count(owners).await {
        2 => Ok(()),
        n => Err(n),
    })
    .await;
    let third = stage.run_now(job).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(stage.lease(third).await, None, "both slots are taken");
    // A cancel reaches both.
    for run_id in [first, second, third] {
        stage.command(job, JobCommand::CancelRun { run_id }).await;
    }
    eventually("ends of the leases", SOON, async || match stage.count(owners).await {
        0 => Ok(()),
        n => Err(n),
    })
    .await;
    let _risk = stage.run("risk", &["risk"]);
    let run = stage.run_now(job).await;
    let ended = |event: &JobEvent| finished(event).filter(|(run_id, ..)| *run_id == run);
    stage.event(job, SOON, ended).await;
    let events = stage.events(job).await;
    assert_eq!((count(&events, finished), count(&events, failed)), (1, 0));
    workers.iter_mut().for_each(crate::processes::Process::stop);
    stage.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trade_does_not_stand_behind_a_recompute() {
    let stage = WorkingStage::new().await;
    let asset = stage.ledger.asset().await;
    let mut portfolios = Vec::new();
    for _ in 0..80 {
        portfolios.push(stage.ledger.portfolio_only(CashMode::Untracked).await);
        stage.ledger.send(buy(portfolios[portfolios.len() - 1], &asset, "3", "7")).await.unwrap();
    }
    // With so many paths a transaction takes seven portfolios, and each row takes its time.
    let (_models, _risk) =
        (stage.read_models(), stage.run_with("risk", &["risk"], &[("RISK_PATHS", PATHS_MAX)]));
    eventually("rows of risk", SOON, async || match stage.count(ROWS).await {
        80 => Ok(()),
        rows => Err(rows),
    })
    .await;
    let slow = "create function slow() returns trigger language plpgsql as \
        'begin perform pg_sleep(0.1); return new; end'; \
        create trigger slow before insert or update on risk.portfolio_risks for each row execute function slow()";
    sqlx::raw_sql(slow).execute(&stage.database.pool).await.unwrap();
    let job = stage.define("nightly", by_hand(JobKind::RecomputeRisk)).await;
    stage.run_now(job).await;
    let _worker = stage.run("worker", &["work"]);
    eventually("requests", SOON, async || match stage.count(REQUESTS).await {
        32 => Ok(()),
        requests => Err(requests),
    })
    .await;
    let traded = stage.ledger.send(buy(portfolios[0], &asset, "1", "7")).await.unwrap();
    let seen = "select count(*) from risk.checkpoints c join risk.portfolio_risks r using (shard) \
        where r.portfolio_id = $1 and r.portfolio_position = $2 and c.position >= $2";
    let left = eventually("risk of the trade", SOON, async || {
        let seen: i64 = sqlx::query_scalar(seen)
            .bind(portfolios[0].0)
            .bind(traded.position.0)
            .fetch_one(&stage.database.pool)
            .await
            .unwrap();
        if seen == 1 { Ok(behind(&stage).await) } else { Err(seen) }
    })
    .await;
    assert!(left > 0, "everything was computed before the trade");
    assert_eq!(count(&stage.events(job).await, finished), 0, "what is not computed is not said to be");
    println!("{left} portfolios were left when the trade's risk was there");
    stage.event(job, SOON, finished).await;
    assert_eq!(behind(&stage).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recompute_that_cannot_reach_a_row_has_failed_and_says_so() {
    let stage = WorkingStage::new().await;
    stage.portfolios(3).await;
    let _all = (stage.read_models(), stage.run("risk", &["risk"]));
    eventually("rows of risk", SOON, async || match stage.count(ROWS).await {
        3 => Ok(()),
        rows => Err(rows),
    })
    .await;
    let stray = "create table stray as select * from risk.portfolio_risks limit 1; \
        update stray set portfolio_id = gen_random_uuid(); insert into risk.portfolio_risks select * from stray";
    sqlx::raw_sql(stray).execute(&stage.database.pool).await.unwrap();
    let once = JobSettings { attempts_max: 1, ..by_hand(JobKind::RecomputeRisk) };
    let job = stage.define("nightly", once).await;
    stage.run_now(job).await;
    let _worker = stage.run("worker", &["work"]);
    let (_, _, reason) = stage.event(job, SOON, failed).await;
    let id: Uuid =
        sqlx::query_scalar("select portfolio_id from stray").fetch_one(&stage.database.pool).await.unwrap();
    assert!(
        reason.starts_with("3 of 4 portfolios computed anew") && reason.contains(&id.to_string()),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_frozen_past_its_lease_writes_nothing() {
    let stage = WorkingStage::new().await;
    let job = stage.define("nightly", by_hand(JobKind::RecomputeRisk)).await;
    let run = stage.run_now(job).await;
    let frozen = stage.run("frozen", &["work"]);
    let lease = stage.leased(run, SOON).await;
    frozen.freeze();
    let _other = stage.run("other", &["work"]);
    let taken = stage.taken_over(run, &lease, TAKEN_OVER).await;
    frozen.thaw();
    eventually("word of its loss", SOON, async || {
        let said = frozen.said();
        if said.contains("end=Lost") { Ok(()) } else { Err(said) }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.lease(run).await.map(|lease| lease.owner), Some(taken.owner));
    let events = stage.events(job).await;
    assert_eq!((count(&events, finished), count(&events, failed)), (0, 0));
    let (_models, _risk) = (stage.read_models(), stage.run("risk", &["risk"]));
    stage.event(job, SOON, finished).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(count(&stage.events(job).await, finished), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_beyond_its_time_limit_has_failed_and_the_next_one_succeeds() {
    let stage = WorkingStage::new().await;
    stage.portfolios(3).await;
    let _models = stage.read_models();
    let settings =
        JobSettings { soft_limit_seconds: 2, time_limit_seconds: 2, ..by_hand(JobKind::RecomputeRisk) };
    let job = stage.define("nightly", settings).await;
    let soft = JobSettings { soft_limit_seconds: 1, attempts_max: 1, ..by_hand(JobKind::RecomputeRisk) };
    let told = stage.define("told", soft).await;
    let (run, _) = (stage.run_now(job).await, stage.run_now(told).await);
    let _worker = stage.run("worker", &["work"]);
    let (_, attempt, reason) = stage.event(job, SOON, failed).await;
    assert_eq!((attempt, reason.as_str()), (1, "it took longer than its time limit of 2 s"));
    let (_, _, reason) = stage.event(told, SOON, failed).await;
    assert!(reason.starts_with("it was asked to end at its soft limit: 0 of 0 portfolios"), "{reason}");
    assert!(reason.contains("32 of 32 shards"), "{reason}");
    let _risk = stage.run("risk", &["risk"]);
    let (finished_run, attempt, _) = stage.event(job, SOON, finished).await;
    assert_eq!(finished_run, run);
    assert!((2..=3).contains(&attempt), "{attempt}");
    assert_eq!(stage.count(REQUESTS).await, 64, "each run asks each shard once, however often it is tried");
    assert_eq!(count(&stage.events(told).await, finished), 0, "it had one attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_a_running_task_and_makes_room_for_others() {
    let stage = WorkingStage::new().await;
    let job = stage.define("nightly", by_hand(JobKind::RecomputeRisk)).await;
    let (first, second) = (stage.run_now(job).await, stage.run_now(job).await);
    let mut worker = stage.run_with("worker", &["work"], &[("WORKER_SLOTS", "1")]);
    stage.leased(first, SOON).await;
    assert_eq!(stage.lease(second).await, None, "there is one slot");
    let began = Instant::now();
    stage.command(job, JobCommand::CancelRun { run_id: first }).await;
    eventually("end of the lease", SOON, async || stage.lease(first).await.map_or(Ok(()), Err)).await;
    println!("cancelled within {:?}", began.elapsed());
    let lease = stage.leased(second, SOON).await;
    // Also where the worker that has the run is not the one that learns of it: it looks at its lease.
    let sql = "update job_leases set cancel_requested = true where run_id = $1";
    sqlx::query(sql).bind(second.0).execute(&stage.database.pool).await.unwrap();
    eventually("end of the attempt", SOON, async || {
        let said = worker.said();
        if said.matches("end=Cancelled").count() == 2 { Ok(()) } else { Err(said) }
    })
    .await;
    assert_eq!(lease.attempt, 1);
    let ended = |event: &JobEvent| finished(event).or(failed(event));
    assert_eq!(
        count(&stage.events(job).await, ended),
        0,
        "what is cancelled has neither failed nor finished"
    );
    worker.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_end_gives_its_runs_back() {
    let stage = WorkingStage::new().await;
    let job = stage.define("nightly", by_hand(JobKind::RecomputeRisk)).await;
    let run = stage.run_now(job).await;
    let mut first = stage.run("first", &["work"]);
    let lease = stage.leased(run, SOON).await;
    let began = Instant::now();
    first.stop();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(stage.lease(run).await, None);
    assert_eq!(stage.count("select count(*) from job_workers").await, 0);
    let _second = stage.run("second", &["work"]);
    let taken = stage.taken_over(run, &lease, SOON).await;
    assert_eq!((taken.attempt, taken.lost), (1, 0), "nobody was lost and nothing has failed");
    assert_eq!(count(&stage.events(job).await, failed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_that_finds_something_has_failed_and_says_what() {
    let stage = WorkingStage::new().await;
    stage.portfolios(2).await;
    let (mut models, mut risk) = (stage.read_models(), stage.run("risk", &["risk"]));
    stage.assert_verified().await;
    models.stop();
    risk.stop();
    let damage = "update holdings.holdings set quantity = quantity + 1";
    assert_eq!(sqlx::query(damage).execute(&stage.database.pool).await.unwrap().rows_affected(), 2);
    let check = stage.define("check", JobSettings { attempts_max: 1, ..by_hand(JobKind::Verify) }).await;
    stage.run_now(check).await;
    let _worker = stage.run("worker", &["work"]);
    let (_, _, reason) = stage.event(check, SOON, failed).await;
    assert!(reason.contains("differences") && reason.contains("holdings.holdings"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_appends_what_is_new_and_a_source_that_is_not_there_is_told() {
    let stage = WorkingStage::new().await;
    stage.ledger.send(list(AssetId(Uuid::now_v7()), "AAPL")).await.unwrap();
    let _all = (stage.read_models(), stage.run("worker", &["work"]));
    let of = |kind, source: &str| JobSettings {
        symbols: vec!["AAPL".into()],
        source: Some(source.into()),
        attempts_max: 1,
        ..by_hand(kind)
    };
    let quotes = stage.define("quotes", of(JobKind::FetchQuotes, "demo")).await;
    for expected in ["1 fetched (1 prices)", "1 unchanged"] {
        let run = stage.run_now(quotes).await;
        let ended =
            |event: &JobEvent| finished(event).or(failed(event)).filter(|(run_id, ..)| *run_id == run);
        let (_, _, result) = stage.event(quotes, SOON, ended).await;
        assert!(result.contains(expected), "{result}");
    }
    let prices = "select count(*) from events where event_type = 'PricesObserved'";
    assert_eq!(stage.count(prices).await, 1);
    let nowhere = stage.define("nowhere", of(JobKind::FetchHistory, "nowhere")).await;
    stage.run_now(nowhere).await;
    let (_, _, reason) = stage.event(nowhere, SOON, failed).await;
    assert!(reason.contains("there is no source nowhere"), "{reason}");
}
