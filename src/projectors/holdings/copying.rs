//! Rows of `holdings` by COPY, table by table: of a rebuild, every portfolio from its first fact on; of a live flush, what is
//! new, where it is much.

use sqlx::PgConnection;

use super::Portfolio;
use super::rows::HoldingKey;
use crate::domain::ids::PortfolioId;
use crate::domain::money::{Price, Rate};
use crate::domain::portfolio::entry::Entry;
use crate::domain::portfolio::ledger::Holding;
use crate::domain::portfolio::lots::Lot;
use crate::projectors::copy::{Table, Written};
use crate::projectors::stored;

/// Writes all rows of these portfolios, none of which has any.
pub(super) async fn copy(
    conn: &mut PgConnection,
    portfolios: &[(PortfolioId, Portfolio)],
) -> Result<Vec<Written>, sqlx::Error> {
    Ok(vec![
        ledgers(conn, portfolios).await?,
        entries(conn, portfolios.iter().flat_map(entries_of)).await?,
        holdings(conn, portfolios).await?,
        lots(conn, portfolios.iter().flat_map(lots_of)).await?,
        cash(conn, portfolios).await?,
    ])
}

async fn ledgers(
    conn: &mut PgConnection,
    portfolios: &[(PortfolioId, Portfolio)],
) -> Result<Written, sqlx::Error> {
    const COLUMNS: &str = "portfolio_id, shard, base_currency, cost_basis, fees_in_cost, cash, allow_short, \
        last_trade_date, last_entry, version, position";
    let mut table = Table::open(conn, "ledgers", COLUMNS).await?;
    for (id, row) in portfolios {
        let last = row.ledger.last();
        table
            .push(&[
                &id.0,
                &row.shard.0,
                &row.base_currency.as_str(),
                &stored::name(&row.accounting.cost_basis),
                &row.accounting.fees_in_cost,
                &stored::name(&row.cash_mode),
                &row.allow_short,
                &last.map(|(day, _)| day),
                &last.map(|(_, position)| position.0),
                &row.version,
                &row.position,
            ])
            .await?;
    }
    table.finish().await
}

fn entries_of((id, portfolio): &(PortfolioId, Portfolio)) -> impl Iterator<Item = (PortfolioId, &Entry)> {
    portfolio.entries.iter().flatten().map(|entry| (*id, entry))
}

fn lots_of((id, portfolio): &(PortfolioId, Portfolio)) -> impl Iterator<Item = (HoldingKey, &Lot)> {
    let of = |holding: &Holding| (id.0, holding.asset_id.0);
    portfolio.ledger.holdings().flat_map(move |it| it.lots.iter().map(move |lot| (of(it), lot)))
}

/// Facts that no row has yet.
pub(super) async fn entries<'a>(
    conn: &mut PgConnection,
    entries: impl Iterator<Item = (PortfolioId, &'a Entry)>,
) -> Result<Written, sqlx::Error> {
    const COLUMNS: &str = "portfolio_id, position, trade_date, kind, asset_id, quantity, price, currency, amount, \
        fee, tax, fx_rate, cash_currency, cash_amount";
    let mut table = Table::open(conn, "entries", COLUMNS).await?;
    for (id, row) in entries {
        table
            .push(&[
                &id.0,
                &row.position.0,
                &row.trade_date,
                &row.kind.as_str(),
                &row.asset_id.map(|id| id.0),
                &row.quantity.decimal(),
                &row.price.map(Price::decimal),
                &row.currency.as_str(),
                &row.amount.decimal(),
                &row.fee.decimal(),
                &row.tax.decimal(),
                &row.fx_rate.map(Rate::decimal),
                &row.cash.as_ref().map(|cash| cash.currency.as_str()),
                &row.cash.as_ref().map(|cash| cash.amount.decimal()),
            ])
            .await?;
    }
    table.finish().await
}

async fn holdings(
    conn: &mut PgConnection,
    portfolios: &[(PortfolioId, Portfolio)],
) -> Result<Written, sqlx::Error> {
    const COLUMNS: &str = "portfolio_id, asset_id, currency, quantity, cost, realized_gain, fees, taxes";
    let mut table = Table::open(conn, "holdings", COLUMNS).await?;
    for (id, portfolio) in portfolios {
        for row in portfolio.ledger.holdings() {
            table
                .push(&[
                    &id.0,
                    &row.asset_id.0,
                    &row.currency.as_str(),
                    &row.quantity.decimal(),
                    &row.cost.decimal(),
                    &row.realized_gain.decimal(),
                    &row.fees.decimal(),
                    &row.taxes.decimal(),
                ])
                .await?;
        }
    }
    table.finish().await
}

/// Lots that no row has yet.
pub(super) async fn lots<'a>(
    conn: &mut PgConnection,
    lots: impl Iterator<Item = (HoldingKey, &'a Lot)>,
) -> Result<Written, sqlx::Error> {
    const COLUMNS: &str = "portfolio_id, asset_id, position, opened_on, quantity, cost, fx_rate";
    let mut table = Table::open(conn, "lots", COLUMNS).await?;
    for ((portfolio_id, asset_id), row) in lots {
        table
            .push(&[
                &portfolio_id,
                &asset_id,
                &row.position.0,
                &row.opened,
                &row.quantity.decimal(),
                &row.cost.decimal(),
                &row.fx_rate.map(Rate::decimal),
            ])
            .await?;
    }
    table.finish().await
}

async fn cash(
    conn: &mut PgConnection,
    portfolios: &[(PortfolioId, Portfolio)],
) -> Result<Written, sqlx::Error> {
    let mut table = Table::open(conn, "cash", "portfolio_id, currency, balance").await?;
    for (id, portfolio) in portfolios {
        for (currency, balance) in portfolio.ledger.cash() {
            table.push(&[&id.0, &currency.as_str(), &balance.decimal()]).await?;
        }
    }
    table.finish().await
}
