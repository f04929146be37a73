//! The rows of `directory` as a rebuild writes them: every stream from its first fact on.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::{Earnings, ListedAsset, Row};
use crate::domain::ids::{AssetId, PortfolioId};
use crate::domain::investor::InvestorRegistered;
use crate::domain::money::Amount;
use crate::domain::portfolio::event::PortfolioOpened;
use crate::projectors::copy::{Table, Written};
use crate::projectors::stored;

pub(super) async fn investors(
    conn: &mut PgConnection,
    rows: &[Row<InvestorRegistered>],
) -> Result<Written, sqlx::Error> {
    const COLUMNS: &str = "investor_id, risk_tolerance, experience_level, registered_at, version, position";
    let mut table = Table::open(conn, "investors", COLUMNS).await?;
    for row in rows {
        table
            .push(&[
                &row.says.investor_id.0,
                &row.says.risk_tolerance.as_ref().map(stored::name),
                &row.says.experience_level.as_ref().map(stored::name),
                &row.recorded_at,
                &row.version,
                &row.position,
            ])
            .await?;
    }
    table.finish().await
}

pub(super) async fn portfolios(
    conn: &mut PgConnection,
    rows: &BTreeMap<PortfolioId, Row<PortfolioOpened>>,
) -> Result<Written, sqlx::Error> {
    const COLUMNS: &str = "portfolio_id, investor_id, name, base_currency, time_zone, cost_basis, fees_in_cost, cash, \
        allow_short, opened_at, version, position";
    let mut table = Table::open(conn, "portfolios", COLUMNS).await?;
    for row in rows.values() {
        table
            .push(&[
                &row.says.portfolio_id.0,
                &row.says.investor_id.0,
                &row.says.name,
                &row.says.base_currency.as_str(),
                &row.says.time_zone,
                &stored::name(&row.says.cost_basis),
                &row.says.fees_in_cost,
                &stored::name(&row.says.cash),
                &row.says.allow_short,
                &row.recorded_at,
                &row.version,
                &row.position,
            ])
            .await?;
    }
    table.finish().await
}

pub(super) async fn assets(
    conn: &mut PgConnection,
    rows: &BTreeMap<AssetId, Row<ListedAsset>>,
) -> Result<Written, sqlx::Error> {
    const COLUMNS: &str = "asset_id, symbol, name, class, currency, quote_unit, isin, exchange, listed_at, \
        delisted_on, final_price, version, position";
    let mut table = Table::open(conn, "assets", COLUMNS).await?;
    for row in rows.values() {
        let listed = &row.says.listed;
        table
            .push(&[
                &listed.asset_id.0,
                &row.symbol(),
                &listed.name,
                &stored::name(&listed.class),
                &listed.currency.as_str(),
                &listed.quote_unit.decimal(),
                &listed.isin,
                &listed.exchange,
                &row.recorded_at,
                &row.says.change.delisted_on,
                &row.says.change.final_price,
                &row.version,
                &row.position,
            ])
            .await?;
    }
    table.finish().await
}

pub(super) async fn symbols(
    conn: &mut PgConnection,
    rows: &[(String, AssetId, i64)],
) -> Result<Written, sqlx::Error> {
    let mut table = Table::open(conn, "symbols", "symbol, asset_id, position").await?;
    for (symbol, asset_id, position) in rows {
        table.push(&[symbol, &asset_id.0, position]).await?;
    }
    table.finish().await
}

pub(super) async fn earnings(conn: &mut PgConnection, rows: &Earnings) -> Result<Written, sqlx::Error> {
    const COLUMNS: &str = "asset_id, quarter, earnings_per_share, estimate, revenue, currency, reported_on, recorded_at, position";
    let mut table = Table::open(conn, "earnings", COLUMNS).await?;
    for row in rows.values() {
        table
            .push(&[
                &row.says.asset_id.0,
                &row.says.quarter.to_string(),
                &row.says.earnings_per_share.decimal(),
                &row.says.estimate.map(Amount::decimal),
                &row.says.revenue.map(Amount::decimal),
                &row.says.currency.as_str(),
                &row.says.reported_on,
                &row.recorded_at,
                &row.position,
            ])
            .await?;
    }
    table.finish().await
}
