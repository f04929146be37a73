//! Statistics of all portfolios.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::last_modified;
use super::conflated::Kept;
use super::{Answered, One, failed};
use crate::api::Api;
use crate::api::openapi::ListProblems;
use crate::api::parameters::DatedHeaders;
use crate::api::problem::Problem;
use crate::api::query::Query;
use crate::api::schema::Decimal;
use crate::domain::money::Amount;
use crate::queries::directory::{self, CurrencyTotal, PortfolioStats};

/// How old it may be: every portfolio is read for it.
const GOOD_FOR: Duration = Duration::from_secs(2);

/// What all portfolios are like together.
#[derive(Serialize, ToSchema)]
pub(crate) struct Stats {
    /// Portfolios.
    count: i64,
    /// Those with a volatility.
    with_figures: i64,
    /// Those without: nothing held, too few closes, or not computed yet.
    without_figures: i64,
    /// Those with a volatility, by band.
    risk_bands: Bands,
    /// Of their annual volatilities, from closes and their correlation.
    volatility: Spread,
    /// Of their Sharpe ratios.
    sharpe: Spread,
    /// What they are worth, by base currency.
    totals: Vec<Total>,
}

/// Portfolios by band of annual volatility.
#[derive(Serialize, ToSchema)]
pub(crate) struct Bands {
    /// Below 0.15.
    low: i64,
    /// From 0.15 to below 0.25.
    medium: i64,
    /// From 0.25 on.
    high: i64,
}

/// A figure of many.
#[derive(Serialize, ToSchema)]
pub(crate) struct Spread {
    /// How many have it.
    count: i64,
    /// Its mean; null where nobody has it.
    mean: Option<f64>,
    /// Its median.
    median: Option<f64>,
}

/// Portfolios of one base currency together.
#[derive(Serialize, ToSchema)]
pub(crate) struct Total {
    /// The base currency.
    #[schema(example = "USD")]
    base_currency: String,
    /// How many.
    count: i64,
    /// The sum of their total values.
    #[schema(value_type = Decimal)]
    total_value_base: Amount,
    /// How many of them are not valued in full, so that something is left out.
    incomplete: i64,
}

impl From<PortfolioStats> for Stats {
    fn from(stats: PortfolioStats) -> Self {
        let with_figures = stats.low + stats.medium + stats.high;
        let total = |total: CurrencyTotal| Total {
            base_currency: total.base_currency,
            count: total.count,
            total_value_base: Amount::from_decimal(total.total_value_base),
            incomplete: total.incomplete,
        };
        Self {
            count: stats.count,
            with_figures,
            without_figures: (stats.count - with_figures).max(0),
            risk_bands: Bands { low: stats.low, medium: stats.medium, high: stats.high },
            volatility: Spread {
                count: with_figures,
                mean: stats.volatility_mean,
                median: stats.volatility_median,
            },
            sharpe: Spread { count: stats.with_sharpe, mean: stats.sharpe_mean, median: stats.sharpe_median },
            totals: stats.totals.into_iter().map(total).collect(),
        }
    }
}

/// Find statistics of all portfolios
///
/// How many there are in each band of volatility, what volatility and Sharpe ratio are like, and what they are worth by base
/// currency. At most two seconds old, unless a place is named that this has not seen.
#[utoipa::path(get, path = "/v1/portfolios/stats", tag = "portfolios", operation_id = "findPortfolioStats",
    params(One, DatedHeaders),
    responses((status = 200, description = "The statistics", body = Answered<Stats>), ListProblems))]
pub(crate) async fn find(
    State(api): State<Arc<Api>>,
    Query(one): Query<One>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let freshness = one.read()?;
    api.wait_for(&freshness, &["directory", "valuations", "risk"], None).await?;
    let read = async {
        let answer = directory::find_portfolio_stats(&api.pool).await.map_err(failed)?;
        Ok(Kept::of(answer, Stats::from))
    };
    let kept = api.conflated.get("portfolio stats".into(), GOOD_FOR, freshness.min_position, read).await?;
    let modified = last_modified(&kept.as_of, api.clock.now());
    Ok(kept.rendered.send_dated(&request, kept.as_of, kept.parked, modified))
}
