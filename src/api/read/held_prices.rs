//! Prices that were held back because they are far from the last one.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::answer::send;
use super::{Answered, List, Page, failed};
use crate::api::Api;
use crate::api::fields::{Field, FieldValue};
use crate::api::openapi::ListProblems;
use crate::api::parameters::ReadHeaders;
use crate::api::problem::Problem;
use crate::api::query::{Limit, Place, Query, WaitMs};
use crate::api::schema::Decimal;
use crate::domain::fields::Fields;
use crate::domain::money::{Price, Quantity};
use crate::queries::prices::{HeldPriceRow, list_held_prices};

/// A price that was held back.
#[derive(Serialize, ToSchema)]
pub(crate) struct HeldPrice {
    /// What accepting and dismissing take.
    id: Uuid,
    /// The asset.
    asset_id: Uuid,
    /// The asset's symbol today.
    #[schema(example = "AAPL")]
    symbol: String,
    /// Where the price is from.
    #[schema(example = "yahoo")]
    source: String,
    /// When it was, of a tick.
    at: Option<DateTime<Utc>>,
    /// The exchange's calendar day, of a close.
    day: Option<NaiveDate>,
    /// Price of one unit in quote units.
    #[schema(value_type = Decimal)]
    price: Price,
    /// Units traded, if told.
    #[schema(value_type = Option<Decimal>)]
    volume: Option<Quantity>,
    /// The price that it is far from.
    #[schema(value_type = Decimal)]
    last_price: Price,
    /// Why it is held.
    #[schema(example = "is more than 50 % away from the last price, 179.66")]
    reason: String,
    /// When the log took it.
    held_at: DateTime<Utc>,
    /// `waiting`, `accepted` or `dismissed`.
    state: String,
    /// Place of the event that says so.
    position: i64,
}

impl From<HeldPriceRow> for HeldPrice {
    fn from(row: HeldPriceRow) -> Self {
        Self {
            id: row.held_id,
            asset_id: row.asset_id,
            symbol: row.symbol,
            source: row.source,
            at: row.at,
            day: row.day,
            price: Price::from_decimal(row.price),
            volume: row.volume.map(Quantity::from_decimal),
            last_price: Price::from_decimal(row.last_price),
            reason: row.reason,
            held_at: row.held_at,
            state: row.state,
            position: row.position,
        }
    }
}

/// Which held prices.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// In this state: `waiting`, `accepted` or `dismissed`; `waiting` if not told.
    #[param(value_type = Option<String>)]
    state: Field<Fate>,
    /// Where the page begins: `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Field<String>,
    /// Rows of the page: 1 to 500; 50 if not told.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Field<Limit>,
    /// A place that the answer must have seen: the `place` of a command's answer, such as `1:901`.
    #[param(value_type = Option<String>)]
    min_position: Field<Place>,
    /// How long to wait for it, in milliseconds: 0 to 10,000; 2,000 if not told.
    #[param(value_type = Option<u32>)]
    max_wait_ms: Field<WaitMs>,
}

/// What became of a held price.
pub(crate) struct Fate(&'static str);

impl FieldValue for Fate {
    const EXPECTED: &'static str = "one of waiting, accepted, dismissed";
    const WORDS: &'static [&'static str] = &["waiting", "accepted", "dismissed"];
    fn from_text(text: &str) -> Result<Self, String> {
        Self::WORDS.iter().find(|word| **word == text).map(|word| Self(word)).ok_or_else(Self::refusal)
    }
}

/// List held prices
///
/// What sources have told and is too far from the last price to be believed without a word, the oldest first.
#[utoipa::path(get, path = "/v1/prices/held", tag = "prices", operation_id = "listHeldPrices",
    params(Which, ReadHeaders),
    responses((status = 200, description = "A page", body = Answered<Page<HeldPrice>>), ListProblems))]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Query(which): Query<Which>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut fields = Fields::new();
    let state = which.state.optional("state", &mut fields).map_or("waiting", |Fate(state)| state);
    let Which { after, limit, min_position, max_wait_ms, .. } = which;
    let (page, freshness) = List { after, limit, min_position, max_wait_ms }.read(&mut fields);
    fields.finish()?;
    api.wait_for(&freshness, &["prices"], None).await?;
    let answer = list_held_prices(&api.pool, state, &page).await.map_err(failed)?;
    Ok(send(&request, answer, Page::<HeldPrice>::of))
}
