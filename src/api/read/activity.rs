//! What happened in a portfolio, as an investor reads it.

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
use crate::api::openapi::FindProblems;
use crate::api::parameters::ReadHeaders;
use crate::api::path::InPath;
use crate::api::problem::Problem;
use crate::api::query::{Limit, Place, Query, WaitMs};
use crate::api::schema::Decimal;
use crate::domain::fields::Fields;
use crate::domain::ids::{AssetId, PortfolioId};
use crate::domain::money::{Amount, Price, Quantity, Rate};
use crate::queries::activity::{ActivityFilter, ActivityRow, list_activities};
use crate::queries::directory;

/// Something that happened. What does not apply to its kind is left out.
#[derive(Serialize, ToSchema)]
pub(crate) struct Activity {
    /// Its name, as a correction would state it.
    #[schema(example = "0f8e4c1a-3d5b-5c2e-9f7a-6b1d2c3e4f50.0")]
    event_id: String,
    /// Its place in the log.
    #[schema(example = 901)]
    position: i64,
    /// `opened`, `settings_changed`, `buy`, `sell`, `deposit` or `withdraw`.
    #[schema(example = "buy")]
    kind: String,
    /// The day it is dated.
    happened_on: NaiveDate,
    /// The instant it is dated.
    occurred_at: DateTime<Utc>,
    /// When the log took it.
    recorded_at: DateTime<Utc>,
    /// The asset.
    #[serde(skip_serializing_if = "Option::is_none")]
    asset_id: Option<Uuid>,
    /// Its symbol today.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "AAPL")]
    symbol: Option<String>,
    /// Units.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Decimal>)]
    quantity: Option<Quantity>,
    /// Price of one unit in quote units.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Decimal>)]
    price: Option<Price>,
    /// The currency of amount, fee and tax.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "USD")]
    currency: Option<String>,
    /// Gross amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Decimal>)]
    amount: Option<Amount>,
    /// Fee.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Decimal>)]
    fee: Option<Amount>,
    /// Tax.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Decimal>)]
    tax: Option<Amount>,
    /// The rate that the client stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Decimal>)]
    fx_rate: Option<Rate>,
    /// What it did to tracked cash.
    #[serde(skip_serializing_if = "Option::is_none")]
    cash: Option<CashChange>,
    /// The client's remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// A change of tracked cash.
#[derive(Serialize, ToSchema)]
pub(crate) struct CashChange {
    /// The currency.
    #[schema(example = "USD")]
    currency: String,
    /// Negative was paid, positive received.
    #[schema(value_type = Decimal)]
    amount: Amount,
}

impl From<ActivityRow> for Activity {
    fn from(row: ActivityRow) -> Self {
        let amount = |value: Option<_>| value.map(Amount::from_decimal);
        let cash = row.cash_currency.zip(amount(row.cash_amount));
        Self {
            event_id: row.event_id,
            position: row.position,
            kind: row.kind,
            happened_on: row.happened_on,
            occurred_at: row.occurred_at,
            recorded_at: row.recorded_at,
            asset_id: row.asset_id,
            symbol: row.symbol,
            quantity: row.quantity.map(Quantity::from_decimal),
            price: row.price.map(Price::from_decimal),
            currency: row.currency,
            amount: amount(row.amount),
            fee: amount(row.fee),
            tax: amount(row.tax),
            fx_rate: row.fx_rate.map(Rate::from_decimal),
            cash: cash.map(|(currency, amount)| CashChange { currency, amount }),
            note: row.note,
        }
    }
}

/// Which activities.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Of this kind: `opened`, `settings_changed`, `buy`, `sell`, `deposit` or `withdraw`.
    #[param(value_type = Option<String>)]
    kind: Field<Kind>,
    /// With this asset: its id.
    #[param(value_type = Option<Uuid>)]
    asset_id: Field<AssetId>,
    /// The first day.
    #[param(value_type = Option<NaiveDate>)]
    from: Field<NaiveDate>,
    /// The last day.
    #[param(value_type = Option<NaiveDate>)]
    to: Field<NaiveDate>,
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

/// A kind of activity.
pub(crate) struct Kind(&'static str);

impl FieldValue for Kind {
    const EXPECTED: &'static str = "one of opened, settings_changed, buy, sell, deposit, withdraw";
    const WORDS: &'static [&'static str] =
        &["opened", "settings_changed", "buy", "sell", "deposit", "withdraw"];
    fn from_text(text: &str) -> Result<Self, String> {
        Self::WORDS.iter().find(|word| **word == text).map(|word| Self(word)).ok_or_else(Self::refusal)
    }
}

/// List what happened in a portfolio
///
/// The latest day first.
#[utoipa::path(get, path = "/v1/portfolios/{id}/activity", tag = "portfolios", operation_id = "listActivity",
    params(("id" = Uuid, Path, description = "The portfolio"), Which, ReadHeaders),
    responses((status = 200, description = "A page", body = Answered<Page<Activity>>), FindProblems))]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<PortfolioId>,
    Query(which): Query<Which>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut fields = Fields::new();
    let filter = ActivityFilter {
        kind: which.kind.optional("kind", &mut fields).map(|Kind(kind)| kind.to_owned()),
        asset_id: which.asset_id.optional("asset_id", &mut fields),
        from: which.from.optional("from", &mut fields),
        to: which.to.optional("to", &mut fields),
    };
    let Which { after, limit, min_position, max_wait_ms, .. } = which;
    let (page, freshness) = List { after, limit, min_position, max_wait_ms }.read(&mut fields);
    fields.finish()?;
    api.wait_for(&freshness, &["activity"], Some(id)).await?;
    let answer = list_activities(&api.pool, id, &filter, &page).await.map_err(failed)?;
    // A portfolio has at least its opening: an empty page may be for want of a portfolio.
    if answer.data.items.is_empty()
        && directory::find_portfolio(&api.pool, id).await.map_err(failed)?.is_none()
    {
        return Err(Problem::not_found("portfolio"));
    }
    Ok(send(&request, answer, Page::<Activity>::of))
}
