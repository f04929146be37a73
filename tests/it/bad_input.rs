//! Whatever is sent, the answer is a problem document that names what is wrong, and nothing reaches the log.

use axum::body::Body;
use axum::http::Request;
use chrono::TimeDelta;
use insight::clock::Clock;
use serde_json::{Value, json};

use crate::environment;
use crate::service::{Answer, Service};

/// Status and a field that must be named; an empty one where there is no field to name.
type Expected = (u16, &'static str);

struct BadInput {
    service: Service,
    portfolio: String,
}

impl BadInput {
    async fn start(database: &environment::TestDatabase) -> Self {
        let service = Service::start(database);
        service.asset("ACME").await;
        let pair = json!({"symbol": "EURUSD", "name": "Euro", "class": "fx", "currency": "USD"});
        assert_eq!(service.post("/v1/assets", pair).await.status, 201);
        let portfolio = service.portfolio("tracked").await;
        let deposit = json!({"amount": "1000000", "trade_date": "2000-01-03"});
        assert_eq!(service.post(&format!("{portfolio}/deposit"), deposit).await.status, 201);
        Self { service, portfolio }
    }

    /// Sends what must be refused.
    async fn refuse(&self, what: &str, request: Request<Body>, expected: Expected) -> Answer {
        let head = self.service.head().await;
        let answer = self.service.send(request).await;
        let (status, field) = expected;
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{what}");
        assert!(field.is_empty() || answer.fields().contains(&field), "{what}: {}", answer.body);
        assert_eq!(self.service.head().await, head, "{what} reached the log");
        answer
    }
}

fn post(path: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).header("content-type", content_type).body(body.into()).unwrap()
}

fn post_json(path: &str, body: &Value) -> Request<Body> {
    post(path, "application/json", body.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn trades() {
    let database = environment::database().await;
    let bad = BadInput::start(&database).await;
    let tomorrow = (Clock::System.now() + TimeDelta::days(2)).date_naive().to_string();
    let cases: [(&str, Value, Expected); 27] = [
        ("quantity", json!(10), (422, "quantity")),
        ("quantity", json!(null), (422, "quantity")),
        ("quantity", json!("NaN"), (422, "quantity")),
        ("quantity", json!("1e400"), (422, "quantity")),
        ("quantity", json!("-1"), (422, "quantity")),
        ("quantity", json!("0"), (422, "quantity")),
        ("quantity", json!("12345678901234567890123456789"), (422, "quantity")),
        ("quantity", json!("1.12345678901"), (422, "quantity")),
        ("quantity", json!("999999999999999"), (409, "")),
        ("price", json!("0"), (422, "price")),
        ("price", json!("999999999999999.9999999999"), (422, "quantity")),
        ("price", json!([]), (422, "price")),
        ("fee", json!("-1"), (422, "fee")),
        ("tax", json!("a"), (422, "tax")),
        ("asset", json!("NONE"), (422, "asset")),
        ("asset", json!("019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90"), (422, "asset")),
        ("asset", json!("\u{0}"), (422, "asset")),
        ("asset", json!("EURUSD"), (409, "")),
        ("currency", json!("EUR"), (422, "currency")),
        ("currency", json!("dollars"), (422, "currency")),
        ("trade_date", json!("1899-12-31"), (422, "trade_date")),
        ("trade_date", json!(tomorrow), (422, "trade_date")),
        ("trade_date", json!("2024-02-30"), (422, "trade_date")),
        ("occurred_at", json!("+262142-01-01T00:00:00Z"), (422, "occurred_at")),
        ("settle", json!("cash"), (422, "settle")),
        ("note", json!("a\u{0}b"), (422, "note")),
        ("colour", json!("red"), (422, "colour")),
    ];
    for (field, value, expected) in cases {
        let mut body = json!({"asset": "ACME", "quantity": "1000", "price": "10"});
        body[field] = value.clone();
        for side in ["buy", "sell"] {
            let request = post_json(&format!("{}/{side}", bad.portfolio), &body);
            bad.refuse(&format!("{side} with {field} {value}"), request, expected).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_commands() {
    let database = environment::database().await;
    let bad = BadInput::start(&database).await;
    let portfolio = &bad.portfolio;
    let investor = bad.service.investor().await;
    let nobody = "019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90";
    let unknown = format!("/v1/portfolios/{nobody}");
    let long = "x".repeat(10_000);
    let trade = json!({"asset": "ACME", "quantity": "1", "price": "1"});
    let cases: Vec<(String, Value, Expected)> = vec![
        (format!("{unknown}/buy"), trade.clone(), (404, "")),
        (format!("{unknown}/settings"), json!({"name": "New"}), (404, "")),
        ("/v1/portfolios/not-a-uuid/buy".into(), trade, (404, "")),
        (
            "/v1/assets/NONE/sources".into(),
            json!({"sources": [{"source": "a", "adjustment": "none"}]}),
            (404, ""),
        ),
        ("/v1/assets/ACME/sources".into(), json!({"sources": []}), (422, "sources")),
        (
            "/v1/assets/ACME/sources".into(),
            json!({"sources": [{"source": "A B", "adjustment": "none"}]}),
            (422, "sources[0].source"),
        ),
        (format!("{portfolio}/deposit"), json!({"amount": "0"}), (422, "amount")),
        (format!("{portfolio}/deposit"), json!({"amount": "99999999999999999"}), (422, "amount")),
        (format!("{portfolio}/withdraw"), json!({"amount": "-5"}), (422, "amount")),
        (format!("{portfolio}/withdraw"), json!({"amount": "5", "currency": "EUR"}), (409, "")),
        (format!("{portfolio}/settings"), json!({"name": ""}), (422, "name")),
        (format!("{portfolio}/settings"), json!({"name": long}), (422, "name")),
        (format!("{portfolio}/settings"), json!({"cost_basis": "best"}), (422, "cost_basis")),
        (
            "/v1/portfolios".into(),
            json!({"investor_id": nobody, "name": "A", "base_currency": "USD"}),
            (422, "investor_id"),
        ),
        (
            "/v1/portfolios".into(),
            json!({"investor_id": "7", "name": "A", "base_currency": "USD"}),
            (422, "investor_id"),
        ),
        (
            "/v1/portfolios".into(),
            json!({"investor_id": nobody, "name": "A", "base_currency": "$"}),
            (422, "base_currency"),
        ),
        (
            "/v1/portfolios".into(),
            json!({"investor_id": investor, "name": "A", "base_currency": "USD", "time_zone": "Mars"}),
            (422, "time_zone"),
        ),
        ("/v1/investors".into(), json!({"name": "A\u{0}", "email": "a@example.invalid"}), (422, "name")),
        ("/v1/investors".into(), json!({"name": "A", "email": "nobody"}), (422, "email")),
        (
            "/v1/investors".into(),
            json!({"name": "A", "email": "a@example.invalid", "risk_tolerance": 5}),
            (422, "risk_tolerance"),
        ),
        (
            "/v1/assets".into(),
            json!({"symbol": "ACME", "name": "A", "class": "equity", "currency": "USD"}),
            (409, ""),
        ),
        (
            "/v1/assets".into(),
            json!({"symbol": "acme", "name": "A", "class": "equity", "currency": "USD"}),
            (422, "symbol"),
        ),
        (
            "/v1/assets".into(),
            json!({"symbol": "ACM", "name": "A", "class": "share", "currency": "USD"}),
            (422, "class"),
        ),
        (
            "/v1/assets".into(),
            json!({"symbol": "ACM", "name": "A", "class": "bond", "currency": "USD", "isin": "US1"}),
            (422, "isin"),
        ),
        (
            "/v1/assets".into(),
            json!({"symbol": "ACM", "name": "A", "class": "bond", "currency": "USD", "quote_unit": "0"}),
            (422, "quote_unit"),
        ),
    ];
    for (path, body, expected) in cases {
        bad.refuse(&format!("{path} {body}"), post_json(&path, &body), expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_methods() {
    let database = environment::database().await;
    let bad = BadInput::start(&database).await;
    let buy = format!("{}/buy", bad.portfolio);
    let cases: Vec<(&str, Request<Body>, Expected)> = vec![
        ("an empty body", post(&buy, "application/json", ""), (400, "body")),
        ("malformed JSON", post(&buy, "application/json", "{\"asset\": \"ACME\""), (400, "body")),
        ("a number beyond all floats", post(&buy, "application/json", "{\"price\": 1e400}"), (422, "price")),
        ("a bare NaN", post(&buy, "application/json", "{\"price\": NaN}"), (400, "price")),
        ("a wrong content type", post(&buy, "text/plain", "{}"), (415, "Content-Type")),
        ("17 MB of a command", post(&buy, "application/json", vec![b' '; 17_000_000]), (413, "body")),
        ("17 MB of prices", post("/v1/prices", "application/json", vec![b' '; 17_000_000]), (413, "body")),
        ("a wrong method", Request::delete(&buy).body(Body::empty()).unwrap(), (405, "")),
        ("an unknown address", Request::get("/v1/nothing").body(Body::empty()).unwrap(), (404, "")),
    ];
    for (what, request, expected) in cases {
        bad.refuse(what, request, expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prices() {
    let database = environment::database().await;
    let bad = BadInput::start(&database).await;
    let tomorrow = (Clock::System.now() + TimeDelta::days(1)).to_rfc3339();
    let lines = |count: usize| "{\"asset\":\"ACME\",\"price\":\"1\",\"day\":\"2024-03-01\"}\n".repeat(count);
    let json_lines: [(&str, Value, Expected); 9] = [
        ("a price a day ahead", json!({"asset": "ACME", "price": "1", "at": tomorrow}), (422, "at")),
        ("an unknown asset", json!({"asset": "NONE", "price": "1", "day": "2024-03-01"}), (422, "asset")),
        ("a zero price", json!({"asset": "ACME", "price": "0", "day": "2024-03-01"}), (422, "price")),
        ("a number", json!({"asset": "ACME", "price": 1, "day": "2024-03-01"}), (422, "price")),
        (
            "another currency",
            json!({"asset": "ACME", "price": "1", "day": "2024-03-01", "currency": "EUR"}),
            (422, "currency"),
        ),
        ("no time", json!({"asset": "ACME", "price": "1"}), (422, "at")),
        (
            "two times",
            json!({"asset": "ACME", "price": "1", "day": "2024-03-01", "at": "2024-03-01T00:00:00Z"}),
            (422, "day"),
        ),
        ("no prices", json!({"prices": []}), (422, "body")),
        ("a strange array", json!({"prices": [1, 2]}), (422, "line 1")),
    ];
    for (what, body, expected) in json_lines {
        bad.refuse(what, post_json("/v1/prices", &body), expected).await;
    }
    let ndjson = "application/x-ndjson";
    let cases: Vec<(&str, Request<Body>, Expected)> = vec![
        ("an empty body", post("/v1/prices", ndjson, ""), (400, "body")),
        ("blank lines", post("/v1/prices", ndjson, "\n\n"), (422, "body")),
        ("100,001 lines", post("/v1/prices", ndjson, lines(100_001)), (422, "body")),
        ("no text", post("/v1/prices", ndjson, vec![0xff; 10]), (422, "line 1")),
        ("broken JSON", post("/v1/prices", "application/json", "{\"prices\": ["), (400, "body")),
        ("a wrong content type", post("/v1/prices", "text/csv", "ACME,1"), (415, "Content-Type")),
    ];
    for (what, request, expected) in cases {
        bad.refuse(what, request, expected).await;
    }
}
