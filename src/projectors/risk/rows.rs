//! Figures to rows: computed by the engine's own threads, written in one statement.

use std::sync::Arc;

use sqlx::PgConnection;

use super::exposures::PricedPortfolio;
use crate::analysis::{Figures, MarketModel, Pool, portfolio_figures};
use crate::domain::ids::Position;
use crate::projectors::{Error, column};
use crate::risk::Method;

/// A row to be.
pub(super) struct Row {
    priced: PricedPortfolio,
    figures: Figures,
    /// The last request that is obeyed with it.
    request_position: Position,
}

/// On the engine's threads; the caller's runtime goes on.
pub(super) async fn compute(
    pool: Arc<Pool>,
    model: Arc<MarketModel>,
    portfolios: Vec<(PricedPortfolio, Position)>,
) -> Result<Vec<Row>, Error> {
    let computed = tokio::task::spawn_blocking(move || {
        let figures = pool.map(&portfolios, |(portfolio, _)| {
            portfolio_figures(&model, portfolio.base_currency.as_str(), &portfolio.exposures())
        });
        let rows = portfolios.into_iter().zip(figures);
        rows.map(|((priced, request_position), figures)| {
            Ok(Row { priced, figures: figures?, request_position })
        })
        .collect::<Result<_, _>>()
    });
    // A panic in the engine is a bug, and must stop the process as any other.
    match computed.await {
        Ok(rows) => rows,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Writes them; a row that is there is replaced.
pub(super) async fn upsert(conn: &mut PgConnection, model: &MarketModel, rows: &[Row]) -> Result<(), Error> {
    let headline = |row: &Row| row.figures.method(Method::FilteredHistorical).map(|method| method.figures);
    let var_99 = |row: &Row| Some(headline(row)?.var_99?.value);
    sqlx::query_file!(
        "projections/risk/upsert_risks.sql",
        &column(rows, |row| row.priced.portfolio_id.0),
        &column(rows, |row| row.priced.shard.0),
        &column(rows, |row| row.priced.position.0),
        &column(rows, |row| row.priced.price_position.0),
        &column(rows, |_| model.cut() as i64),
        &column(rows, |_| model.hash().to_owned()),
        &column(rows, |row| row.figures.engine_version.to_string()),
        &column(rows, |row| row.priced.base_currency.to_string()),
        &column(rows, |row| row.priced.gross().decimal()),
        &column(rows, |row| row.figures.coverage.unwrap_or(0.0)),
        &column(rows, |row| row.figures.incomplete || row.priced.is_incomplete()),
        &column(rows, |row| Some(headline(row)?.var_95?.value)) as _,
        &column(rows, var_99) as _,
        &column(rows, |row| Some(headline(row)?.es_975?.value)) as _,
        &column(rows, |row| row.priced.share_of_gross(var_99(row)?)) as _,
        &column(rows, |row| row.figures.volatility_annualized.map(band)) as _,
        &column(rows, |row| row.figures.volatility_annualized) as _,
        &column(rows, |row| row.figures.sharpe) as _,
        &column(rows, |row| figures_json(&row.figures)),
        &column(rows, |row| row.priced.to_json().to_string()),
        &column(rows, |row| row.request_position.0),
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn figures_json(figures: &Figures) -> String {
    serde_json::to_string(figures).expect("figures are numbers and strings, which always serialise")
}

/// The band of an annual volatility: low below 15 %, high from 25 % on.
fn band(volatility: f64) -> &'static str {
    match volatility {
        v if v < 0.15 => "low",
        v if v < 0.25 => "medium",
        _ => "high",
    }
}
