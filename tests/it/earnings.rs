//! Earnings by quarter: reported, replaced, listed, and judged by the reference ledger.

use insight::projectors::rebuild::rebuild;
use insight::projectors::risk::Engine;
use serde_json::{Value, json};

use crate::environment::{self, TestDatabase};
use crate::service::Service;

const PATH: &str = "/v1/assets/ACME/earnings";

async fn project(database: &TestDatabase) {
    for name in ["directory", "prices"] {
        rebuild(name, &database.pool, Engine::default(), |_| {}).await.unwrap();
    }
}

fn report(quarter: &str, earnings: &str) -> Value {
    json!({"quarter": quarter, "earnings_per_share": earnings})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_report_of_a_quarter_is_believed_and_all_stay_in_the_log() {
    let database = environment::database().await;
    let service = Service::start(&database);
    service.asset("ACME").await;
    let full = json!({"quarter": "2024-Q1", "earnings_per_share": "1.53", "estimate": "1.5", "revenue": "90753000000",
        "currency": "EUR", "reported_on": "2024-05-02"});
    let reported = service.post_with(PATH, &[("if-match", "\"1\"")], full.clone()).await;
    assert_eq!((reported.status, &reported.body["version"]), (201, &json!(2)), "{}", reported.body);
    assert_eq!(reported.body["events"][0]["type"], "EarningsReported");
    let again = service.post(PATH, full).await;
    assert_eq!((again.status, &again.body["events"]), (200, &json!([])));
    assert_eq!(service.post_with(PATH, &[("if-match", "\"1\"")], report("2024-Q2", "1")).await.status, 412);
    for (quarter, earnings) in [("2023-Q4", "2.18"), ("2024-Q1", "-0.4"), ("2024-Q2", "1.4")] {
        assert_eq!(service.post(PATH, report(quarter, earnings)).await.status, 201);
    }
    assert_eq!(service.head().await.0, 6, "a claim, a listing and four reports");
    project(&database).await;

    let all = service.get(PATH).await.body;
    let told: Vec<(&str, &str, &str)> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| ["quarter", "earnings_per_share", "currency"].map(|name| it[name].as_str().unwrap()).into())
        .collect();
    assert_eq!(told, [("2023-Q4", "2.18", "USD"), ("2024-Q1", "-0.4", "USD"), ("2024-Q2", "1.4", "USD")]);
    assert_eq!(all["items"][1]["estimate"], json!(null), "another report replaces the whole of it");
    let page = service.get(&format!("{PATH}?from=2024-Q1&limit=1")).await.body;
    assert_eq!(page["items"][0]["quarter"], "2024-Q1");
    let rest =
        service.get(&format!("{PATH}?from=2024-Q1&after={}", page["next"].as_str().unwrap())).await.body;
    assert_eq!(
        (rest["items"].as_array().unwrap().len(), &rest["items"][0]["quarter"]),
        (1, &json!("2024-Q2"))
    );
    let version = service.get("/v1/assets/ACME").await.body["version"].clone();
    assert_eq!(version, json!(5));

    let estimate = json!({"quarter": "2024-Q2", "earnings_per_share": "1.4", "estimate": "1.55"});
    assert_eq!(service.post(PATH, estimate).await.status, 201);
    project(&database).await;
    let last = service.get(&format!("{PATH}?from=2024-Q2&to=2024-Q2")).await.body;
    assert_eq!(last["items"][0]["surprise"], "-0.15");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_by_field() {
    let database = environment::database().await;
    let service = Service::start(&database);
    service.asset("ACME").await;
    let pair = json!({"symbol": "EURUSD", "name": "Euro", "class": "fx", "currency": "USD"});
    assert_eq!(service.post("/v1/assets", pair).await.status, 201);
    let head = service.head().await;
    let with = |name: &str, value: Value| {
        let mut body = report("2024-Q1", "1");
        body[name] = value;
        body
    };
    let cases = [
        (with("quarter", json!("2024-Q5")), "quarter"),
        (with("quarter", json!("2024")), "quarter"),
        (with("quarter", json!(20241)), "quarter"),
        (with("quarter", json!(null)), "quarter"),
        (with("quarter", json!("2999-Q1")), "quarter"),
        (with("quarter", json!("1066-Q1")), "quarter"),
        (with("earnings_per_share", json!(1.5)), "earnings_per_share"),
        (with("earnings_per_share", json!("NaN")), "earnings_per_share"),
        (with("earnings_per_share", json!("1e400")), "earnings_per_share"),
        (with("estimate", json!("much")), "estimate"),
        (with("revenue", json!("-1")), "revenue"),
        (with("currency", json!("$")), "currency"),
        (with("reported_on", json!("2023-12-31")), "reported_on"),
        (with("reported_on", json!("2999-01-01")), "reported_on"),
        (with("colour", json!("red")), "colour"),
    ];
    for (body, field) in cases {
        let answer = service.post(PATH, body.clone()).await;
        assert_eq!((answer.status, answer.fields()), (422, vec![field]), "{body}: {}", answer.body);
    }
    let rate = service.post("/v1/assets/EURUSD/earnings", report("2024-Q1", "1")).await;
    assert_eq!((rate.status, rate.fields()), (422, vec!["asset"]));
    assert_eq!(service.post("/v1/assets/NONE/earnings", report("2024-Q1", "1")).await.status, 404);
    assert_eq!(service.head().await, head, "nothing of it reached the log");
    project(&database).await;
    for (path, field) in [
        (format!("{PATH}?from=2024"), "from"),
        (format!("{PATH}?to=Q1"), "to"),
        (format!("{PATH}?limit=0"), "limit"),
        (format!("{PATH}?after=x"), "after"),
    ] {
        let answer = service.get(&path).await;
        assert_eq!((answer.status, answer.fields()), (422, vec![field]), "{path}: {}", answer.body);
    }
    assert_eq!(service.get("/v1/assets/NONE/earnings").await.status, 404);
}
