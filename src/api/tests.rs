//! What is answered before anything is executed: nothing stands behind these commands.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPool};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::operations::Check;
use super::*;
use crate::clock::Clock;
use crate::commands::Settings;

const PORTFOLIO: &str = "/v1/portfolios/019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90";

/// The service on a database that is never asked.
fn service(checks: Vec<(&'static str, Check)>) -> Router {
    let options = PgConnectOptions::new().host("nowhere.invalid");
    let pool = PgPool::connect_lazy_with(options.clone());
    let stop = CancellationToken::new();
    let (commands, _) = Commands::start(options, pool.clone(), Clock::System, Settings::default(), stop);
    router(Parts {
        commands,
        pool,
        clock: Clock::System,
        checks,
        render_metrics: Box::new(|| "insight_up 1\n".to_owned()),
        status: Box::new(|| Box::pin(async { Err(sqlx::Error::PoolClosed.into()) })),
        event_streams_max: 1,
        stop: CancellationToken::new(),
    })
}

async fn answer(request: Request<Body>) -> Response<Body> {
    service(Vec::new()).oneshot(request).await.unwrap()
}

async fn json_of(response: Response<Body>) -> Value {
    serde_json::from_slice(&to_bytes(response.into_body(), usize::MAX).await.unwrap()).unwrap()
}

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).header("content-type", "application/json").body(body.into()).unwrap()
}

/// The status, the last part of the type, and the fields, of a refusal.
type Refused = (u16, String, Vec<String>);

async fn refused(request: Request<Body>) -> Refused {
    let response = answer(request).await;
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem = json_of(response).await;
    assert_eq!(problem["status"], status);
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
    let slug = problem["type"].as_str().unwrap().strip_prefix("/problems/").unwrap().to_owned();
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    (status, slug, errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect())
}

fn expected(status: u16, slug: &str, fields: &[&str]) -> Refused {
    (status, slug.to_owned(), fields.iter().map(|field| (*field).to_owned()).collect())
}

#[tokio::test]
async fn every_wrong_field_of_a_trade_is_named_at_once() {
    let body = json!({
        "asset": "no symbol", "quantity": 10, "price": "1e400", "fee": ["1"], "tax": {"a": 1}, "currency": "usd",
        "fx_rate": "NaN", "settle": "cash", "trade_date": "2024-02-30", "occurred_at": "yesterday", "note": true
    });
    let fields = [
        "asset",
        "quantity",
        "price",
        "fee",
        "tax",
        "currency",
        "fx_rate",
        "settle",
        "trade_date",
        "occurred_at",
        "note",
    ];
    let request = post(&format!("{PORTFOLIO}/buy"), body.to_string());
    assert_eq!(refused(request).await, expected(422, "invalid-fields", &fields));
    let request = post(&format!("{PORTFOLIO}/sell"), "{}");
    assert_eq!(refused(request).await, expected(422, "invalid-fields", &["asset", "quantity", "price"]));
}

#[tokio::test]
async fn a_number_is_refused_in_the_words_of_what_is_wanted() {
    let body = r#"{"asset":"AAPL","quantity":10,"price":"12345678901234567890123456789"}"#;
    let problem = json_of(answer(post(&format!("{PORTFOLIO}/buy"), body)).await).await;
    assert_eq!(
        problem,
        json!({
            "type": "/problems/invalid-fields", "title": "Invalid fields", "status": 422,
            "detail": "quantity must be a decimal in a string, such as \"12.5\", not a number; \
                       price is too large: must be below 100000000000000000",
            "errors": [
                {"field": "quantity", "reason": "must be a decimal in a string, such as \"12.5\", not a number"},
                {"field": "price", "reason": "is too large: must be below 100000000000000000"}
            ]
        })
    );
}

#[tokio::test]
async fn bodies_are_read_strictly() {
    let buy = format!("{PORTFOLIO}/buy");
    let deep = format!("{{\"asset\":{}", "[".repeat(100_000));
    let closed = format!("{{\"asset\":{}{}}}", "[".repeat(1_000), "]".repeat(1_000));
    let nested = format!("asset{}", "[0]".repeat(126));
    let cases: [(&[u8], Refused); 15] = [
        (b"", expected(400, "malformed-body", &["body"])),
        (b"{", expected(400, "malformed-body", &["body"])),
        (b"nonsense", expected(400, "malformed-body", &["body"])),
        (b"{} {}", expected(400, "malformed-body", &["body"])),
        (b"{\"asset\":NaN}", expected(400, "malformed-body", &["asset"])),
        (b"{\"note\":\"\xff\"}", expected(400, "malformed-body", &["note"])),
        (deep.as_bytes(), expected(400, "malformed-body", &["asset[0]"])),
        (closed.as_bytes(), expected(400, "malformed-body", &[&nested])),
        (b"{\"asset\":[1e400]}", expected(422, "invalid-fields", &["asset[0]"])),
        (b"[]", expected(422, "invalid-fields", &["body"])),
        (b"null", expected(422, "invalid-fields", &["body"])),
        (b"{\"price\":1e400}", expected(422, "invalid-fields", &["price"])),
        (b"{\"colour\":1}", expected(422, "invalid-fields", &["colour"])),
        (b"{\"price\":\"1\",\"price\":\"2\"}", expected(422, "invalid-fields", &["price"])),
        (b"{\"price\":\"1\"}", expected(422, "invalid-fields", &["asset", "quantity"])),
    ];
    for (body, outcome) in cases {
        assert_eq!(
            refused(post(&buy, body.to_vec())).await,
            outcome,
            "{}",
            String::from_utf8_lossy(&body[..body.len().min(60)])
        );
    }
    let sources =
        r#"{"sources":[{"source":"exchange","adjustment":"none"},{"source":1,"adjustment":"all"}]}"#;
    let fields = ["sources[1].source", "sources[1].adjustment"];
    assert_eq!(
        refused(post("/v1/assets/AAPL/sources", sources)).await,
        expected(422, "invalid-fields", &fields)
    );
    for (sources, field) in [
        ("{}", "sources"),
        (r#"{"sources":[1]}"#, "sources[0]"),
        (r#"{"sources":[{"rank":1}]}"#, "sources[0].rank"),
        (r#"{"sources":[{"source":"a","source":"b"}]}"#, "sources[0].source"),
    ] {
        assert_eq!(
            refused(post("/v1/assets/AAPL/sources", sources)).await,
            expected(422, "invalid-fields", &[field])
        );
    }
}

#[tokio::test]
async fn a_broken_body_says_where() {
    let problem = json_of(answer(post(&format!("{PORTFOLIO}/buy"), "{\n  \"asset\": AAPL\n}")).await).await;
    assert_eq!((problem["line"].as_u64(), problem["column"].as_u64()), (Some(2), Some(12)));
}

#[tokio::test]
async fn what_axum_would_refuse_is_a_problem_too() {
    let buy = format!("{PORTFOLIO}/buy");
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(refused(get("/v2/portfolios")).await, expected(404, "not-found", &[]));
    assert_eq!(refused(post("/v1/portfolios/7/buy", "{}")).await, expected(404, "not-found", &[]));
    assert_eq!(refused(post("/v1/portfolios/%ff/buy", "{}")).await, expected(404, "not-found", &[]));
    assert_eq!(refused(post("/v1/assets/no%20symbol/sources", "{}")).await, expected(404, "not-found", &[]));
    assert_eq!(refused(get(&buy)).await, expected(405, "method-not-allowed", &[]));
    assert_eq!(answer(get(&buy)).await.headers()["allow"], "POST");

    for content_type in [None, Some("text/plain"), Some("application/x-ndjson"), Some("application/jsonx")] {
        let mut request = Request::post(&buy);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.body(Body::from("{}")).unwrap();
        assert_eq!(refused(request).await, expected(415, "unsupported-media-type", &["Content-Type"]));
    }
    let request = Request::post(&buy).header("content-type", "Application/JSON; charset=utf-8");
    assert_eq!(refused(request.body(Body::from("{}")).unwrap()).await.0, 422);

    let large = vec![b' '; body::COMMAND_BYTES_MAX + 1];
    assert_eq!(refused(post(&buy, large.clone())).await, expected(413, "body-too-large", &["body"]));
    let chunks = futures::stream::iter(
        large.chunks(1 << 16).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>(),
    );
    assert_eq!(
        refused(post(&buy, Body::from_stream(chunks))).await,
        expected(413, "body-too-large", &["body"])
    );
    let prices = post("/v1/prices", vec![b' '; 17_000_000]);
    assert_eq!(refused(prices).await, expected(413, "body-too-large", &["body"]));
}

#[tokio::test]
async fn headers_that_mean_nothing_are_refused() {
    let buy = format!("{PORTFOLIO}/buy");
    for (path, name, value) in [
        (buy.as_str(), "If-Match", "W/\"7\""),
        (&buy, "If-Match", "*"),
        (&buy, "If-Match", "\"7\", \"8\""),
        (&buy, "Idempotency-Key", "two words"),
        ("/v1/investors", "If-Match", "\"7\""),
        ("/v1/assets", "If-Match", "\"7\""),
        ("/v1/portfolios", "If-Match", "\"7\""),
        ("/v1/prices", "If-Match", "\"7\""),
    ] {
        let mut request = post(path, "{}");
        request.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(refused(request).await, expected(400, "malformed-header", &[name]), "{path} {value}");
    }
}

#[tokio::test]
async fn the_correlation_id_is_taken_if_it_is_one_and_made_otherwise() {
    let id = "019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90";
    let sent =
        |value: &str| Request::get("/healthz").header("x-correlation-id", value).body(Body::empty()).unwrap();
    assert_eq!(answer(sent(id)).await.headers()["x-correlation-id"], id);
    let made = answer(sent("mine")).await.headers()["x-correlation-id"].to_str().unwrap().to_owned();
    assert!(uuid::Uuid::parse_str(&made).is_ok(), "{made}");
}

#[tokio::test]
async fn readiness_says_which_part_is_wrong_and_why() {
    let ready = || -> Check { Box::new(|| Box::pin(async { Ok(()) })) };
    let behind = || -> Check { Box::new(|| Box::pin(async { Err("40 s behind the log".to_owned()) })) };
    let ask = || Request::get("/readyz").body(Body::empty()).unwrap();
    let response = service(vec![("event store", ready())]).oneshot(ask()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let checks = vec![("event store", ready()), ("valuations", behind())];
    let response = service(checks).oneshot(ask()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        json_of(response).await,
        json!({"ready": false, "parts": [
            {"part": "event store", "ready": true},
            {"part": "valuations", "ready": false, "reason": "40 s behind the log"}
        ]})
    );
}

#[tokio::test]
async fn the_document_is_served_as_it_is_committed() {
    let committed = include_str!("openapi.json");
    let made = openapi_json();
    if committed != made {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/openapi.json");
        std::fs::write(path, made).unwrap();
        panic!("src/api/openapi.json is not what the handlers say; that is now in {path}");
    }
    let response = answer(Request::get("/openapi.json").body(Body::empty()).unwrap()).await;
    let served = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert!(served == committed.as_bytes());
    let document: Value = serde_json::from_str(committed).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let (mut references, mut unread) = (Vec::new(), vec![&document]);
    while let Some(value) = unread.pop() {
        match value {
            Value::Object(members) => {
                references.extend(members.get("$ref").and_then(Value::as_str));
                unread.extend(members.values());
            }
            Value::Array(values) => unread.extend(values),
            _ => {}
        }
    }
    for reference in references {
        let path = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(path).is_some(), "{reference} leads nowhere");
    }
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let response = answer(Request::get("/docs/").body(Body::empty()).unwrap()).await;
    let page = String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap();
    assert!(page.contains("swagger-ui"));
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
}

#[tokio::test]
async fn every_kind_of_problem_is_explained_at_its_type() {
    for kind in problem::KINDS {
        let path = format!("/problems/{}", kind.slug);
        let response = answer(Request::get(&path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
}

#[test]
fn spaces_and_order_do_not_make_another_body_but_values_and_versions_do() {
    use crate::domain::ids::Version;
    let hash = |text: &str, if_match, left_out: &[&str]| {
        let body = body::Json { value: (), bytes: Bytes::copy_from_slice(text.as_bytes()) };
        body.hash(if_match, left_out).unwrap()
    };
    let one = hash(r#"{"a":"1","b":"2"}"#, None, &[]);
    assert_eq!(one, hash("{ \"b\": \"2\",\n \"a\": \"1\" }", None, &[]));
    assert_ne!(one, hash(r#"{"a":"1","b":"3"}"#, None, &[]));
    assert_ne!(one, hash(r#"{"a":"1","b":"2"}"#, Some(Version(7)), &[]));
    assert_eq!(hash(r#"{"a":"1"}"#, None, &["b"]), hash(r#"{"a":"1","b":"2"}"#, None, &["b"]));
}
