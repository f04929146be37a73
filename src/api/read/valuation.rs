//! What a portfolio is worth at live prices, in each asset's currency and in base.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
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
use crate::domain::money::{Amount, Price, Quantity, Rate};
use crate::queries::valuations::{self as queries, ValuedCashRow, ValuedHoldingRow};

/// What a portfolio is worth.
#[derive(Serialize, ToSchema)]
pub(crate) struct Valuation {
    /// The portfolio.
    portfolio_id: Uuid,
    /// The currency of everything that ends in `_base`.
    #[schema(example = "USD")]
    base_currency: String,
    /// The last event of the portfolio that the figures used.
    portfolio_position: i64,
    /// The last price that the figures used.
    price_position: i64,
    /// The sums.
    totals: Totals,
    /// Per asset that is held.
    holdings: Vec<ValuedHolding>,
    /// Per currency; empty where no cash is tracked.
    cash: Vec<ValuedCash>,
    /// What has no value, and why.
    unpriced: Vec<Unpriced>,
}

/// Sums in base currency.
#[derive(Serialize, ToSchema)]
pub(crate) struct Totals {
    /// Of the holdings.
    #[schema(value_type = Decimal)]
    market_value_base: Amount,
    /// Of the cash.
    #[schema(value_type = Decimal)]
    cash_base: Amount,
    /// Of both.
    #[schema(value_type = Decimal)]
    total_value_base: Amount,
    /// What the holdings cost.
    #[schema(value_type = Decimal)]
    cost_base: Amount,
    /// Market value less cost.
    #[schema(value_type = Decimal)]
    unrealized_gain_base: Amount,
    /// Absolute market values: what weights are shares of.
    #[schema(value_type = Decimal)]
    gross_value_base: Amount,
    /// A price or rate is missing: the sums are of what is priced.
    incomplete: bool,
    /// A rate of a purchase is missing: cost and gain are of what is known.
    cost_incomplete: bool,
}

/// A holding at its live price. What cannot be had is null, with the reason in `unpriced`.
#[derive(Serialize, ToSchema)]
pub(crate) struct ValuedHolding {
    /// The asset.
    asset_id: Uuid,
    /// Its symbol today; null until it is known.
    #[schema(example = "AAPL")]
    symbol: Option<String>,
    /// The asset's currency.
    #[schema(example = "USD")]
    currency: String,
    /// Units; negative where short.
    #[schema(value_type = Decimal)]
    quantity: Quantity,
    /// Why it has no value: `no_price`, `no_rate` or `too_large`.
    unpriced: Option<String>,
    /// Price of one unit in quote units.
    #[schema(value_type = Option<Decimal>)]
    price: Option<Price>,
    /// The instant of the tick, or the end of the day of the close.
    priced_at: Option<DateTime<Utc>>,
    /// Where the price is from.
    price_source: Option<String>,
    /// `tick` or `close`.
    price_kind: Option<String>,
    /// Quantity × price.
    #[schema(value_type = Option<Decimal>)]
    market_value: Option<Amount>,
    /// What it cost.
    #[schema(value_type = Decimal)]
    cost: Amount,
    /// Market value less cost.
    #[schema(value_type = Option<Decimal>)]
    unrealized_gain: Option<Amount>,
    /// Units of base for one unit of the asset's currency.
    #[schema(value_type = Option<Decimal>)]
    rate: Option<Rate>,
    /// How the rate was found: `same`, `direct`, `inverse`, `through_usd` or `through_eur`.
    rate_path: Option<String>,
    /// Market value in base currency.
    #[schema(value_type = Option<Decimal>)]
    market_value_base: Option<Amount>,
    /// Cost in base currency, at the rates of the purchases.
    #[schema(value_type = Option<Decimal>)]
    cost_base: Option<Amount>,
    /// Why cost in base is null.
    cost_base_missing: Option<String>,
    /// Market value less cost, in base currency.
    #[schema(value_type = Option<Decimal>)]
    unrealized_gain_base: Option<Amount>,
    /// Share of the gross market value.
    #[schema(value_type = Option<Decimal>)]
    weight: Option<Rate>,
}

/// Cash in one currency, valued.
#[derive(Serialize, ToSchema)]
pub(crate) struct ValuedCash {
    /// The currency.
    #[schema(example = "USD")]
    currency: String,
    /// How much.
    #[schema(value_type = Decimal)]
    balance: Amount,
    /// Why it has no value in base: `no_rate` or `too_large`.
    unpriced: Option<String>,
    /// Units of base for one unit of the currency.
    #[schema(value_type = Option<Decimal>)]
    rate: Option<Rate>,
    /// How the rate was found.
    rate_path: Option<String>,
    /// How much in base currency.
    #[schema(value_type = Option<Decimal>)]
    balance_base: Option<Amount>,
}

/// What has no value, and why.
#[derive(Serialize, ToSchema)]
pub(crate) struct Unpriced {
    /// The asset; absent for cash.
    #[serde(skip_serializing_if = "Option::is_none")]
    asset_id: Option<Uuid>,
    /// The currency of the asset or of the cash.
    #[schema(example = "USD")]
    currency: String,
    /// `no_price`, `no_rate` or `too_large`.
    #[schema(example = "no_price")]
    reason: String,
}

impl From<queries::Valuation> for Valuation {
    fn from(found: queries::Valuation) -> Self {
        let holdings = found.holdings.iter().filter_map(|row| {
            let reason = row.unpriced.clone()?;
            Some(Unpriced { asset_id: Some(row.asset_id), currency: row.currency.clone(), reason })
        });
        let cash = found.cash.iter().filter_map(|row| {
            let reason = row.unpriced.clone()?;
            Some(Unpriced { asset_id: None, currency: row.currency.clone(), reason })
        });
        let unpriced = holdings.chain(cash).collect();
        let total = found.total;
        Self {
            portfolio_id: total.portfolio_id,
            base_currency: total.base_currency,
            portfolio_position: total.portfolio_position,
            price_position: total.price_position,
            totals: Totals {
                market_value_base: Amount::from_decimal(total.market_value_base),
                cash_base: Amount::from_decimal(total.cash_base),
                total_value_base: Amount::from_decimal(total.total_value_base),
                cost_base: Amount::from_decimal(total.cost_base),
                unrealized_gain_base: Amount::from_decimal(total.unrealized_gain_base),
                gross_value_base: Amount::from_decimal(total.gross_value_base),
                incomplete: total.incomplete,
                cost_incomplete: total.cost_incomplete,
            },
            holdings: found.holdings.into_iter().map(ValuedHolding::from).collect(),
            cash: found.cash.into_iter().map(ValuedCash::from).collect(),
            unpriced,
        }
    }
}

impl From<ValuedHoldingRow> for ValuedHolding {
    fn from(row: ValuedHoldingRow) -> Self {
        let amount = |value: Option<_>| value.map(Amount::from_decimal);
        Self {
            asset_id: row.asset_id,
            symbol: row.symbol,
            currency: row.currency,
            quantity: Quantity::from_decimal(row.quantity),
            unpriced: row.unpriced,
            price: row.price.map(Price::from_decimal),
            priced_at: row.priced_at,
            price_source: row.price_source,
            price_kind: row.price_kind,
            market_value: amount(row.market_value),
            cost: Amount::from_decimal(row.cost),
            unrealized_gain: amount(row.unrealized_gain),
            rate: row.rate.map(Rate::from_decimal),
            rate_path: row.rate_path,
            market_value_base: amount(row.market_value_base),
            cost_base: amount(row.cost_base),
            cost_base_missing: row.cost_base_missing,
            unrealized_gain_base: amount(row.unrealized_gain_base),
            weight: row.weight.map(Rate::from_decimal),
        }
    }
}

impl From<ValuedCashRow> for ValuedCash {
    fn from(row: ValuedCashRow) -> Self {
        Self {
            currency: row.currency,
            balance: Amount::from_decimal(row.balance),
            unpriced: row.unpriced,
            rate: row.rate.map(Rate::from_decimal),
            rate_path: row.rate_path,
            balance_base: row.balance_base.map(Amount::from_decimal),
        }
    }
}

/// Find what a portfolio is worth
///
/// At live prices, per holding and in total, in each asset's currency and in base. A missing price or rate makes a holding
/// `unpriced` with the reason, and the totals `incomplete`.
#[utoipa::path(get, path = "/v1/portfolios/{id}/valuation", tag = "portfolios", operation_id = "findValuation",
    params(("id" = Uuid, Path, description = "The portfolio"), One, ReadHeaders),
    responses((status = 200, description = "What it is worth", body = Answered<Valuation>), FindProblems))]
pub(crate) async fn find(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<PortfolioId>,
    Query(one): Query<One>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    api.wait_for(&one.read()?, &["valuations"], Some(id)).await?;
    let found = queries::find_valuation(&api.pool, id).await.map_err(failed)?;
    let answer = found.ok_or_else(|| Problem::not_found("portfolio, or it was not valued yet"))?;
    Ok(send(&request, answer, Valuation::from))
}
