//! The OpenAPI document: what is said once for all endpoints. The rest stands at the handlers.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Value, json};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, OpenApi as Built, Ref, RefOr, Response, ResponseBuilder,
};
use utoipa::{IntoResponses, Modify, OpenApi};

use super::problem::{self, KINDS, Kind};

/// The document without its paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Portfolio Insight",
        description = "An event-sourced ledger of investment portfolios with live valuations and risk.\n\n\
            **Commands** are POSTs. They answer with the facts they became; sent again with the same `Idempotency-Key` they \
            have one effect and the same answer. `If-Match` with a version refuses to act on a state that has moved on.\n\n\
            **Queries** are GETs on read models that follow the log. Every answer says `as_of` which place it is; pass the \
            `place` of a command's answer as `min_position` to read your own writes.\n\n\
            **Amounts, quantities and prices are strings**, statistics are numbers. Every failure is a problem document \
            (RFC 9457) whose `type` is stable.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "investors", description = "Who invests. Personal data stays outside the log."),
        (name = "portfolios", description = "Ledgers: what was bought and sold, and what follows from it."),
        (name = "assets", description = "What can be held, and where its prices are from."),
        (name = "prices", description = "Ticks and closes."),
        (name = "jobs", description = "Scheduled work: when it is due, and what became of it."),
        (name = "log", description = "Every event of the installation, for other systems."),
        (name = "operations", description = "How the service is doing.")
    ),
    components(schemas(problem::Document)),
    modifiers(&Problems)
)]
pub(super) struct Document;

/// Adds the answers that endpoints refer to: one per status, with every kind of problem it can have.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut Built) {
        let mut components = ComponentsBuilder::from(document.components.take().unwrap_or_default());
        let mut kinds: BTreeMap<StatusCode, Vec<&Kind>> = BTreeMap::new();
        for kind in KINDS {
            kinds.entry(kind.status).or_default().push(kind);
        }
        for (status, kinds) in kinds {
            let meanings = kinds.iter().map(|kind| format!("- `/problems/{}`: {}", kind.slug, kind.meaning));
            let content = ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("Problem")))
                .example(Some(example(kinds[0])))
                .build();
            let response = ResponseBuilder::new()
                .description(meanings.collect::<Vec<_>>().join("\n"))
                .content("application/problem+json", content)
                .build();
            components = components.response(component(status), response);
        }
        document.components = Some(components.build());
    }
}

fn example(kind: &Kind) -> Value {
    let mut document = json!({
        "type": format!("/problems/{}", kind.slug),
        "title": kind.title,
        "status": kind.status.as_u16(),
        "detail": kind.title,
    });
    if kind == problem::INVALID_FIELDS {
        document["detail"] = json!("quantity must be greater than 0");
        document["errors"] = json!([{"field": "quantity", "reason": "must be greater than 0"}]);
    }
    document
}

fn component(status: StatusCode) -> String {
    format!("Problem{}", status.as_u16())
}

fn references(statuses: &[StatusCode]) -> BTreeMap<String, RefOr<Response>> {
    let reference = |status: &StatusCode| {
        (status.as_str().to_owned(), RefOr::Ref(Ref::from_response_name(component(*status))))
    };
    statuses.iter().map(reference).collect()
}

/// The problems of a command that changes something.
pub(super) struct ChangeProblems;

impl IntoResponses for ChangeProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = CreateProblems::responses();
        responses.extend(references(&[StatusCode::NOT_FOUND, StatusCode::PRECONDITION_FAILED]));
        responses
    }
}

/// The problems of a command that creates something.
pub(super) struct CreateProblems;

impl IntoResponses for CreateProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references(&[
            StatusCode::BAD_REQUEST,
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::CONFLICT,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            StatusCode::UNPROCESSABLE_ENTITY,
            StatusCode::INTERNAL_SERVER_ERROR,
            StatusCode::SERVICE_UNAVAILABLE,
        ])
    }
}

/// The problems of a query about one thing.
pub(super) struct FindProblems;

impl IntoResponses for FindProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = ListProblems::responses();
        responses.extend(references(&[StatusCode::NOT_FOUND]));
        responses
    }
}

/// The problems of a query for a list.
pub(super) struct ListProblems;

impl IntoResponses for ListProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = references(&[
            StatusCode::CONFLICT,
            StatusCode::UNPROCESSABLE_ENTITY,
            StatusCode::INTERNAL_SERVER_ERROR,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ]);
        let not_modified =
            ResponseBuilder::new().description("The rows are those of `If-None-Match`").build();
        responses.insert(StatusCode::NOT_MODIFIED.as_str().to_owned(), not_modified.into());
        responses
    }
}

/// The problems of asking how things are.
pub(super) struct StatusProblems;

impl IntoResponses for StatusProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references(&[StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE])
    }
}

/// Nothing has this address.
pub(super) struct NotFound;

impl IntoResponses for NotFound {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        references(&[StatusCode::NOT_FOUND])
    }
}
