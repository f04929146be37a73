//! Portfolios: their settings, with a summary of what they are worth and what could be lost.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::answer::send;
use super::{Answered, List, One, Page, failed};
use crate::api::Api;
use crate::api::fields::{Field, FieldValue};
use crate::api::openapi::{FindProblems, ListProblems};
use crate::api::parameters::ReadHeaders;
use crate::api::path::InPath;
use crate::api::problem::Problem;
use crate::api::query::{Limit, Place, Query, SearchText, WaitMs};
use crate::api::schema::{self, Decimal};
use crate::domain::fields::Fields;
use crate::domain::ids::{InvestorId, PortfolioId};
use crate::domain::money::Amount;
use crate::queries::directory::{self, PortfolioFilter, PortfolioOrder, PortfolioRow};

/// A portfolio with its settings.
#[derive(Serialize, ToSchema)]
pub(crate) struct Portfolio {
    /// The portfolio.
    id: Uuid,
    /// Whose it is.
    investor_id: Uuid,
    /// What it is called.
    #[schema(example = "Retirement")]
    name: String,
    /// The currency it reports in.
    #[schema(example = "USD")]
    base_currency: String,
    /// IANA zone that decides which day today is.
    #[schema(example = "UTC")]
    time_zone: String,
    /// Which lots a sale takes.
    #[schema(value_type = schema::CostBasis)]
    cost_basis: String,
    /// Whether fees and taxes of a buy are part of its cost.
    fees_in_cost: bool,
    /// Whether a cash ledger is kept.
    #[schema(value_type = schema::CashMode)]
    cash: String,
    /// Whether more may be sold than is held.
    allow_short: bool,
    /// When it was opened.
    opened_at: DateTime<Utc>,
    /// The version of the stream: what `If-Match` takes.
    version: i64,
    /// What it is worth and what could be lost; null until that is known.
    summary: Option<Summary>,
}

/// A portfolio in a few figures, in its base currency.
#[derive(Serialize, ToSchema)]
pub(crate) struct Summary {
    /// Holdings and cash.
    #[schema(value_type = Decimal)]
    total_value_base: Amount,
    /// Holdings.
    #[schema(value_type = Option<Decimal>)]
    market_value_base: Option<Amount>,
    /// Cash.
    #[schema(value_type = Option<Decimal>)]
    cash_base: Option<Amount>,
    /// What the holdings cost.
    #[schema(value_type = Option<Decimal>)]
    cost_base: Option<Amount>,
    /// Market value less cost.
    #[schema(value_type = Option<Decimal>)]
    unrealized_gain_base: Option<Amount>,
    /// A price or rate is missing: the values are of what is priced.
    incomplete: bool,
    /// A rate of a purchase is missing: cost and gain are of what is known.
    cost_incomplete: bool,
    /// How many holdings and balances have no value.
    unpriced: i32,
    /// Value at risk of one day at 99 %; a loss is positive. Null until it was computed, like what follows.
    value_at_risk_99: Option<f64>,
    /// The same as a share of gross exposure.
    risk_share: Option<f64>,
    /// The band of that share.
    risk_band: Option<String>,
    /// Annual volatility of today's holdings.
    volatility: Option<f64>,
}

impl From<PortfolioRow> for Portfolio {
    fn from(row: PortfolioRow) -> Self {
        let amount = |value: Option<_>| value.map(Amount::from_decimal);
        let summary = row.total_value_base.map(|total| Summary {
            total_value_base: Amount::from_decimal(total),
            market_value_base: amount(row.market_value_base),
            cash_base: amount(row.cash_base),
            cost_base: amount(row.cost_base),
            unrealized_gain_base: amount(row.unrealized_gain_base),
            incomplete: row.incomplete.unwrap_or(true),
            cost_incomplete: row.cost_incomplete.unwrap_or(true),
            unpriced: row.unpriced.unwrap_or_default(),
            value_at_risk_99: row.value_at_risk_99,
            risk_share: row.risk_share,
            risk_band: row.risk_band,
            volatility: row.volatility,
        });
        Self {
            id: row.portfolio_id,
            investor_id: row.investor_id,
            name: row.name,
            base_currency: row.base_currency,
            time_zone: row.time_zone,
            cost_basis: row.cost_basis,
            fees_in_cost: row.fees_in_cost,
            cash: row.cash,
            allow_short: row.allow_short,
            opened_at: row.opened_at,
            version: row.version,
            summary,
        }
    }
}

/// Which portfolios, and in which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Of this investor.
    #[param(value_type = Option<Uuid>)]
    investor_id: Field<InvestorId>,
    /// Whose name has this in it, in any case.
    #[param(value_type = Option<String>)]
    name: Field<SearchText>,
    /// In this band of annual volatility: `low` below 15 %, `medium`, `high` from 25 % on.
    #[param(value_type = Option<String>)]
    risk_band: Field<RiskBand>,
    /// Worth at least this, in base currency.
    #[param(value_type = Option<Decimal>)]
    value_min: Field<Amount>,
    /// Worth at most this, in base currency.
    #[param(value_type = Option<Decimal>)]
    value_max: Field<Amount>,
    /// `name` (default), `value` or `risk`; with `-` before it the greatest first.
    #[param(value_type = Option<String>)]
    order: Field<PortfolioOrder>,
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

/// A band of risk, as rows name it.
struct RiskBand(String);

impl FieldValue for RiskBand {
    const EXPECTED: &'static str = "one of low, medium, high";
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "low" | "medium" | "high" => Ok(Self(text.to_owned())),
            _ => Err(Self::refusal()),
        }
    }
}

impl FieldValue for PortfolioOrder {
    const EXPECTED: &'static str = "one of name, -name, value, -value, risk, -risk";
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "name" => Ok(Self::Name),
            "-name" => Ok(Self::NameDescending),
            "value" => Ok(Self::Value),
            "-value" => Ok(Self::ValueDescending),
            "risk" => Ok(Self::Risk),
            "-risk" => Ok(Self::RiskDescending),
            _ => Err(Self::refusal()),
        }
    }
}

/// List portfolios
///
/// By name, value or share at risk. Those without a figure come last.
#[utoipa::path(get, path = "/v1/portfolios", tag = "portfolios", operation_id = "listPortfolios",
    params(Which, ReadHeaders),
    responses((status = 200, description = "A page", body = Answered<Page<Portfolio>>), ListProblems))]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Query(which): Query<Which>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut fields = Fields::new();
    let filter = PortfolioFilter {
        investor_id: which.investor_id.optional("investor_id", &mut fields),
        name: which.name.optional("name", &mut fields).map(|SearchText(name)| name),
        risk_band: which.risk_band.optional("risk_band", &mut fields).map(|RiskBand(band)| band),
        value_min: which.value_min.optional("value_min", &mut fields).map(Amount::decimal),
        value_max: which.value_max.optional("value_max", &mut fields).map(Amount::decimal),
    };
    let order = which.order.optional("order", &mut fields).unwrap_or_default();
    let Which { after, limit, min_position, max_wait_ms, .. } = which;
    let (page, freshness) = List { after, limit, min_position, max_wait_ms }.read(&mut fields);
    fields.finish()?;
    api.wait_for(&freshness, &["directory", "valuations"], None).await?;
    let answer = directory::list_portfolios(&api.pool, &filter, order, &page).await.map_err(failed)?;
    Ok(send(&request, answer, Page::<Portfolio>::of))
}

/// Find a portfolio
///
/// Its settings, its version, and a summary of what it is worth and could lose.
#[utoipa::path(get, path = "/v1/portfolios/{id}", tag = "portfolios", operation_id = "findPortfolio",
    params(("id" = Uuid, Path, description = "The portfolio"), One, ReadHeaders),
    responses((status = 200, description = "The portfolio", body = Answered<Portfolio>), FindProblems))]
pub(crate) async fn find(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<PortfolioId>,
    Query(one): Query<One>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    api.wait_for(&one.read()?, &["directory", "valuations"], Some(id)).await?;
    let found = directory::find_portfolio(&api.pool, id).await.map_err(failed)?;
    let answer = found.ok_or_else(|| Problem::not_found("portfolio"))?;
    Ok(send(&request, answer, Portfolio::from))
}
