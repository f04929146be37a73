//! What a portfolio holds: the hottest read, in one round trip.

use std::collections::HashMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Answer, AsOf, Error};
use crate::domain::ids::{Epoch, PortfolioId, Position};

/// All that a portfolio holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdings {
    /// The currency it reports in.
    pub base_currency: String,
    /// `fifo`, `lifo`, `hifo`, `average`.
    pub cost_basis: String,
    /// Whether fees and taxes of a buy are part of its cost.
    pub fees_in_cost: bool,
    /// `tracked` or `untracked`.
    pub cash_mode: String,
    /// Of the portfolio's stream.
    pub version: i64,
    /// Of the last event of that stream: what an ETag is made of.
    pub position: i64,
    /// Per asset ever traded, by asset id; one that was closed has no lots.
    pub holdings: Vec<HoldingRow>,
    /// Tracked cash.
    pub cash: Vec<CashRow>,
}

/// What is held of one asset; amounts in the asset's currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldingRow {
    /// The asset.
    pub asset_id: Uuid,
    /// Its symbol today; none until the directory knows it.
    pub symbol: Option<String>,
    /// Its currency.
    pub currency: String,
    /// Units held; negative when short.
    pub quantity: Decimal,
    /// Their cost.
    pub cost: Decimal,
    /// Gains less losses of everything closed so far.
    pub realized_gain: Decimal,
    /// Fees booked apart.
    pub fees: Decimal,
    /// Taxes booked apart.
    pub taxes: Decimal,
    /// The lots, in the order in which they were opened.
    pub lots: Vec<LotRow>,
}

/// Units that were opened together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LotRow {
    /// Of the fact that opened it.
    pub position: i64,
    /// Its trade date.
    pub opened_on: NaiveDate,
    /// Units left; negative when short.
    pub quantity: Decimal,
    /// Their cost.
    pub cost: Decimal,
    /// Units of base for one of the asset's currency, if the client stated it.
    pub fx_rate: Option<Decimal>,
}

/// Tracked cash of one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CashRow {
    /// The currency.
    pub currency: String,
    /// How much.
    pub balance: Decimal,
}

/// The position of a portfolio's last event in the rows, of which [`Holdings`] are a function; none if there is no such
/// portfolio.
///
/// # Errors
/// The database.
pub async fn find_holdings_place(pool: &PgPool, id: PortfolioId) -> Result<Option<Answer<i64>>, Error> {
    let found =
        sqlx::query_file!("projections/holdings/find_holdings_place.sql", id.0).fetch_optional(pool).await?;
    Ok(found.map(|row| Answer {
        as_of: AsOf {
            epoch: Epoch(row.epoch),
            position: Position(row.scanned_to),
            recorded_at: row.recorded_at,
            changed_at: None,
        },
        parked: row.parked,
        data: row.position,
    }))
}

/// What a portfolio holds; none if there is no such portfolio.
///
/// # Errors
/// The database.
pub async fn find_holdings(pool: &PgPool, id: PortfolioId) -> Result<Option<Answer<Holdings>>, Error> {
    let found =
        sqlx::query_file!("projections/holdings/find_holdings.sql", id.0).fetch_optional(pool).await?;
    let Some(row) = found else { return Ok(None) };

    let mut lots: HashMap<Uuid, Vec<LotRow>> = HashMap::new();
    let mut opened = row.lot_positions.into_iter().zip(row.lot_days).zip(row.lot_quantities);
    let mut costs = row.lot_costs.into_iter().zip(row.lot_rates);
    for asset_id in row.lot_asset_ids {
        let (Some(((position, opened_on), quantity)), Some((cost, fx_rate))) = (opened.next(), costs.next())
        else {
            break;
        };
        let lot = LotRow { position, opened_on, quantity, cost, fx_rate };
        lots.entry(asset_id).or_default().push(lot);
    }
    let mut holdings = Vec::with_capacity(row.asset_ids.len());
    let mut names = row.symbols.into_iter().zip(row.currencies);
    let mut units = row.quantities.into_iter().zip(row.costs);
    let mut results = row.gains.into_iter().zip(row.fees).zip(row.taxes);
    for asset_id in row.asset_ids {
        let (Some((symbol, currency)), Some((quantity, cost)), Some(((realized_gain, fees), taxes))) =
            (names.next(), units.next(), results.next())
        else {
            break;
        };
        let mut lots = lots.remove(&asset_id).unwrap_or_default();
        lots.sort_by_key(|lot| (lot.opened_on, lot.position));
        holdings.push(HoldingRow {
            asset_id,
            symbol,
            currency,
            quantity,
            cost,
            realized_gain,
            fees,
            taxes,
            lots,
        });
    }
    // The order of aggregation is the planner's.
    holdings.sort_by_key(|holding| holding.asset_id);
    let balances = row.cash_currencies.into_iter().zip(row.cash_balances);
    let mut cash: Vec<CashRow> = balances.map(|(currency, balance)| CashRow { currency, balance }).collect();
    cash.sort_by(|a, b| a.currency.cmp(&b.currency));

    let as_of = AsOf {
        epoch: Epoch(row.epoch),
        position: Position(row.scanned_to),
        recorded_at: row.recorded_at,
        changed_at: None,
    };
    let data = Holdings {
        base_currency: row.base_currency,
        cost_basis: row.cost_basis,
        fees_in_cost: row.fees_in_cost,
        cash_mode: row.cash_mode,
        version: row.version,
        position: row.position,
        holdings,
        cash,
    };
    Ok(Some(Answer { as_of, parked: row.parked, data }))
}
