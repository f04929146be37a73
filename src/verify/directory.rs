//! Who and what there is, compared.

use super::earnings::Earnings;
use super::market::Asset;
use super::reference::{Investor, Portfolio, Reference};
use super::rows::{Cell, Row, Rows, Scope, Table};

const INVESTORS: Table = Table { name: "directory.investors", keys: &["investor_id"] };
const PORTFOLIOS: Table = Table { name: "directory.portfolios", keys: &["portfolio_id"] };
const ASSETS: Table = Table { name: "directory.assets", keys: &["asset_id"] };
const SYMBOLS: Table = Table { name: "directory.symbols", keys: &["symbol"] };
const EARNINGS: Table = Table { name: "directory.earnings", keys: &["asset_id", "quarter"] };
pub(super) const TABLES: [&Table; 1] = [&PORTFOLIOS];

/// Compares all but portfolios.
pub(super) async fn check(rows: &mut Rows<'_>, reference: &Reference) -> Result<(), sqlx::Error> {
    let investors = reference.investors.iter().map(|(id, it)| (id.clone(), vec![investor_row(id, it)]));
    rows.compare(&INVESTORS, &Scope::All, investors).await?;
    let market = &reference.market;
    let assets = market.assets.iter().map(|(id, it)| (id.clone(), vec![asset_row(id, it)]));
    rows.compare(&ASSETS, &Scope::All, assets).await?;
    let symbols = market.symbols.iter().map(|(symbol, it)| (symbol.clone(), vec![symbol_row(symbol, it)]));
    rows.compare(&SYMBOLS, &Scope::All, symbols).await?;
    let earnings = market.assets.iter().map(|(id, asset)| {
        (id.clone(), asset.earnings.iter().map(|(quarter, it)| earnings_row(id, quarter, it)).collect())
    });
    rows.compare(&EARNINGS, &Scope::All, earnings).await
}

/// Compares portfolios.
pub(super) async fn check_portfolios(
    rows: &mut Rows<'_>,
    scope: &Scope,
    reference: &Reference,
) -> Result<(), sqlx::Error> {
    let portfolios = reference.portfolios.iter().map(|(id, it)| (id.clone(), vec![portfolio_row(id, it)]));
    rows.compare(&PORTFOLIOS, scope, portfolios).await
}

fn investor_row(id: &String, investor: &Investor) -> Row {
    vec![
        ("investor_id", id.into()),
        ("risk_tolerance", investor.risk_tolerance.as_ref().into()),
        ("experience_level", investor.experience_level.as_ref().into()),
        ("registered_at", investor.registered_at.into()),
        ("version", investor.version.into()),
        ("position", investor.position.into()),
    ]
}

fn portfolio_row(id: &String, portfolio: &Portfolio) -> Row {
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
}

fn asset_row(id: &String, asset: &Asset) -> Row {
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
}

fn earnings_row(id: &String, quarter: &String, earnings: &Earnings) -> Row {
    vec![
        ("asset_id", id.into()),
        ("quarter", quarter.into()),
        ("earnings_per_share", earnings.earnings_per_share.into()),
        ("estimate", earnings.estimate.into()),
        ("revenue", earnings.revenue.into()),
        ("currency", (&earnings.currency).into()),
        ("reported_on", earnings.reported_on.as_ref().into()),
        ("recorded_at", earnings.recorded_at.into()),
        ("position", earnings.position.into()),
    ]
}

fn symbol_row(symbol: &String, (asset_id, position): &(String, i64)) -> Row {
    vec![("symbol", Cell::from(symbol)), ("asset_id", asset_id.into()), ("position", (*position).into())]
}
