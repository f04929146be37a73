//! The audit trail: every event of a portfolio, read from the log itself, with who and when and why.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::answer::send;
use super::{Answered, List, Page, failed};
use crate::api::Api;
use crate::api::openapi::FindProblems;
use crate::api::parameters::ReadHeaders;
use crate::api::path::InPath;
use crate::api::problem::Problem;
use crate::api::query::Query;
use crate::domain::fields::Fields;
use crate::domain::ids::PortfolioId;
use crate::events::Metadata;
use crate::queries::log::{EventRow, list_portfolio_events};

/// An event as it stands in the log.
#[derive(Serialize, ToSchema)]
pub(crate) struct Event {
    /// Its place in the log.
    #[schema(example = 901)]
    position: i64,
    /// Its place among the portfolio's events.
    #[schema(example = 7)]
    version: i64,
    /// Its name, the same in every copy of it.
    #[schema(example = "0f8e4c1a-3d5b-5c2e-9f7a-6b1d2c3e4f50.0")]
    event_id: String,
    /// What happened.
    #[schema(example = "AssetBought")]
    r#type: String,
    /// The version of the shape of `data`.
    #[schema(example = 1)]
    schema_version: i16,
    /// When it happened.
    occurred_at: DateTime<Utc>,
    /// When the log took it.
    recorded_at: DateTime<Utc>,
    /// Who sent the command: an opaque id.
    #[schema(example = "local")]
    actor: String,
    /// Joins everything that one request caused.
    correlation_id: Uuid,
    /// Place of the event that caused it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_position: Option<i64>,
    /// The fact, to the byte as it was written.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
}

impl From<EventRow> for Event {
    fn from(row: EventRow) -> Self {
        let metadata: Metadata = serde_json::from_str(&row.metadata).unwrap_or_default();
        Self {
            position: row.position,
            version: row.version,
            event_id: row.event_id,
            r#type: row.event_type,
            schema_version: row.schema_version,
            occurred_at: row.occurred_at,
            recorded_at: row.recorded_at,
            actor: metadata.actor,
            correlation_id: row.correlation_id,
            causation_position: row.causation_position,
            data: RawValue::from_string(row.payload).expect("the column takes nothing but JSON"),
        }
    }
}

/// List the events of a portfolio
///
/// The audit trail, in order, from the log itself: it is never behind.
#[utoipa::path(get, path = "/v1/portfolios/{id}/events", tag = "portfolios", operation_id = "listEvents",
    params(("id" = Uuid, Path, description = "The portfolio"), List, ReadHeaders),
    responses((status = 200, description = "A page", body = Answered<Page<Event>>), FindProblems))]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<PortfolioId>,
    Query(list): Query<List>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut fields = Fields::new();
    let (page, freshness) = list.read(&mut fields);
    fields.finish()?;
    api.wait_for(&freshness, &[], Some(id)).await?;
    let found = list_portfolio_events(&api.pool, id, &page).await.map_err(failed)?;
    let answer = found.ok_or_else(|| Problem::not_found("portfolio"))?;
    Ok(send(&request, answer, Page::<Event>::of))
}
