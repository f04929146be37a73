//! Jobs as a client sees them: defined once, due, run, cancelled, tried again, and whatever is nonsense refused by its field.

use axum::body::Body;
use axum::http::Request;
use insight::commands::Command;
use insight::domain::ids::{JobId, RunId};
use insight::domain::job::{FailRun, FinishRun, JobCommand};
use insight::feed::{Source, StoreTail, WindowLimits};
use insight::projectors::jobs::Jobs;
use insight::projectors::{self, Settings};
use insight::verify::verify;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::environment::{self, TestDatabase};
use crate::ledger::Ledger;
use crate::service::{Answer, Service};

/// A service whose jobs are projected.
pub struct Office {
    pub service: Service,
    pub ledger: Ledger,
    pub database: TestDatabase,
    projector: JoinHandle<Result<(), projectors::Error>>,
    stop: CancellationToken,
}

impl Office {
    pub async fn open() -> Self {
        let database = environment::database().await;
        let source = Source::Store(StoreTail::start(database.pool.clone(), WindowLimits::default()));
        let stop = CancellationToken::new();
        let (pool, settings) = (database.pool.clone(), Settings::default());
        let running = projectors::run_with(Jobs::default(), source, pool, stop.clone(), settings);
        let projector = tokio::spawn(running);
        Self {
            service: Service::start(&database),
            ledger: Ledger::start(&database),
            database,
            projector,
            stop,
        }
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.service.post(path, body).await
    }

    /// Says what the address says, without a body.
    pub async fn ask(&self, path: &str) -> Answer {
        self.service.send(Request::post(path).body(Body::empty()).unwrap()).await
    }

    /// Reads what the log holds by now.
    pub async fn get(&self, path: &str) -> Answer {
        let sign = if path.contains('?') { '&' } else { '?' };
        self.service.get(&format!("{path}{sign}min_position=1:{}", self.service.head().await)).await
    }

    pub async fn items(&self, path: &str) -> Vec<Value> {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body["items"].as_array().unwrap().clone()
    }

    /// An attempt fails, as a worker says it.
    pub async fn fail(&self, name: &str, run_id: RunId) {
        let reason = "the disk is\nfull".to_owned();
        let fail = FailRun { run_id, attempt: 1, started_at: chrono::DateTime::UNIX_EPOCH, reason };
        self.work(name, JobCommand::FailRun(fail)).await;
    }

    /// What a worker says.
    async fn work(&self, name: &str, command: JobCommand) {
        self.ledger.send(Command::Job { job_id: JobId::named(name), command }).await.unwrap();
    }

    pub async fn close(self) {
        self.stop.cancel();
        self.projector.await.unwrap().unwrap();
        let report = verify(&self.database.pool).await.unwrap();
        assert!(report.is_clean(), "{report}");
    }
}

fn daily(name: &str) -> Value {
    json!({"name": name, "kind": "verify", "schedule": {"crontab": "30 2 * * *", "time_zone": "Europe/Berlin"}, "attempts_max": 1})
}

fn kind(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body["type"].as_str().unwrap_or_default())
}

fn run_id(run: &Value) -> RunId {
    run["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_defined_changed_and_removed() {
    let office = Office::open().await;
    let defined = office.post("/v1/jobs", daily("nightly")).await;
    assert_eq!(defined.status, 201, "{}", defined.body);
    let id = JobId::named("nightly").to_string();
    assert_eq!(defined.body["id"], id);
    assert_eq!(defined.headers["location"], format!("/v1/jobs/{id}").as_str());
    let again = office.post("/v1/jobs", daily("nightly")).await;
    assert_eq!((again.status, &again.body["events"]), (200, &json!([])));
    let mut other = daily("nightly");
    other["kind"] = json!("backup");
    let taken = office.post("/v1/jobs", other).await;
    assert_eq!(kind(&taken), (409, "/problems/name-taken"));
    assert_eq!(taken.body["name"], "nightly");

    let found = office.get("/v1/jobs/nightly").await.body;
    assert_eq!(found["schedule"], json!({"crontab": "30 2 * * *", "time_zone": "Europe/Berlin"}));
    assert_eq!((&found["attempts_max"], &found["soft_limit_seconds"]), (&json!(1), &json!(3240)));
    assert_eq!((&found["overlap"], &found["defined_by"]), (&json!("skip"), &json!("local")));
    assert!(found["next_due_at"].as_str().unwrap().ends_with(":30:00Z"), "{found}");
    let by_id = office.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(by_id.body["name"], "nightly");
    assert!(by_id.headers["etag"].to_str().unwrap().starts_with("W/\""));

    let changed =
        json!({"kind": "fetch-quotes", "schedule": {"interval_seconds": 900}, "symbols": ["AAPL", "^GSPC"]});
    let stale = [("if-match", "\"7\"")];
    let refused = office.service.post_with("/v1/jobs/nightly/change", &stale, changed.clone()).await;
    assert_eq!((refused.status, &refused.body["current_version"]), (412, &json!(1)));
    let key = [("idempotency-key", "change"), ("if-match", "\"1\"")];
    let first = office.service.post_with("/v1/jobs/nightly/change", &key, changed.clone()).await;
    let resent =
        office.service.post_with(&format!("/v1/jobs/{}/change", "nightly"), &key, changed.clone()).await;
    assert_eq!((first.status, &first.body), (201, &resent.body));
    assert_eq!(office.post("/v1/jobs/nightly/change", changed).await.status, 200);
    let found = office.get("/v1/jobs/nightly").await.body;
    assert_eq!(
        (&found["schedule"], &found["symbols"]),
        (&json!({"interval_seconds": 900}), &json!(["AAPL", "^GSPC"]))
    );
    assert_eq!(
        (&found["attempts_max"], &found["version"]),
        (&json!(3), &json!(2)),
        "what is left out has its default"
    );

    let run = office.ask("/v1/jobs/nightly/run").await.body["command_id"].as_str().unwrap().to_owned();
    assert_eq!(office.get(&format!("/v1/jobs/nightly/runs/{run}")).await.status, 200);
    assert_eq!(office.ask("/v1/jobs/nightly/remove").await.status, 201);
    assert_eq!(office.get("/v1/jobs/nightly").await.status, 404);
    for gone in ["", "/runs", &format!("/runs/{run}")] {
        let answer = office.get(&format!("/v1/jobs/nightly{gone}")).await;
        assert_eq!(kind(&answer), (404, "/problems/not-found"), "{gone}");
    }
    assert_eq!(office.items("/v1/jobs").await.len(), 0);
    assert_eq!(kind(&office.ask("/v1/jobs/nightly/remove").await), (404, "/problems/not-found"));
    // The name is free again, and what happened under it is still told.
    assert_eq!(office.post("/v1/jobs", daily("nightly")).await.status, 201);
    assert_eq!(office.items("/v1/jobs/nightly/runs").await[0]["state"], "cancelled");
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_asked_for_carried_out_and_cancelled() {
    let office = Office::open().await;
    office.post("/v1/jobs", daily("nightly")).await;
    assert_eq!(office.get("/v1/jobs/nightly/runs").await.body["items"], json!([]));
    let asked = office.ask("/v1/jobs/nightly/run").await;
    assert_eq!(asked.status, 201, "{}", asked.body);
    let run = asked.body["command_id"].as_str().unwrap().to_owned();
    let open = office.post("/v1/jobs/nightly/run", json!({})).await;
    assert_eq!((kind(&open), &open.body["run"]), ((409, "/problems/run-open"), &json!(run)));
    let runs = office.items("/v1/jobs/nightly/runs").await;
    assert_eq!(
        (&runs[0]["id"], &runs[0]["state"], &runs[0]["attempt"]),
        (&json!(run), &json!("scheduled"), &json!(1))
    );
    assert_eq!((&runs[0]["trigger"], &runs[0]["job"]), (&json!("manual"), &json!("nightly")));

    // Whoever holds a lease that has not ended carries it out.
    const LEASE: &str = "insert into job_leases (run_id, job_id, shard, attempt, owner, started_at, leased_until, done, total) \
        values ($1, $2, 33, 1, 'worker-1', now(), now() + make_interval(secs => $3), 3, 10)";
    let lease = async |seconds: f64| {
        let pool = &office.database.pool;
        sqlx::query("delete from job_leases").execute(pool).await.unwrap();
        let insert = sqlx::query(LEASE).bind(run.parse::<Uuid>().unwrap()).bind(JobId::named("nightly").0);
        insert.bind(seconds).execute(pool).await.unwrap();
    };
    lease(60.0).await;
    let path = format!("/v1/jobs/nightly/runs/{run}");
    let found = office.get(&path).await.body;
    assert_eq!((&found["state"], &found["worker"]["owner"]), (&json!("running"), &json!("worker-1")));
    assert_eq!((&found["worker"]["done"], &found["worker"]["total"]), (&json!(3), &json!(10)));
    assert_eq!(office.items("/v1/jobs/nightly/runs?state=running").await.len(), 1);
    assert_eq!(office.items("/v1/jobs/nightly/runs?state=scheduled").await.len(), 0);
    assert_eq!(office.items("/v1/jobs").await[0]["last_run"]["state"], "running");
    lease(-1.0).await;
    let found = office.get(&path).await.body;
    assert_eq!((&found["state"], found.get("worker")), (&json!("scheduled"), None));

    let cancelled = office.ask(&format!("{path}/cancel")).await;
    assert_eq!(cancelled.status, 201, "{}", cancelled.body);
    let again = office.ask(&format!("{path}/cancel")).await;
    assert_eq!(kind(&again), (409, "/problems/run-not-open"));
    assert_eq!(again.body["detail"], "this run was cancelled");
    assert_eq!(kind(&office.ask("/v1/jobs/nightly/cancel").await), (409, "/problems/run-not-open"));

    // All open runs at once, and one that has finished.
    office.ask("/v1/jobs/nightly/run").await;
    assert_eq!(office.ask("/v1/jobs/nightly/cancel").await.status, 201);
    let finished = office.ask("/v1/jobs/nightly/run").await.body["command_id"].as_str().unwrap().to_owned();
    let started_at = chrono::DateTime::UNIX_EPOCH;
    let finish =
        FinishRun { run_id: finished.parse().unwrap(), attempt: 1, started_at, result: "done".into() };
    office.work("nightly", JobCommand::FinishRun(finish)).await;
    let refused = office.ask(&format!("/v1/jobs/nightly/runs/{finished}/cancel")).await;
    assert_eq!(
        (kind(&refused), &refused.body["detail"]),
        ((409, "/problems/run-not-open"), &json!("this run finished"))
    );
    let job = office.get("/v1/jobs/nightly").await.body;
    assert_eq!((&job["last_run"]["state"], &job["open_run_count"]), (&json!("finished"), &json!(0)));
    let finished = office.items("/v1/jobs/nightly/runs?state=finished").await;
    assert_eq!((finished.len(), &finished[0]["result"]), (1, &json!("done")));
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_for_good_is_listed_until_it_is_tried_again() {
    let office = Office::open().await;
    office.post("/v1/jobs", daily("nightly")).await;
    let mut patient = daily("patient");
    patient["attempts_max"] = json!(2);
    office.post("/v1/jobs", patient).await;
    for name in ["nightly", "patient"] {
        office.ask(&format!("/v1/jobs/{name}/run")).await;
        let run_id = run_id(&office.items(&format!("/v1/jobs/{name}/runs")).await[0]);
        office.fail(name, run_id).await;
    }
    let retrying = office.items("/v1/jobs/patient/runs").await;
    assert_eq!((&retrying[0]["state"], &retrying[0]["attempt"]), (&json!("retrying"), &json!(2)));
    assert!(retrying[0]["retry_at"].is_string());

    let failed = office.items("/v1/jobs/failed").await;
    assert_eq!(failed.len(), 1);
    assert_eq!((&failed[0]["job"], &failed[0]["reason"]), (&json!("nightly"), &json!("the disk is full")));
    assert_eq!(office.get("/v1/jobs/nightly").await.body["failed_run_count"], 1);
    let retry = format!("/v1/jobs/nightly/runs/{}/retry", run_id(&failed[0]));
    let retried = office.ask(&retry).await;
    assert_eq!(retried.status, 201, "{}", retried.body);
    assert_eq!(office.items("/v1/jobs/failed").await.len(), 0);
    let runs = office.items("/v1/jobs/nightly/runs").await;
    assert_eq!((&runs[0]["retry_of"], &runs[1]["retried_by"]), (&runs[1]["id"], &runs[0]["id"]));
    assert_eq!((&runs[0]["id"], &runs[0]["due_at"]), (&retried.body["command_id"], &runs[1]["due_at"]));
    assert_eq!(kind(&office.ask(&retry).await), (409, "/problems/run-not-failed"));
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let office = Office::open().await;
    for name in ["b", "a", "c"] {
        assert_eq!(office.post("/v1/jobs", daily(name)).await.status, 201);
    }
    let first = office.get("/v1/jobs?limit=2").await.body;
    let names: Vec<&Value> = first["items"].as_array().unwrap().iter().map(|job| &job["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    let next = first["next"].as_str().unwrap();
    let second = office.get(&format!("/v1/jobs?limit=2&after={next}")).await.body;
    assert_eq!((&second["items"][0]["name"], second.get("next")), (&json!("c"), None));
    for _ in 0..3 {
        office.ask("/v1/jobs/a/run").await;
        office.ask("/v1/jobs/a/cancel").await;
    }
    let first = office.get("/v1/jobs/a/runs?limit=2&state=cancelled").await.body;
    let next = first["next"].as_str().unwrap();
    let second = office.items(&format!("/v1/jobs/a/runs?limit=2&state=cancelled&after={next}")).await;
    assert_eq!((first["items"].as_array().unwrap().len(), second.len()), (2, 1));
    // A cursor belongs to its list.
    let strange = office.get(&format!("/v1/jobs/failed?after={next}")).await;
    assert_eq!((strange.status, strange.fields()), (422, vec!["after"]));
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_by_its_field() {
    let office = Office::open().await;
    assert_eq!(office.post("/v1/jobs", daily("nightly")).await.status, 201);
    let head = office.service.head().await;
    let with = |field: &str, value: Value| {
        let mut body = daily("other");
        body[field] = value;
        body
    };
    let crontab = |crontab: &str| with("schedule", json!({ "crontab": crontab }));
    let many: Vec<String> = (0..1_001).map(|n| format!("S{n}")).collect();
    let cases = [
        (crontab("nonsense"), "schedule.crontab"),
        (crontab("61 * * * *"), "schedule.crontab"),
        (crontab("0 0 31 2 *"), "schedule.crontab"),
        (crontab(""), "schedule.crontab"),
        (crontab(&"* ".repeat(5_000)), "schedule.crontab"),
        (
            with("schedule", json!({"crontab": "* * * * *", "time_zone": "Mars/Olympus"})),
            "schedule.time_zone",
        ),
        (with("schedule", json!({"crontab": 5})), "schedule.crontab"),
        (with("schedule", json!({"interval_seconds": 0})), "schedule.interval_seconds"),
        (with("schedule", json!({"interval_seconds": -1})), "schedule.interval_seconds"),
        (with("schedule", json!({"interval_seconds": 1.5})), "schedule.interval_seconds"),
        (with("schedule", json!({"interval_seconds": "60"})), "schedule.interval_seconds"),
        (with("schedule", json!({"interval_seconds": 1_000_000_000_000_u64})), "schedule.interval_seconds"),
        (with("schedule", json!({"interval_seconds": 60, "time_zone": "UTC"})), "schedule.time_zone"),
        (with("schedule", json!({"interval_seconds": 60, "crontab": "* * * * *"})), "schedule"),
        (with("schedule", json!({"every": 60})), "schedule.every"),
        (with("schedule", json!({})), "schedule"),
        (with("schedule", json!(null)), "schedule"),
        (with("schedule", json!("daily")), "schedule"),
        (with("name", json!("No good")), "name"),
        (with("name", json!(null)), "name"),
        (with("name", json!("failed")), "name"),
        (with("name", json!(JobId::named("x").to_string())), "name"),
        (with("kind", json!("dance")), "kind"),
        (with("attempts_max", json!(0)), "attempts_max"),
        (with("attempts_max", json!(1_000)), "attempts_max"),
        (with("retry_pause_seconds", json!(0)), "retry_pause_seconds"),
        (with("time_limit_seconds", json!(0)), "time_limit_seconds"),
        (with("time_limit_seconds", json!(604_801)), "time_limit_seconds"),
        (with("soft_limit_seconds", json!(4_000)), "soft_limit_seconds"),
        (with("overlap", json!("queue")), "overlap"),
        (with("symbols", json!(["AAPL"])), "symbols"),
        (with("symbols", json!(["a b"])), "symbols[0]"),
        (with("symbols", json!("AAPL")), "symbols"),
        (with("symbols", json!(many)), "symbols"),
        (with("source", json!("yahoo")), "source"),
        (with("colour", json!("red")), "colour"),
    ];
    for (body, field) in cases {
        let refused = office.post("/v1/jobs", body.clone()).await;
        assert_eq!(
            (refused.status, refused.fields().contains(&field)),
            (422, true),
            "{body}: {}",
            refused.body
        );
        if field != "name" {
            let mut change = body.clone();
            change.as_object_mut().unwrap().remove("name");
            let refused = office.post("/v1/jobs/nightly/change", change).await;
            assert_eq!(
                (refused.status, refused.fields().contains(&field)),
                (422, true),
                "{body}: {}",
                refused.body
            );
        }
    }
    let nobody = "019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90";
    for path in [
        "/v1/jobs/none/run".to_owned(),
        "/v1/jobs/none/cancel".to_owned(),
        "/v1/jobs/%00/remove".to_owned(),
        format!("/v1/jobs/{nobody}/run"),
        format!("/v1/jobs/nightly/runs/{nobody}/cancel"),
        format!("/v1/jobs/nightly/runs/{nobody}/retry"),
        "/v1/jobs/nightly/runs/7/cancel".to_owned(),
    ] {
        assert_eq!(kind(&office.ask(&path).await), (404, "/problems/not-found"), "{path}");
    }
    let body = office.post("/v1/jobs/nightly/run", json!({"now": true})).await;
    assert_eq!((body.status, body.fields()), (422, vec!["now"]));
    for (path, field) in [
        ("/v1/jobs?limit=0", "limit"),
        ("/v1/jobs?limit=1000000000", "limit"),
        ("/v1/jobs?order=name", "order"),
        ("/v1/jobs/failed?after=x", "after"),
        ("/v1/jobs/nightly/runs?state=done", "state"),
        ("/v1/jobs/nightly/runs?limit=x", "limit"),
    ] {
        let refused = office.service.get(path).await;
        assert_eq!((refused.status, refused.fields()), (422, vec![field]), "{path}");
    }
    for path in ["/v1/jobs/none", "/v1/jobs/none/runs", "/v1/jobs/nightly/runs/7"] {
        assert_eq!(office.service.get(path).await.status, 404, "{path}");
    }
    assert_eq!(office.service.head().await, head, "nothing of it reached the log");
    office.close().await;
}
