//! How much a portfolio could lose.

use rust_decimal::Decimal;
use sqlx::PgPool;
use uuid::Uuid;

use super::Error;
use super::snapshot::{self, Answer};
use crate::domain::ids::{PortfolioId, Position, Shard};

/// A portfolio's live risk, and all that it is a function of.
#[derive(Debug, Clone, PartialEq)]
pub struct RiskRow {
    /// The portfolio.
    pub portfolio_id: Uuid,
    /// The last event of the portfolio that was used.
    pub portfolio_position: i64,
    /// The last event of the market that exposures were made from.
    pub price_position: i64,
    /// The market position that the model's closes end at.
    pub model_cut: i64,
    /// Which model.
    pub model_hash: String,
    /// Which program's arithmetic.
    pub engine_version: String,
    /// The currency of all amounts.
    pub base_currency: String,
    /// Sum of the absolute exposures.
    pub gross_exposure: Decimal,
    /// Share of the gross exposure that is in the figures.
    pub coverage: f64,
    /// Coverage is too small for a figure to be believed.
    pub incomplete: bool,
    /// Headline value at risk 95 %, one day; a loss is positive.
    pub value_at_risk_95: Option<f64>,
    /// Headline value at risk 99 %, one day.
    pub value_at_risk_99: Option<f64>,
    /// Headline expected shortfall 97.5 %, one day.
    pub expected_shortfall_975: Option<f64>,
    /// Value at risk 99 % as a share of gross exposure.
    pub risk_share: Option<f64>,
    /// The band of that share.
    pub risk_band: Option<String>,
    /// Annual volatility of today's holdings.
    pub volatility: Option<f64>,
    /// Sharpe ratio of today's holdings.
    pub sharpe: Option<f64>,
    /// Every method with its figures, intervals, window, seed and counts.
    pub figures: serde_json::Value,
    /// The exposures that the figures reflect.
    pub exposures: serde_json::Value,
}

/// A portfolio's live risk; none until it was computed for the first time.
///
/// # Errors
/// The database.
pub async fn find_risk(pool: &PgPool, id: PortfolioId) -> Result<Option<Answer<RiskRow>>, Error> {
    let mut tx = snapshot::begin(pool).await?;
    let found = sqlx::query_file_as!(RiskRow, "projections/risk/find_risk.sql", id.0)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(row) = found else { return Ok(None) };
    let sources = [("risk", id.stream().shard())];
    snapshot::answer(&mut tx, &sources, &[id.stream()], row).await.map(Some)
}

/// How far risk is with requests to compute everything anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recomputed {
    /// Portfolios that were computed since.
    pub done: u64,
    /// All portfolios.
    pub total: u64,
    /// The shards that have not come to the request.
    pub waiting: Vec<i16>,
    /// The shards whose request is parked.
    pub parked: Vec<i16>,
}

/// Counts the portfolios that have obeyed requests at these places.
///
/// # Errors
/// The database.
pub async fn count_recomputed(pool: &PgPool, requests: &[(Shard, Position)]) -> Result<Recomputed, Error> {
    let shards: Vec<i16> = requests.iter().map(|(shard, _)| shard.0).collect();
    let positions: Vec<i64> = requests.iter().map(|(_, position)| position.0).collect();
    let found = sqlx::query_file!("projections/risk/count_recomputed.sql", &shards, &positions)
        .fetch_one(pool)
        .await?;
    let count = |count: i64| u64::try_from(count).unwrap_or_default();
    let (done, total) = (count(found.done), count(found.total));
    Ok(Recomputed { done, total, waiting: found.waiting, parked: found.parked })
}

/// A portfolio that has risk and nothing to compute it from, among those that have not obeyed requests at these places.
///
/// # Errors
/// The database.
pub async fn find_unreachable(
    pool: &PgPool,
    requests: &[(Shard, Position)],
) -> Result<Option<PortfolioId>, Error> {
    let shards: Vec<i16> = requests.iter().map(|(shard, _)| shard.0).collect();
    let positions: Vec<i64> = requests.iter().map(|(_, position)| position.0).collect();
    let found = sqlx::query_file!("projections/risk/find_unreachable.sql", &shards, &positions)
        .fetch_optional(pool)
        .await?;
    Ok(found.map(|row| PortfolioId(row.portfolio_id)))
}
