//! The rows of `valuations`, written for many portfolios at once. Rows that would not change are left alone.

use sqlx::PgConnection;

use super::value::{CashValue, HoldingValue, Unpriced, Valuation};
use crate::domain::ids::PortfolioId;
use crate::domain::money::Amount;
use crate::projectors::book::Portfolio;
use crate::projectors::column;

/// Portfolios with their values.
pub(super) type Valued<'a> = [(&'a Portfolio, Valuation)];

/// Writes what these portfolios are worth, and drops what they do not hold any more.
pub(super) async fn write(conn: &mut PgConnection, valued: &Valued<'_>) -> Result<(), sqlx::Error> {
    if valued.is_empty() {
        return Ok(());
    }
    upsert_portfolios(conn, valued).await?;
    let holdings: Vec<(&Portfolio, &HoldingValue)> =
        valued.iter().flat_map(|(of, value)| value.holdings.iter().map(|it| (*of, it))).collect();
    let cash: Vec<(&Portfolio, &CashValue)> =
        valued.iter().flat_map(|(of, value)| value.cash.iter().map(|it| (*of, it))).collect();
    upsert_holdings(conn, &holdings).await?;
    upsert_cash(conn, &cash).await?;
    delete_gone(conn, &column(valued, |(of, _)| of.portfolio_id), &holdings, &cash).await
}

async fn upsert_portfolios(conn: &mut PgConnection, rows: &Valued<'_>) -> Result<(), sqlx::Error> {
    sqlx::query_file!(
        "projections/valuations/upsert_portfolios.sql",
        &column(rows, |(of, _)| of.portfolio_id.0),
        &column(rows, |(of, _)| of.shard.0),
        &column(rows, |(of, _)| of.base_currency.to_string()),
        &column(rows, |(_, it)| it.market_value_base.decimal()),
        &column(rows, |(_, it)| it.cash_base.decimal()),
        &column(rows, |(_, it)| it.market_value_base.saturating_add(it.cash_base).decimal()),
        &column(rows, |(_, it)| it.cost_base.decimal()),
        &column(rows, |(_, it)| it.unrealized_gain_base.decimal()),
        &column(rows, |(_, it)| it.gross_value_base.decimal()),
        &column(rows, |(_, it)| it.unpriced > 0),
        &column(rows, |(_, it)| it.cost_incomplete),
        &column(rows, |(_, it)| it.unpriced),
        &column(rows, |(_, it)| i32::try_from(it.holdings.len()).unwrap_or(i32::MAX)),
        &column(rows, |(of, _)| of.position.0),
        &column(rows, |(_, it)| it.price_position.0),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn upsert_holdings(
    conn: &mut PgConnection,
    rows: &[(&Portfolio, &HoldingValue)],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query_file!(
        "projections/valuations/upsert_holdings.sql",
        &column(rows, |(of, _)| of.portfolio_id.0),
        &column(rows, |(_, it)| it.asset_id.0),
        &column(rows, |(_, it)| it.currency.as_str()) as _,
        &column(rows, |(_, it)| it.quantity.decimal()),
        &column(rows, |(_, it)| it.unpriced.map(Unpriced::as_str)) as _,
        &column(rows, |(_, it)| it.price.as_ref().map(|live| live.price.decimal())) as _,
        &column(rows, |(_, it)| it.price.as_ref().map(|live| live.at)) as _,
        &column(rows, |(_, it)| it.price.as_ref().map(|live| live.source.to_string())) as _,
        &column(rows, |(_, it)| it.price.as_ref().map(|live| live.kind.as_str())) as _,
        &column(rows, |(_, it)| it.market_value.map(Amount::decimal)) as _,
        &column(rows, |(_, it)| it.cost.decimal()),
        &column(rows, |(_, it)| it.unrealized_gain.map(Amount::decimal)) as _,
        &column(rows, |(_, it)| it.rate.map(|used| used.rate.decimal())) as _,
        &column(rows, |(_, it)| it.rate.map(|used| used.path)) as _,
        &column(rows, |(_, it)| it.market_value_base.map(Amount::decimal)) as _,
        &column(rows, |(_, it)| it.cost_base.map(Amount::decimal)) as _,
        &column(rows, |(_, it)| it.cost_base.is_none().then_some("no_rate_at_purchase")) as _,
        &column(rows, |(_, it)| it.unrealized_gain_base.map(Amount::decimal)) as _,
        &column(rows, |(_, it)| it.weight) as _,
        &column(rows, |(of, _)| of.position.0),
        &column(rows, |(_, it)| it.price_position.0),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn upsert_cash(conn: &mut PgConnection, rows: &[(&Portfolio, &CashValue)]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query_file!(
        "projections/valuations/upsert_cash.sql",
        &column(rows, |(of, _)| of.portfolio_id.0),
        &column(rows, |(_, it)| it.currency.as_str()) as _,
        &column(rows, |(_, it)| it.balance.decimal()),
        &column(rows, |(_, it)| it.unpriced.map(Unpriced::as_str)) as _,
        &column(rows, |(_, it)| it.rate.map(|used| used.rate.decimal())) as _,
        &column(rows, |(_, it)| it.rate.map(|used| used.path)) as _,
        &column(rows, |(_, it)| it.balance_base.map(Amount::decimal)) as _,
        &column(rows, |(of, _)| of.position.0),
        &column(rows, |(_, it)| it.price_position.0),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn delete_gone(
    conn: &mut PgConnection,
    ids: &[PortfolioId],
    holdings: &[(&Portfolio, &HoldingValue)],
    cash: &[(&Portfolio, &CashValue)],
) -> Result<(), sqlx::Error> {
    let ids = column(ids, |id| id.0);
    sqlx::query_file!(
        "projections/valuations/delete_holdings.sql",
        &ids,
        &column(holdings, |(of, _)| of.portfolio_id.0),
        &column(holdings, |(_, it)| it.asset_id.0),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query_file!(
        "projections/valuations/delete_cash.sql",
        &ids,
        &column(cash, |(of, _)| of.portfolio_id.0),
        &column(cash, |(_, it)| it.currency.as_str()) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}
