//! A word about a price that was held back: it is right, or it is wrong.

use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::api::Api;
use crate::api::answer::{CommandAnswer, Wish};
use crate::api::body::{self, COMMAND_BYTES_MAX};
use crate::api::headers::CommandHeaders;
use crate::api::openapi::ChangeProblems;
use crate::api::parameters::ChangeHeaders;
use crate::api::path::InPath;
use crate::api::problem::Problem;
use crate::commands::Command;
use crate::domain::ids::{HeldId, Version};
use crate::domain::price::Settlement;

/// Nothing has to be said; an empty object may be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Nothing {}

/// Accept a held price
///
/// It joins the asset's prices, once. One that stands for a series told anew joins them with the whole series, when that is
/// fetched next. A body is not needed.
#[utoipa::path(post, path = "/v1/prices/held/{id}/accept", tag = "prices", operation_id = "acceptHeldPrice",
    params(("id" = uuid::Uuid, Path, description = "The held price"), ChangeHeaders),
    responses((status = 201, description = "Accepted", body = CommandAnswer),
        (status = 200, description = "It was accepted before", body = CommandAnswer), ChangeProblems))]
pub(crate) async fn accept(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<HeldId>,
    headers: CommandHeaders,
    request: Request,
) -> Result<Response, Problem> {
    settle(&api, id, Settlement::Accept, headers, request).await
}

/// Dismiss a held price
///
/// It never joins the asset's prices; the same price told again stays dismissed. A body is not needed.
#[utoipa::path(post, path = "/v1/prices/held/{id}/dismiss", tag = "prices", operation_id = "dismissHeldPrice",
    params(("id" = uuid::Uuid, Path, description = "The held price"), ChangeHeaders),
    responses((status = 201, description = "Dismissed", body = CommandAnswer),
        (status = 200, description = "It was dismissed before", body = CommandAnswer), ChangeProblems))]
pub(crate) async fn dismiss(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<HeldId>,
    headers: CommandHeaders,
    request: Request,
) -> Result<Response, Problem> {
    settle(&api, id, Settlement::Dismiss, headers, request).await
}

async fn settle(
    api: &Api,
    held_id: HeldId,
    settlement: Settlement,
    headers: CommandHeaders,
    request: Request,
) -> Result<Response, Problem> {
    if !request.body().is_end_stream() {
        body::parse::<Nothing>(&body::read(request, COMMAND_BYTES_MAX).await?)?;
    }
    let version = headers.if_match.map(|Version(version)| version);
    let hash = Sha256::digest(format!("{} {held_id} {version:?}", settlement.done())).into();
    let command = Command::SettlePrice { held_id, settlement };
    api.change(Wish { command, headers, hash, occurred_at: None }).await
}
