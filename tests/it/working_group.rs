//! Workers as a consumer group on Kafka.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use insight::domain::ids::JobId;
use insight::domain::job::{JobKind, JobSettings};

use crate::processes::Process;
use crate::working_stage::{SOON, WorkingStage, by_hand, count, eventually, failed, finished};

const WORKERS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn three_workers_share_the_runs_and_one_that_is_killed_loses_none() {
    let stage = WorkingStage::on_kafka().await;
    stage.portfolios(200).await;
    let _base = (stage.run("relay", &["relay"]), stage.read_models());
    let mut workers: Vec<_> = (0..WORKERS).map(|n| stage.run(&format!("worker-{n}"), &["work"])).collect();
    let shared = "select count(*) from job_workers where cardinality(shards) in (2, 3)";
    eventually("shares of the shards", Duration::from_secs(60), async || match stage.count(shared).await {
        3 => Ok(()),
        n => Err(n),
    })
    .await;

    // One job for every shard, which goes on until somebody computes risk.
    let names = (0..).map(|n| format!("job-{n}"));
    let mut shards = BTreeSet::new();
    let mut jobs = Vec::new();
    for name in names {
        if shards.insert(JobId::named(&name).stream().shard()) {
            jobs.push(
                stage.define(&name, JobSettings { attempts_max: 2, ..by_hand(JobKind::RecomputeRisk) }).await,
            );
        }
        if jobs.len() == 8 {
            break;
        }
    }
    for job in &jobs {
        stage.run_now(*job).await;
    }
    // Two slots each.
    let leased = "select count(*) from job_leases where leased_until > clock_timestamp()";
    let owners = "select count(distinct owner) from job_leases where leased_until > clock_timestamp()";
    eventually("slots of all workers in use", SOON, async || {
        match (stage.count(leased).await, stage.count(owners).await) {
            (6, 3) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    workers[1].kill();
    let (mut first, _second) = (stage.run("risk-1", &["risk"]), stage.run("risk-2", &["risk"]));
    let obeyed = "select count(*) from risk.portfolio_risks where request_position > 0";
    eventually("first rows that obey", Duration::from_secs(60), async || match stage.count(obeyed).await {
        0 => Err(()),
        _ => Ok(()),
    })
    .await;
    first.kill();
    for job in &jobs {
        stage.event(*job, Duration::from_secs(90), finished).await;
        let events = stage.events(*job).await;
        assert_eq!((count(&events, finished), count(&events, failed)), (1, 0), "{events:?}");
    }
    let requests = "select count(*) from events where event_type = 'RiskRecomputeRequested'";
    assert_eq!(stage.count(requests).await, 8 * 32);
    let behind = "select count(*) from risk.portfolio_risks r where r.request_position <> (select max(position) \
        from events e where e.stream_id = 'shard-' || r.shard)";
    let rows = "select count(*) from risk.portfolio_risks";
    assert_eq!((stage.count(behind).await, stage.count(rows).await), (0, 200));
    workers[1].start_again();
    eventually("shares of the shards", Duration::from_secs(60), async || match stage.count(
        "select count(*) from job_workers where cardinality(shards) in (2, 3) and seen_at > clock_timestamp() - interval '8 s'",
    )
    .await
    {
        3 => Ok(()),
        n => Err(n),
    })
    .await;
    stage.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_long_costs_nobody_a_shard() {
    let stage = WorkingStage::on_kafka().await;
    let _base = (stage.run("relay", &["relay"]), stage.read_models());
    let workers = ["one", "other"].map(|name| stage.run(name, &["work"]));
    let shared = "select count(*) from job_workers where cardinality(shards) = 4";
    eventually("shares of the shards", Duration::from_secs(60), async || match stage.count(shared).await {
        2 => Ok(()),
        n => Err(n),
    })
    .await;
    let backup = stage.define("backup", by_hand(JobKind::Backup)).await;
    let change = stage.in_the_way().await;
    let run = stage.run_now(backup).await;
    let lease = stage.leased(run, SOON).await;
    let dealt = || {
        let said = workers.each_ref().map(Process::said);
        said.map(|it| it.matches("shards assigned").count() + it.matches("shards revoked").count())
    };
    let before = dealt();
    // Several times what the group would wait for somebody silent.
    tokio::time::sleep(Duration::from_secs(18)).await;
    assert_eq!((stage.count(shared).await, stage.lease(run).await), (2, Some(lease)));
    assert_eq!(count(&stage.events(backup).await, finished), 0);
    change.rollback().await.unwrap();
    assert_eq!(stage.event(backup, SOON, finished).await.1, 1);
    assert_eq!(dealt(), before, "nobody was dealt shards anew");
    stage.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recompute_that_many_share_has_one_effect_when_a_worker_is_killed() {
    let stage = WorkingStage::on_kafka().await;
    let portfolios = std::env::var("RECOMPUTE_PORTFOLIOS").map_or(1_000, |count| count.parse().unwrap());
    stage.portfolios(portfolios).await;
    let _base = (stage.run("relay", &["relay"]), stage.read_models());
    let _risk = ["risk-1", "risk-2"].map(|name| stage.run(name, &["risk"]));
    let rows =
        async || usize::try_from(stage.count("select count(*) from risk.portfolio_risks").await).unwrap();
    eventually("rows of risk", Duration::from_secs(120), async || match rows().await {
        n if n == portfolios => Ok(()),
        n => Err(n),
    })
    .await;
    let mut workers = ["one", "other"].map(|name| stage.run(name, &["work"]));
    let shared = "select count(*) from job_workers where cardinality(shards) = 4";
    eventually("shares of the shards", Duration::from_secs(60), async || match stage.count(shared).await {
        2 => Ok(()),
        n => Err(n),
    })
    .await;
    stage.assert_verified().await;

    let job = stage.define("nightly", by_hand(JobKind::RecomputeRisk)).await;
    let run = stage.run_now(job).await;
    let lease = stage.leased(run, SOON).await;
    let requests = "select count(*) from events where event_type = 'RiskRecomputeRequested'";
    eventually("first request", SOON, async || match stage.count(requests).await {
        0 => Err(()),
        _ => Ok(()),
    })
    .await;
    let began = Instant::now();
    let killed = workers.iter_mut().find(|worker| worker.said().contains("run begins")).unwrap();
    killed.kill();
    let behind = "select count(*) from risk.portfolio_risks r where r.request_position <> coalesce((select max(position) \
        from events e where e.stream_id = 'shard-' || r.shard), 0)";
    let obeyed = async {
        eventually("rows that obey", Duration::from_secs(120), async || {
            match (stage.count(requests).await, stage.count(behind).await) {
                (32, 0) => Ok(()),
                other => Err(other),
            }
        })
        .await;
        began.elapsed()
    };
    let (obeyed, taken) = tokio::join!(obeyed, stage.taken_over(run, &lease, Duration::from_secs(40)));
    println!("{portfolios} portfolios have obeyed {obeyed:?} after the first shard was asked");
    assert_eq!((taken.attempt, taken.lost), (1, 1));
    stage.event(job, SOON, finished).await;
    let events = stage.events(job).await;
    assert_eq!((count(&events, finished), count(&events, failed)), (1, 0), "{events:?}");
    let asked = "select count(*) from (select from events where event_type = 'RiskRecomputeRequested' \
        group by shard having count(*) = 1) as shards";
    assert_eq!(
        (stage.count(requests).await, stage.count(asked).await),
        (32, 32),
        "once a shard, whoever asked"
    );
    assert_eq!((stage.count(behind).await, rows().await), (0, portfolios));
    stage.assert_verified().await;
}
