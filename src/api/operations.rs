//! How the service is doing: alive, ready (part by part), metrics, and its own description.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::future::{BoxFuture, join_all};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::Api;

/// What tells whether a part is ready: nothing, or the reason why it is not.
pub type Check = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Writes the metrics in Prometheus' text format.
pub type RenderMetrics = Box<dyn Fn() -> String + Send + Sync>;

/// A check that takes longer says enough.
const CHECK_MAX: Duration = Duration::from_millis(900);

/// Whether this process can do its work.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Every part is.
    ready: bool,
    /// Part by part.
    parts: Vec<Part>,
}

/// A part of the process.
#[derive(Serialize, ToSchema)]
pub(super) struct Part {
    /// What it is.
    #[schema(example = "event store")]
    part: &'static str,
    /// Whether it can do its work.
    ready: bool,
    /// Why it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "valuations are 40 s behind the log")]
    reason: Option<String>,
}

/// Whether the process lives
///
/// Says nothing about what it stands on: see `/readyz`.
#[utoipa::path(get, path = "/healthz", tag = "operations", operation_id = "health",
    responses((status = 200, description = "It lives", body = String, content_type = "text/plain")))]
pub(super) async fn health() -> &'static str {
    "alive\n"
}

/// Whether the process can do its work
///
/// Part by part, with the reason. Freshness is measured against the head of the log.
#[utoipa::path(get, path = "/readyz", tag = "operations", operation_id = "readiness",
    responses((status = 200, description = "Every part is ready", body = Readiness),
        (status = 503, description = "Some part is not", body = Readiness)))]
pub(super) async fn readiness(State(api): State<Arc<Api>>) -> Response {
    let parts = join_all(api.checks.iter().map(|(part, check)| async move {
        let checked = tokio::time::timeout(CHECK_MAX, check()).await;
        let reason = checked.unwrap_or_else(|_| Err(format!("no answer within {CHECK_MAX:?}"))).err();
        Part { part, ready: reason.is_none(), reason }
    }))
    .await;
    let ready = parts.iter().all(|part| part.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, parts })).into_response()
}

/// Metrics for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "operations", operation_id = "metrics",
    responses((status = 200, description = "Metrics in Prometheus' text format", body = String,
        content_type = "text/plain; version=0.0.4")))]
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    exposition((api.render_metrics)())
}

fn exposition(metrics: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics).into_response()
}

/// The face of a process that has no other: whether it lives, and its metrics.
pub fn router(render_metrics: RenderMetrics) -> Router {
    let render_metrics = Arc::new(render_metrics);
    Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(move || std::future::ready(exposition(render_metrics()))))
        .fallback(super::unknown_route)
        .method_not_allowed_fallback(super::unknown_method)
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "operations", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
pub(super) async fn openapi(State(api): State<Arc<Api>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.document.clone()).into_response()
}

/// A browsable page of the document, from assets within the binary: nothing is fetched from elsewhere.
pub(super) fn docs() -> SwaggerUi {
    let config = Config::from("/openapi.json")
        .validator_url("none")
        .try_it_out_enabled(true)
        .display_request_duration(true)
        .default_models_expand_depth(0)
        .doc_expansion("list");
    SwaggerUi::new("/docs").config(config)
}
