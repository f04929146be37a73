//! What is held, lot by lot, in each asset's currency.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use chrono::NaiveDate;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::answer::Rendered;
use super::{Answered, One, failed};
use crate::api::Api;
use crate::api::openapi::FindProblems;
use crate::api::parameters::ReadHeaders;
use crate::api::path::InPath;
use crate::api::problem::Problem;
use crate::api::query::Query;
use crate::api::schema::{self, Decimal};
use crate::domain::exact;
use crate::domain::ids::PortfolioId;
use crate::domain::money::{Amount, Price, Quantity, Rate};
use crate::queries::Answer;
use crate::queries::holdings::{self as queries, CashRow, HoldingRow, LotRow};

/// What a portfolio holds.
#[derive(Serialize, ToSchema)]
pub(crate) struct Holdings {
    /// The currency the portfolio reports in.
    #[schema(example = "USD")]
    base_currency: String,
    /// Which lots a sale takes.
    #[schema(value_type = schema::CostBasis)]
    cost_basis: String,
    /// Whether fees and taxes of a buy are part of its cost.
    fees_in_cost: bool,
    /// The version of the portfolio's stream that this is of.
    version: i64,
    /// Per asset that is or was held.
    holdings: Vec<Holding>,
    /// Per currency; empty where no cash is tracked.
    cash: Vec<Cash>,
}

/// An asset that is or was held.
#[derive(Serialize, ToSchema)]
pub(crate) struct Holding {
    /// The asset.
    asset_id: Uuid,
    /// Its symbol today; null until it is known.
    #[schema(example = "AAPL")]
    symbol: Option<String>,
    /// The currency of the amounts.
    #[schema(example = "USD")]
    currency: String,
    /// Units; negative where short.
    #[schema(value_type = Decimal)]
    quantity: Quantity,
    /// Cost of one unit; null where nothing is held.
    #[schema(value_type = Option<Decimal>)]
    average_cost: Option<Price>,
    /// Cost of what is held; negative where short: minus the proceeds.
    #[schema(value_type = Decimal)]
    cost: Amount,
    /// Gained or lost with what was sold.
    #[schema(value_type = Decimal)]
    realized_gain: Amount,
    /// Fees that are booked apart.
    #[schema(value_type = Decimal)]
    fees: Amount,
    /// Taxes that are booked apart.
    #[schema(value_type = Decimal)]
    taxes: Amount,
    /// What the holding is made of, oldest first.
    lots: Vec<Lot>,
}

/// Units that were bought together.
#[derive(Serialize, ToSchema)]
pub(crate) struct Lot {
    /// The day they were bought.
    opened_on: NaiveDate,
    /// What is left of them.
    #[schema(value_type = Decimal)]
    quantity: Quantity,
    /// The cost of what is left.
    #[schema(value_type = Decimal)]
    cost: Amount,
    /// Units of base for one unit of the currency, if the trade stated it.
    #[schema(value_type = Option<Decimal>)]
    fx_rate: Option<Rate>,
}

/// Cash in one currency.
#[derive(Serialize, ToSchema)]
pub(crate) struct Cash {
    /// The currency.
    #[schema(example = "USD")]
    currency: String,
    /// How much.
    #[schema(value_type = Decimal)]
    balance: Amount,
}

impl From<queries::Holdings> for Holdings {
    fn from(found: queries::Holdings) -> Self {
        let cash = |row: CashRow| Cash { currency: row.currency, balance: Amount::from_decimal(row.balance) };
        Self {
            base_currency: found.base_currency,
            cost_basis: found.cost_basis,
            fees_in_cost: found.fees_in_cost,
            version: found.version,
            holdings: found.holdings.into_iter().map(Holding::from).collect(),
            cash: found.cash.into_iter().map(cash).collect(),
        }
    }
}

impl From<HoldingRow> for Holding {
    fn from(row: HoldingRow) -> Self {
        let lot = |lot: LotRow| Lot {
            opened_on: lot.opened_on,
            quantity: Quantity::from_decimal(lot.quantity),
            cost: Amount::from_decimal(lot.cost),
            fx_rate: lot.fx_rate.map(Rate::from_decimal),
        };
        Self {
            asset_id: row.asset_id,
            symbol: row.symbol,
            currency: row.currency,
            quantity: Quantity::from_decimal(row.quantity),
            average_cost: exact::quotient(row.cost, row.quantity).map(Price::from_decimal),
            cost: Amount::from_decimal(row.cost),
            realized_gain: Amount::from_decimal(row.realized_gain),
            fees: Amount::from_decimal(row.fees),
            taxes: Amount::from_decimal(row.taxes),
            lots: row.lots.into_iter().map(lot).collect(),
        }
    }
}

/// Find what a portfolio holds
///
/// Quantities, cost and lots per asset, in the asset's currency, and cash.
#[utoipa::path(get, path = "/v1/portfolios/{id}/holdings", tag = "portfolios", operation_id = "findHoldings",
    params(("id" = Uuid, Path, description = "The portfolio"), One, ReadHeaders),
    responses((status = 200, description = "What is held", body = Answered<Holdings>), FindProblems))]
pub(crate) async fn find(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<PortfolioId>,
    Query(one): Query<One>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    api.wait_for(&one.read()?, &["holdings"], Some(id)).await?;
    let place = queries::find_holdings_place(&api.pool, id).await.map_err(failed)?;
    let place = place.ok_or_else(|| Problem::not_found("portfolio"))?;
    if let Some(body) = api.holdings.get(id, place.data) {
        return Ok(body.send(&request, place.as_of, place.parked));
    }
    let found = queries::find_holdings(&api.pool, id).await.map_err(failed)?;
    let Answer { as_of, parked, data } = found.ok_or_else(|| Problem::not_found("portfolio"))?;
    // A symbol that the directory does not know yet comes later, without any event of the portfolio.
    let (position, is_whole) = (data.position, data.holdings.iter().all(|holding| holding.symbol.is_some()));
    let body = Arc::new(Rendered::of(&Holdings::from(data)));
    if is_whole {
        api.holdings.put(id, position, Arc::clone(&body));
    }
    Ok(body.send(&request, as_of, parked))
}
