//! Headers as the OpenAPI document shows them.

use utoipa::IntoParams;

/// Headers of a command that changes something.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only its description is used")]
pub(super) struct ChangeHeaders {
    /// Names the wish, 1 to 255 visible characters: sent again, it has one effect and the same answer. Never expires.
    #[param(rename = "Idempotency-Key", required = false)]
    idempotency_key: String,
    /// The version that must be current, in quotes, such as `"7"`; otherwise 412.
    #[param(rename = "If-Match", required = false)]
    if_match: String,
    /// Joins this request with what it causes, in logs and events. Made up if absent; returned.
    #[param(rename = "X-Correlation-Id", required = false)]
    correlation_id: uuid::Uuid,
}

/// Headers of a command that creates something.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only its description is used")]
pub(super) struct CreateHeaders {
    /// Names the wish, 1 to 255 visible characters: sent again, it has one effect and the same answer. Never expires.
    #[param(rename = "Idempotency-Key", required = false)]
    idempotency_key: String,
    /// Joins this request with what it causes, in logs and events. Made up if absent; returned.
    #[param(rename = "X-Correlation-Id", required = false)]
    correlation_id: uuid::Uuid,
}

/// Headers of a query.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only its description is used")]
pub(super) struct ReadHeaders {
    /// The `ETag` of an answer that the client has: if the rows are the same, the answer is 304.
    #[param(rename = "If-None-Match", required = false)]
    if_none_match: String,
}

/// Headers of a query for a list that says when it was last modified.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only its description is used")]
pub(super) struct DatedHeaders {
    /// The `ETag` of an answer that the client has: if the rows are the same, the answer is 304.
    #[param(rename = "If-None-Match", required = false)]
    if_none_match: String,
    /// The `Last-Modified` of an answer that the client has, in whole seconds: if no event has come since that could have
    /// changed the rows, the answer is 304. Not looked at beside `If-None-Match`.
    #[param(rename = "If-Modified-Since", required = false)]
    if_modified_since: String,
}
