//! What is seen of a request: a correlation id in its answer and in every line logged on its behalf, a count and a duration.
//!
//! The log has a line per request at debug level; a count is what one watches, and 8,000 lines a second are not read by anybody.
//! Neither holds a path with ids, a query or a body: the route as it was declared is enough, and has no personal data.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::{Extensions, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;
use uuid::Uuid;

use super::problem::Problem;

/// Counts requests by method, route and status.
pub const REQUESTS: &str = "insight_http_requests_total";
/// How long answers took, by method and route.
pub const REQUEST_SECONDS: &str = "insight_http_request_seconds";
/// The metrics of this module with their descriptions.
pub const METRICS: [(&str, &str); 2] = [
    (REQUESTS, "HTTP requests answered, by method, route and status"),
    (REQUEST_SECONDS, "seconds from the head of a request to the head of its answer, by method and route"),
];

/// Longer than any deadline within: what runs into it hangs.
const ANSWER_MAX: Duration = Duration::from_secs(60);
const HEADER: HeaderName = HeaderName::from_static("x-correlation-id");

/// Joins everything that a request causes: lines in the log, events, what projectors say of them.
#[derive(Debug, Clone, Copy)]
pub struct CorrelationId(pub Uuid);

impl CorrelationId {
    /// That of a request that went through [`observe`]; a new one elsewhere.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_else(|| Self(Uuid::now_v7()))
    }
}

/// Goes around every request.
pub async fn observe(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let told = request.headers().get(&HEADER).and_then(|told| Uuid::try_parse(told.to_str().ok()?).ok());
    let correlation_id = told.unwrap_or_else(Uuid::now_v7);
    request.extensions_mut().insert(CorrelationId(correlation_id));
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        _ => "other",
    };

    let span = tracing::info_span!("request", %correlation_id);
    let answer = tokio::time::timeout(ANSWER_MAX, next.run(request)).instrument(span.clone()).await;
    let mut response = answer.unwrap_or_else(|_| {
        let _entered = span.enter();
        tracing::error!("a request was given up");
        Problem::busy("the answer took too long", 1).into_response()
    });

    let correlation = correlation_id.hyphenated().to_string();
    response.headers_mut().insert(HEADER, HeaderValue::try_from(correlation).expect("hexadecimal digits"));
    let route = route.as_ref().map_or("unknown", MatchedPath::as_str).to_owned();
    let (status, took) = (response.status(), started.elapsed());
    tracing::debug!(parent: &span, method, route, status = status.as_u16(), ?took, "answered");
    let labels = [("method", method.to_owned()), ("route", route)];
    metrics::histogram!(REQUEST_SECONDS, &labels).record(took);
    let [method, route] = labels;
    metrics::counter!(REQUESTS, &[method, route, ("status", status.as_u16().to_string())]).increment(1);
    response
}
