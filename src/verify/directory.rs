//! Who and what there is, compared.

use sqlx::PgConnection;

use super::reference::Reference;
use super::report::Report;
use super::rows::{Cell, Row, compare};

pub(super) async fn check(
    conn: &mut PgConnection,
    reference: &Reference,
    report: &mut Report,
) -> Result<u64, sqlx::Error> {
    let mut rows = compare(conn, "directory.investors", 1, investors(reference), report).await?;
    rows += compare(conn, "directory.portfolios", 1, portfolios(reference), report).await?;
    rows += compare(conn, "directory.assets", 1, assets(reference), report).await?;
    rows += compare(conn, "directory.symbols", 1, symbols(reference), report).await?;
    Ok(rows)
}

fn investors(reference: &Reference) -> Vec<Row> {
    let row = |(id, investor): (&String, &super::reference::Investor)| {
        vec![
            ("investor_id", id.into()),
            ("risk_tolerance", investor.risk_tolerance.as_ref().into()),
            ("experience_level", investor.experience_level.as_ref().into()),
            ("registered_at", investor.registered_at.into()),
            ("version", investor.version.into()),
            ("position", investor.position.into()),
        ]
    };
    reference.investors.iter().map(row).collect()
}

fn portfolios(reference: &Reference) -> Vec<Row> {
    let row = |(id, portfolio): (&String, &super::reference::Portfolio)| {
        let settings = portfolio.settings();
        vec![
            ("portfolio_id", id.into()),
            ("investor_id", (&settings.investor_id).into()),
            ("name", (&settings.name).into()),
            ("base_currency", (&settings.base_currency).into()),
            ("time_zone", (&settings.time_zone).into()),
            ("cost_basis", (&settings.cost_basis).into()),
            ("fees_in_cost", settings.fees_in_cost.into()),
            ("cash", (&settings.cash).into()),
            ("allow_short", settings.allow_short.into()),
            ("opened_at", portfolio.opened_at.into()),
            ("version", portfolio.version.into()),
            ("position", portfolio.position.into()),
        ]
    };
    reference.portfolios.iter().map(row).collect()
}

fn assets(reference: &Reference) -> Vec<Row> {
    let row = |(id, asset): (&String, &super::market::Asset)| {
        vec![
            ("asset_id", id.into()),
            ("symbol", (&asset.symbol).into()),
            ("name", (&asset.name).into()),
            ("class", (&asset.class).into()),
            ("currency", (&asset.currency).into()),
            ("quote_unit", asset.quote_unit.into()),
            ("isin", asset.isin.as_ref().into()),
            ("exchange", asset.exchange.as_ref().into()),
            ("listed_at", asset.listed_at.into()),
            ("delisted_on", asset.delisted_on.as_ref().into()),
            ("final_price", asset.final_price.into()),
            ("version", asset.version.into()),
            ("position", asset.position.into()),
        ]
    };
    reference.market.assets.iter().map(row).collect()
}

fn symbols(reference: &Reference) -> Vec<Row> {
    let row = |(symbol, (asset_id, position)): (&String, &(String, i64))| {
        vec![("symbol", Cell::from(symbol)), ("asset_id", asset_id.into()), ("position", (*position).into())]
    };
    reference.market.symbols.iter().map(row).collect()
}
