//! What a portfolio is worth at live prices.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;
use uuid::Uuid;

use super::Error;
use super::snapshot::{self, Answer};
use crate::domain::ids::PortfolioId;

/// A portfolio's value, in its base currency, with all that it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Valuation {
    /// The sums.
    pub total: ValuationRow,
    /// Per asset held, by asset id.
    pub holdings: Vec<ValuedHoldingRow>,
    /// Per currency of tracked cash.
    pub cash: Vec<ValuedCashRow>,
}

/// The sums of a valuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuationRow {
    /// The portfolio.
    pub portfolio_id: Uuid,
    /// The currency of all sums.
    pub base_currency: String,
    /// Holdings.
    pub market_value_base: Decimal,
    /// Cash.
    pub cash_base: Decimal,
    /// Holdings and cash.
    pub total_value_base: Decimal,
    /// Cost of what is held, as far as opening rates are known.
    pub cost_base: Decimal,
    /// Gain of what is held, as far as values and costs are known.
    pub unrealized_gain_base: Decimal,
    /// Sum of the absolute market values: what weights are shares of.
    pub gross_value_base: Decimal,
    /// A price or rate is missing: values are of what is priced.
    pub incomplete: bool,
    /// An opening rate is missing: cost and gain are of what is known.
    pub cost_incomplete: bool,
    /// How many holdings and balances have no value.
    pub unpriced: i32,
    /// The last event of the portfolio that was used.
    pub portfolio_position: i64,
    /// The last event of the market that was used.
    pub price_position: i64,
}

/// A holding's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuedHoldingRow {
    /// The asset.
    pub asset_id: Uuid,
    /// Its symbol today; none until the directory knows it.
    pub symbol: Option<String>,
    /// Its currency: of everything not `_base`.
    pub currency: String,
    /// Units held; negative when short.
    pub quantity: Decimal,
    /// Why there is no value in base: `no_price`, `no_rate`, `too_large`.
    pub unpriced: Option<String>,
    /// Price of one unit, in quote units.
    pub price: Option<Decimal>,
    /// When; a close lies at the end of its day, UTC.
    pub priced_at: Option<DateTime<Utc>>,
    /// Where it is from.
    pub price_source: Option<String>,
    /// `tick` or `close`.
    pub price_kind: Option<String>,
    /// Quantity × price × quote unit.
    pub market_value: Option<Decimal>,
    /// Cost of what is held.
    pub cost: Decimal,
    /// Market value − cost.
    pub unrealized_gain: Option<Decimal>,
    /// Units of base for one of the asset's currency.
    pub rate: Option<Decimal>,
    /// `same`, `direct`, `inverse`, `through_usd`, `through_eur`.
    pub rate_path: Option<String>,
    /// Market value in base.
    pub market_value_base: Option<Decimal>,
    /// Cost in base, at the rates of the days of purchase.
    pub cost_base: Option<Decimal>,
    /// Why there is no cost in base: `no_rate_at_purchase`.
    pub cost_base_missing: Option<String>,
    /// Market value in base − cost in base.
    pub unrealized_gain_base: Option<Decimal>,
    /// Share of the gross market value.
    pub weight: Option<Decimal>,
    /// The last event of the market that was used.
    pub price_position: i64,
}

/// A cash balance's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuedCashRow {
    /// The currency.
    pub currency: String,
    /// How much.
    pub balance: Decimal,
    /// Why there is no value in base: `no_rate`, `too_large`.
    pub unpriced: Option<String>,
    /// Units of base for one of the currency.
    pub rate: Option<Decimal>,
    /// `same`, `direct`, `inverse`, `through_usd`, `through_eur`.
    pub rate_path: Option<String>,
    /// The balance in base.
    pub balance_base: Option<Decimal>,
    /// The last event of the market that was used.
    pub price_position: i64,
}

/// What a portfolio is worth; none until it was valued for the first time.
///
/// # Errors
/// The database.
pub async fn find_valuation(pool: &PgPool, id: PortfolioId) -> Result<Option<Answer<Valuation>>, Error> {
    let mut tx = snapshot::begin(pool).await?;
    let found = sqlx::query_file_as!(ValuationRow, "projections/valuations/find_valuation.sql", id.0)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(total) = found else { return Ok(None) };
    let holdings =
        sqlx::query_file_as!(ValuedHoldingRow, "projections/valuations/list_valued_holdings.sql", id.0)
            .fetch_all(&mut *tx)
            .await?;
    let cash = sqlx::query_file_as!(ValuedCashRow, "projections/valuations/list_valued_cash.sql", id.0)
        .fetch_all(&mut *tx)
        .await?;
    let data = Valuation { total, holdings, cash };
    let sources = [("valuations", id.stream().shard())];
    snapshot::answer(&mut tx, &sources, &[id.stream()], data).await.map(Some)
}
