//! Earnings of an asset by quarter.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer::send;
use super::{Answered, List, Page, failed};
use crate::api::Api;
use crate::api::fields::Field;
use crate::api::openapi::FindProblems;
use crate::api::parameters::ReadHeaders;
use crate::api::path::InPath;
use crate::api::problem::Problem;
use crate::api::query::{Limit, Place, Query, WaitMs};
use crate::api::schema::{self, Decimal};
use crate::commands::AssetRef;
use crate::domain::asset::Quarter;
use crate::domain::fields::Fields;
use crate::domain::ids::AssetId;
use crate::domain::money::Amount;
use crate::queries::directory::{EarningsFilter, EarningsRow, list_earnings};

/// What is believed of a quarter: the last report of it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Earnings {
    /// The quarter.
    #[schema(value_type = schema::Quarter)]
    quarter: String,
    /// Earnings of one share; a loss is negative.
    #[schema(value_type = Decimal)]
    earnings_per_share: Amount,
    /// What was expected, if told.
    #[schema(value_type = Option<Decimal>)]
    estimate: Option<Amount>,
    /// Earnings of one share less what was expected.
    #[schema(value_type = Option<Decimal>)]
    surprise: Option<Amount>,
    /// Revenue, if told.
    #[schema(value_type = Option<Decimal>)]
    revenue: Option<Amount>,
    /// The currency of all of these.
    #[schema(example = "USD")]
    currency: String,
    /// When it was published, if told.
    reported_on: Option<NaiveDate>,
    /// When the log took the report.
    recorded_at: DateTime<Utc>,
    /// Place of the report.
    position: i64,
}

impl From<EarningsRow> for Earnings {
    fn from(row: EarningsRow) -> Self {
        let earnings_per_share = Amount::from_decimal(row.earnings_per_share);
        let estimate = row.estimate.map(Amount::from_decimal);
        Self {
            quarter: row.quarter,
            earnings_per_share,
            estimate,
            surprise: estimate.map(|estimate| earnings_per_share.saturating_sub(estimate)),
            revenue: row.revenue.map(Amount::from_decimal),
            currency: row.currency,
            reported_on: row.reported_on,
            recorded_at: row.recorded_at,
            position: row.position,
        }
    }
}

/// Which quarters.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// The first quarter.
    #[param(value_type = Option<schema::Quarter>)]
    from: Field<Quarter>,
    /// The last quarter.
    #[param(value_type = Option<schema::Quarter>)]
    to: Field<Quarter>,
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

/// List the earnings of an asset
///
/// By quarter; of each the last report.
#[utoipa::path(get, path = "/v1/assets/{asset}/earnings", tag = "assets", operation_id = "listEarnings",
    params(("asset" = String, Path, description = "Id or symbol", example = "AAPL"), Which, ReadHeaders),
    responses((status = 200, description = "A page", body = Answered<Page<Earnings>>), FindProblems))]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    InPath(asset): InPath<AssetRef>,
    Query(which): Query<Which>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut fields = Fields::new();
    let filter = EarningsFilter {
        from: which.from.optional("from", &mut fields),
        to: which.to.optional("to", &mut fields),
    };
    let Which { after, limit, min_position, max_wait_ms, .. } = which;
    let (page, freshness) = List { after, limit, min_position, max_wait_ms }.read(&mut fields);
    fields.finish()?;
    api.wait_for(&freshness, &["directory"], None).await?;
    let asset_id = AssetId(api.find_asset(asset).await?.data.asset_id);
    let answer = list_earnings(&api.pool, asset_id, &filter, &page).await.map_err(failed)?;
    Ok(send(&request, answer, Page::<Earnings>::of))
}
