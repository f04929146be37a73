//! Portfolios as `holdings` has them.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Portfolio, PortfolioHolding, PortfolioLot};
use crate::domain::ids::{AssetId, PortfolioId, Position, Shard};
use crate::domain::money::{Amount, Quantity, Rate};
use crate::projectors::{column, stored};

/// The portfolios of these ids, and all of these shards.
pub(super) async fn load(
    conn: &mut PgConnection,
    ids: &[PortfolioId],
    shards: &[Shard],
) -> Result<Vec<Portfolio>, sqlx::Error> {
    let rows = sqlx::query_file!(
        "projections/valuations/load_book.sql",
        &column(ids, |id| id.0),
        &column(shards, |shard| shard.0)
    )
    .fetch_all(conn)
    .await?;
    let mut portfolios = Vec::with_capacity(rows.len());
    for row in rows {
        let mut lots: HashMap<Uuid, Vec<PortfolioLot>> = HashMap::new();
        let opened = row.lot_days.into_iter().zip(row.lot_costs).zip(row.lot_rates);
        for (asset_id, ((opened, cost), fx_rate)) in row.lot_asset_ids.into_iter().zip(opened) {
            lots.entry(asset_id).or_default().push(PortfolioLot {
                opened,
                cost: Amount::from_decimal(cost),
                fx_rate: fx_rate.map(Rate::from_decimal),
            });
        }
        let mut holdings = Vec::with_capacity(row.asset_ids.len());
        let held = row.currencies.iter().zip(row.quantities).zip(row.costs);
        for (asset_id, ((currency, quantity), cost)) in row.asset_ids.into_iter().zip(held) {
            holdings.push(PortfolioHolding {
                asset_id: AssetId(asset_id),
                currency: stored::from_text(currency)?,
                quantity: Quantity::from_decimal(quantity),
                cost: Amount::from_decimal(cost),
                foreign_lots: lots.remove(&asset_id).unwrap_or_default(),
            });
        }
        let mut cash = Vec::with_capacity(row.cash_currencies.len());
        for (currency, balance) in row.cash_currencies.iter().zip(row.cash_balances) {
            cash.push((stored::from_text(currency)?, Amount::from_decimal(balance)));
        }
        portfolios.push(Portfolio {
            portfolio_id: PortfolioId(row.portfolio_id),
            shard: Shard(row.shard),
            base_currency: stored::from_text(&row.base_currency)?,
            position: Position(row.position),
            holdings,
            cash,
        });
    }
    Ok(portfolios)
}

/// How far `holdings` has been scanned in these shards.
pub(super) async fn places(
    conn: &mut PgConnection,
    shards: &[Shard],
) -> Result<HashMap<Shard, Position>, sqlx::Error> {
    let shards = column(shards, |shard| shard.0);
    let rows =
        sqlx::query_file!("projections/valuations/load_holdings_places.sql", &shards).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| (Shard(row.shard), Position(row.scanned_to))).collect())
}
