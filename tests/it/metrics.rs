//! What processes tell machines: metrics of every role, and logs as JSON.

use std::net::SocketAddr;

use insight::domain::job::{JobKind, JobSettings};

use crate::processes::{Process, answers, free_address, http};
use crate::working_stage::{SOON, WorkingStage, by_hand, eventually, failed, finished};

/// Starts a role that shows its metrics, writes JSON, and asks nobody outside.
fn shown(stage: &WorkingStage, role: &str) -> (Process, SocketAddr) {
    let (address, sources) = (free_address(), stage.place.path().join("sources.toml"));
    std::fs::write(&sources, "quotes = \"demo\"\nhistory = \"demo\"\nrates = \"demo\"\n").unwrap();
    let told = [
        ("METRICS_ADDRESS", address.to_string()),
        ("LOG_FORMAT", "json".to_owned()),
        ("SOURCES_FILE", sources.display().to_string()),
    ];
    let told: Vec<_> = told.iter().map(|(name, value)| (*name, value.as_str())).collect();
    (stage.run_with(role, &[role], &told), address)
}

/// Waits until a process counts this.
async fn shows(address: SocketAddr, line: &str) {
    let client = http().build().unwrap();
    let asked = async || {
        let answer = client.get(format!("http://{address}/metrics")).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        let text = answer.text().await.unwrap();
        if text.lines().any(|it| it == line) { Ok(()) } else { Err(text) }
    };
    eventually(line, SOON, asked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_counts_for_itself_and_can_be_asked() {
    let stage = WorkingStage::new().await;
    stage.portfolios(1).await;
    let _models = stage.read_models();
    let (_risk, risk) = shown(&stage, "risk");
    let (_fetch, at_fetch) = shown(&stage, "fetch");
    let (worker, at_work) = shown(&stage, "work");
    let (scheduler, at_schedule) = shown(&stage, "schedule");
    answers(at_work).await;

    let once = |kind| JobSettings { attempts_max: 1, ..by_hand(kind) };
    let asked = JobSettings { symbols: vec!["NONE".into()], ..once(JobKind::FetchQuotes) };
    let (good, bad) =
        (stage.define("check", once(JobKind::Backup)).await, stage.define("quotes", asked).await);
    stage.run_now(good).await;
    stage.run_now(bad).await;
    stage.event(good, SOON, finished).await;
    stage.event(bad, SOON, failed).await;

    shows(at_work, r#"insight_job_run_seconds_count{kind="backup",outcome="finished"} 1"#).await;
    shows(at_work, r#"insight_job_run_seconds_bucket{kind="backup",outcome="finished",le="3600"} 1"#).await;
    shows(at_work, r#"insight_job_run_seconds_count{kind="fetch-quotes",outcome="failed"} 1"#).await;
    shows(at_work, r#"insight_job_failures_total{kind="fetch-quotes"} 1"#).await;
    shows(at_work, "insight_job_leases_held 0").await;
    shows(at_work, "insight_jobs_oldest_open_run_seconds 0").await;
    shows(at_schedule, "insight_scheduler_active 1").await;
    shows(at_schedule, "insight_scheduler_longest_wait_seconds 0").await;
    shows(risk, r#"insight_projector_lag_events{read_model="risk"} 0"#).await;
    shows(at_fetch, r#"insight_market_data_assets_total{what="rates",outcome="refused"} 0"#).await;
    let nothing_else = http().build().unwrap().get(format!("http://{at_work}/v1/portfolios")).send().await;
    assert_eq!(nothing_else.unwrap().status(), 404);

    for said in [worker.said(), scheduler.said()] {
        assert!(said.lines().count() > 0);
        for line in said.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect(line);
            let has = |name: &str| line[name].is_string();
            assert!(has("timestamp") && has("level") && has("message") && has("target"), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_ends_the_start_with_its_name() {
    let stage = WorkingStage::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut worker = stage.run_with("worker", &["work"], &[("METRICS_ADDRESS", &address)]);
    let said = worker.halted(SOON);
    assert!(said.contains(&format!("cannot show metrics at {address}")), "{said}");
}
