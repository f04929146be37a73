//! Portfolios in bulk by their investors' e-mails: all or nothing, and the same again changes nothing.

use axum::body::Body;
use axum::http::Request;
use insight::projectors::rebuild::rebuild;
use insight::projectors::risk::Engine;
use serde_json::{Value, json};

use crate::environment::{self, TestDatabase};
use crate::service::{Answer, Service};

const PATH: &str = "/v1/portfolios/bulk";

async fn start() -> (TestDatabase, Service) {
    let database = environment::database().await;
    let service = Service::start(&database);
    for name in ["ada", "grace"] {
        let body = json!({"name": name, "email": format!("{name}@Example.org")});
        assert_eq!(service.post("/v1/investors", body).await.status, 201);
    }
    (database, service)
}

async fn project(database: &TestDatabase) {
    rebuild("directory", &database.pool, Engine::default(), |_| {}).await.unwrap();
}

fn line(email: &str, name: &str) -> Value {
    json!({"email": email, "name": name, "base_currency": "USD"})
}

async fn send_lines(service: &Service, lines: &str) -> Answer {
    let request = Request::post(PATH).header("content-type", "application/x-ndjson");
    service.send(request.body(Body::from(lines.to_owned())).unwrap()).await
}

fn counts(answer: &Answer) -> (u64, u64, u64) {
    let count = |name: &str| answer.body[name].as_u64().unwrap_or_else(|| panic!("{}", answer.body));
    (count("opened"), count("changed"), count("unchanged"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_opened_what_differs_is_changed_and_the_rest_stays() {
    let (_database, service) = start().await;
    let body = json!([line("ada@example.org", "Growth"), line("GRACE@example.org", "Growth")]);
    let first = service.post_with(PATH, &[("idempotency-key", "one")], body.clone()).await;
    assert_eq!((first.status, counts(&first)), (201, (2, 0, 0)), "{}", first.body);
    let head = service.head().await;

    // With the same key the same document, with another one nothing to do.
    let again = service.post_with(PATH, &[("idempotency-key", "one")], body.clone()).await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    let idle = service.post(PATH, body.clone()).await;
    assert_eq!((idle.status, counts(&idle)), (200, (0, 0, 2)), "{}", idle.body);
    assert_eq!(service.head().await, head);
    let other = json!([line("ada@example.org", "Growth")]);
    let reused = service.post_with(PATH, &[("idempotency-key", "one")], other).await;
    assert_eq!((reused.status, &reused.body["type"]), (422, &json!("/problems/idempotency-key-reused")));

    // However an e-mail is spelled, a portfolio is named once.
    let twice = json!([line("ada@example.org", "Income"), line("ADA@example.org", "Income")]);
    let refused = service.post(PATH, twice).await;
    assert_eq!((refused.status, refused.fields()), (422, vec!["line 2: name"]), "{}", refused.body);
    assert_eq!(service.head().await, head);

    let mut average = line("ada@example.org", "Growth");
    average["cost_basis"] = json!("average");
    let lines = format!(
        "{average}\n\n{}\n{}\n",
        line("ada@example.org", "Income"),
        line("grace@example.org", "Growth")
    );
    let mixed = send_lines(&service, &lines).await;
    assert_eq!((mixed.status, counts(&mixed)), (201, (1, 1, 1)), "{}", mixed.body);
    let types: Vec<&str> =
        mixed.body["portfolios"].as_array().unwrap().iter().map(|it| it["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["AccountingChanged", "PortfolioOpened"]);
    assert_eq!(mixed.body["portfolios"][0]["id"], first.body["portfolios"][0]["id"]);
    assert_eq!(service.head().await.0, head.0 + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_line_that_cannot_be_leaves_nothing_written_and_is_named() {
    let (database, service) = start().await;
    let fixed = json!([line("ada@example.org", "Fixed")]);
    assert_eq!(service.post(PATH, fixed).await.status, 201);
    let head = service.head().await;
    let good = |n: usize| line("ada@example.org", &format!("P{n}"));
    let with = |bad: Value| json!([good(1), good(2), bad, good(3)]);
    let field = |name: &str, value: Value| {
        let mut line = line("ada@example.org", "Growth");
        line[name] = value;
        line
    };
    let cases = [
        (line("nobody@example.org", "Growth"), "line 3: email"),
        (field("email", json!("\u{0}")), "line 3: email"),
        (field("email", json!(7)), "line 3: email"),
        (json!({"name": "Growth", "base_currency": "USD"}), "line 3: email"),
        (field("name", json!("")), "line 3: name"),
        (field("name", json!("P1")), "line 3: name"),
        (field("base_currency", json!("$")), "line 3: base_currency"),
        (field("base_currency", json!(null)), "line 3: base_currency"),
        (field("time_zone", json!("Mars")), "line 3: time_zone"),
        (field("cost_basis", json!("best")), "line 3: cost_basis"),
        (field("colour", json!("red")), "line 3: colour"),
        (
            json!({"email": "ada@example.org", "name": "Fixed", "base_currency": "EUR"}),
            "line 3: base_currency",
        ),
        (json!({"email": "ada@example.org", "name": "Fixed", "cash": "tracked"}), "line 3: cash"),
        (json!([1]), "line 3: body"),
    ];
    for (bad, expected) in cases {
        let answer = service.post(PATH, with(bad.clone())).await;
        assert_eq!((answer.status, answer.fields()), (422, vec![expected]), "{bad}: {}", answer.body);
        let lines = format!("{}\n{}\n{bad}\n{}", good(1), good(2), good(3));
        let answer = send_lines(&service, &lines).await;
        assert_eq!((answer.status, answer.fields()), (422, vec![expected]), "{bad}: {}", answer.body);
    }
    for (body, status, expected) in
        [("[]", 422, "body"), ("{}", 422, "body"), ("[", 400, "body"), ("7", 422, "body")]
    {
        let request =
            Request::post(PATH).header("content-type", "application/json").body(body.into()).unwrap();
        let answer = service.send(request).await;
        assert_eq!((answer.status, answer.fields()), (status, vec![expected]), "{body}: {}", answer.body);
    }
    let cut = send_lines(&service, &format!("{}\n{{\"email\": \"ada", good(1))).await;
    assert_eq!(
        (cut.status, cut.fields(), &cut.body["line"]),
        (400, vec!["line 2: email"], &json!(2)),
        "{}",
        cut.body
    );
    let many: Vec<Value> = (0..1_001).map(good).collect();
    let answer = service.post(PATH, json!(many)).await;
    assert_eq!((answer.status, answer.fields()), (422, vec!["body"]), "{}", answer.body);
    assert_eq!(service.head().await, head, "nothing of it reached the log");
    project(&database).await;
    assert_eq!(service.get("/v1/portfolios").await.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_are_one_command() {
    let (database, service) = start().await;
    let many: Vec<Value> = (0..1_000).map(|n| line("ada@example.org", &format!("P{n}"))).collect();
    let opened = service.post(PATH, json!(many)).await;
    assert_eq!((opened.status, counts(&opened)), (201, (1_000, 0, 0)));
    let commands: i64 = sqlx::query_scalar(
        "select count(distinct command_id) from events where event_type = 'PortfolioOpened'",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert_eq!(commands, 1);
    let leaked: i64 = sqlx::query_scalar(
        "select count(*) from events where payload::text || metadata::text ilike '%example.org%'",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert_eq!(leaked, 0, "an e-mail is in the log");
    assert_eq!(counts(&service.post(PATH, json!(many)).await), (0, 0, 1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portfolio_opened_by_hand_is_found_and_one_that_was_renamed_gets_its_name_back() {
    let (database, service) = start().await;
    project(&database).await;
    let investors = service.get("/v1/investors").await.body;
    let ada =
        investors["items"].as_array().unwrap().iter().find(|it| it["name"] == "ada").unwrap()["id"].clone();
    let by_hand = json!({"investor_id": ada, "name": "By hand", "base_currency": "USD"});
    let by_hand = service.post("/v1/portfolios", by_hand).await.body["id"].clone();
    project(&database).await;
    let mut wish = line("ada@example.org", "By hand");
    wish["fees_in_cost"] = json!(true);
    let changed = service.post(PATH, json!([wish])).await;
    assert_eq!(counts(&changed), (0, 1, 0), "{}", changed.body);
    assert_eq!(changed.body["portfolios"][0]["id"], by_hand);

    let opened = service.post(PATH, json!([line("ada@example.org", "Growth")])).await;
    let id = opened.body["portfolios"][0]["id"].as_str().unwrap().to_owned();
    let renamed = service.post(&format!("/v1/portfolios/{id}/settings"), json!({"name": "Income"})).await;
    assert_eq!(renamed.status, 201);
    project(&database).await;
    // Both names in one bulk: the renamed one is Growth again, and Income is another.
    let both = json!([line("ada@example.org", "Growth"), line("ada@example.org", "Income")]);
    let restored = service.post(PATH, both.clone()).await;
    assert_eq!(counts(&restored), (1, 1, 0), "{}", restored.body);
    assert_eq!(restored.body["portfolios"][0]["id"], json!(id));
    assert_eq!(counts(&service.post(PATH, both).await), (0, 0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bulk_from_many_at_once_opens_each_portfolio_once() {
    let (_database, service) = start().await;
    let many: Vec<Value> = (0..50).map(|n| line("grace@example.org", &format!("P{n}"))).collect();
    let sent = futures::future::join_all((0..8).map(|_| service.post(PATH, json!(many)))).await;
    let opened: u64 = sent.iter().map(|answer| counts(answer).0).sum();
    assert!(sent.iter().all(|answer| answer.status < 300));
    assert_eq!(opened, 50);
}
