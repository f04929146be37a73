//! The HTTP service over a test's database, and what tests say to it.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use insight::api::{self, Parts};
use insight::clock::Clock;
use insight::commands::Settings;
use insight::domain::ids::Position;
use insight::event_store::read;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;
use uuid::Uuid;

use crate::environment::TestDatabase;
use crate::ledger::Ledger;

/// How many clients may follow the log of a test's service at once.
pub const EVENT_STREAMS_MAX: usize = 24;

/// A running service. Stops when dropped.
pub struct Service {
    pub router: Router,
    /// Cancelled, the process is about to end.
    pub stop: CancellationToken,
    pool: PgPool,
    _ledger: Ledger,
    _guard: DropGuard,
}

/// An answer, read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The fields that a problem names.
    pub fn fields(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().filter_map(|error| error["field"].as_str()).collect()
    }
}

impl Service {
    pub fn start(database: &TestDatabase) -> Self {
        Self::over(database.options(), database.pool.clone())
    }

    pub fn over(options: PgConnectOptions, pool: PgPool) -> Self {
        let ledger = Ledger::over(options, pool.clone(), Settings::default());
        let stop = CancellationToken::new();
        let asked = pool.clone();
        let parts = Parts {
            status: Box::new(move || {
                let pool = asked.clone();
                Box::pin(async move { insight::queries::status::load(&pool, None).await })
            }),
            commands: ledger.commands.clone(),
            pool: pool.clone(),
            clock: Clock::System,
            checks: Vec::new(),
            render_metrics: Box::new(String::new),
            event_streams_max: EVENT_STREAMS_MAX,
            stop: stop.clone(),
        };
        let _guard = stop.clone().drop_guard();
        Self { router: api::router(parts), stop, pool, _ledger: ledger, _guard }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_with(path, &[], body).await
    }

    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// The last position of the log.
    pub async fn head(&self) -> Position {
        read::head(&self.pool).await.unwrap()
    }

    /// An investor; their id.
    pub async fn investor(&self) -> String {
        let email = format!("{}@example.invalid", Uuid::now_v7());
        self.created("/v1/investors", json!({"name": "Example Investor", "email": email})).await
    }

    /// A share in US dollars.
    pub async fn asset(&self, symbol: &str) -> String {
        let body = json!({"symbol": symbol, "name": symbol, "class": "equity", "currency": "USD"});
        self.created("/v1/assets", body).await
    }

    /// The path of a portfolio in US dollars, which tracks cash or does not.
    pub async fn portfolio(&self, cash: &str) -> String {
        let investor_id = self.investor().await;
        let body =
            json!({"investor_id": investor_id, "name": "Savings", "base_currency": "USD", "cash": cash});
        format!("/v1/portfolios/{}", self.created("/v1/portfolios", body).await)
    }

    async fn created(&self, path: &str, body: Value) -> String {
        let answer = self.post(path, body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body["id"].as_str().unwrap().to_owned()
    }
}
