//! What a portfolio could lose.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::answer::send;
use super::{Answered, One, failed};
use crate::api::Api;
use crate::api::openapi::FindProblems;
use crate::api::parameters::ReadHeaders;
use crate::api::path::InPath;
use crate::api::problem::Problem;
use crate::api::query::Query;
use crate::api::schema::Decimal;
use crate::domain::ids::PortfolioId;
use crate::domain::money::Amount;
use crate::queries::risk::{self as queries, RiskRow};

/// What a portfolio could lose: a function of what is named here, to the bit. A loss is positive.
#[derive(Serialize, ToSchema)]
pub(crate) struct Risk {
    /// The portfolio.
    portfolio_id: Uuid,
    /// What the figures are of: today's holdings.
    #[schema(example = "holdings")]
    basis: &'static str,
    /// The currency of all amounts.
    #[schema(example = "USD")]
    base_currency: String,
    /// The last event of the portfolio that was used.
    portfolio_position: i64,
    /// The last event of the market that the exposures were made from.
    price_position: i64,
    /// The market position that the model's closes end at.
    model_cut: i64,
    /// Which model.
    model_hash: String,
    /// Which program's arithmetic.
    engine_version: String,
    /// Sum of the absolute exposures.
    #[schema(value_type = Decimal)]
    gross_exposure: Amount,
    /// Share of the gross exposure that is in the figures.
    coverage: f64,
    /// Coverage is too small for the figures to be relied on.
    incomplete: bool,
    /// Headline value at risk of one day at 95 %, by filtered historical simulation.
    value_at_risk_95: Option<f64>,
    /// Headline value at risk of one day at 99 %.
    value_at_risk_99: Option<f64>,
    /// Headline expected shortfall of one day at 97.5 %.
    expected_shortfall_975: Option<f64>,
    /// Value at risk at 99 % as a share of gross exposure.
    risk_share: Option<f64>,
    /// The band of that share.
    risk_band: Option<String>,
    /// Annual volatility of today's holdings.
    volatility_annualized: Option<f64>,
    /// Sharpe ratio of today's holdings.
    sharpe: Option<f64>,
    /// Every method with its figures, their 95 % intervals, window, seed and counts.
    #[schema(value_type = Object)]
    figures: Value,
    /// The exposures that the figures reflect, in base currency.
    #[schema(value_type = Object)]
    exposures: Value,
}

impl From<RiskRow> for Risk {
    fn from(row: RiskRow) -> Self {
        Self {
            portfolio_id: row.portfolio_id,
            basis: "holdings",
            base_currency: row.base_currency,
            portfolio_position: row.portfolio_position,
            price_position: row.price_position,
            model_cut: row.model_cut,
            model_hash: row.model_hash,
            engine_version: row.engine_version,
            gross_exposure: Amount::from_decimal(row.gross_exposure),
            coverage: row.coverage,
            incomplete: row.incomplete,
            value_at_risk_95: row.value_at_risk_95,
            value_at_risk_99: row.value_at_risk_99,
            expected_shortfall_975: row.expected_shortfall_975,
            risk_share: row.risk_share,
            risk_band: row.risk_band,
            volatility_annualized: row.volatility,
            sharpe: row.sharpe,
            figures: row.figures,
            exposures: row.exposures,
        }
    }
}

/// Find what a portfolio could lose
///
/// Value at risk and expected shortfall by several methods, each with its interval; recomputed when a trade, a price or a close
/// makes a difference.
#[utoipa::path(get, path = "/v1/portfolios/{id}/risk", tag = "portfolios", operation_id = "findRisk",
    params(("id" = Uuid, Path, description = "The portfolio"), One, ReadHeaders),
    responses((status = 200, description = "What it could lose", body = Answered<Risk>), FindProblems))]
pub(crate) async fn find(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<PortfolioId>,
    Query(one): Query<One>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    api.wait_for(&one.read()?, &["risk"], Some(id)).await?;
    let found = queries::find_risk(&api.pool, id).await.map_err(failed)?;
    let answer = found.ok_or_else(|| Problem::not_found("portfolio, or its risk was not computed yet"))?;
    Ok(send(&request, answer, Risk::from))
}
