//! The rows of `prices` as a rebuild writes them: the whole table, and every close.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::{CloseChange, CloseKey};
use crate::domain::money::Quantity;
use crate::domain::price_table::AssetPrices;
use crate::projectors::copy::{Table, Written};
use crate::projectors::stored;

pub(super) async fn quotes(conn: &mut PgConnection, rows: &[&AssetPrices]) -> Result<Written, sqlx::Error> {
    const COLUMNS: &str = "asset_id, symbol, class, currency, quote_unit, ranked_sources, ranked_adjustments, price, \
        priced_at, price_source, price_kind, position";
    let mut table = Table::open(conn, "quotes", COLUMNS).await?;
    for row in rows {
        let live = row.live();
        let sources: Vec<&str> = row.ranking.iter().map(|ranked| ranked.source.as_str()).collect();
        let adjustments: Vec<String> =
            row.ranking.iter().map(|ranked| stored::name(&ranked.adjustment)).collect();
        let adjustments: Vec<&str> = adjustments.iter().map(String::as_str).collect();
        table
            .push(&[
                &row.asset_id.0,
                &row.symbol.as_str(),
                &stored::name(&row.class),
                &row.currency.as_str(),
                &row.quote_unit.decimal(),
                &sources.as_slice(),
                &adjustments.as_slice(),
                &live.as_ref().map(|live| live.price.decimal()),
                &live.as_ref().map(|live| live.at),
                &live.as_ref().map(|live| &*live.source),
                &live.as_ref().map(|live| live.kind.as_str()),
                &row.position.0,
            ])
            .await?;
    }
    table.finish().await
}

pub(super) async fn sources(
    conn: &mut PgConnection,
    assets: &[&AssetPrices],
) -> Result<Written, sqlx::Error> {
    const COLUMNS: &str = "asset_id, source, first_used, tick_at, tick_price, tick_position, close_day, close_price, \
        close_position";
    let mut table = Table::open(conn, "price_sources", COLUMNS).await?;
    for asset in assets {
        for row in &asset.sources {
            table
                .push(&[
                    &asset.asset_id.0,
                    &&*row.source,
                    &row.first_used.0,
                    &row.tick.map(|tick| tick.at),
                    &row.tick.map(|tick| tick.price.decimal()),
                    &row.tick.map(|tick| tick.position.0),
                    &row.close.map(|close| close.day),
                    &row.close.map(|close| close.price.decimal()),
                    &row.close.map(|close| close.position.0),
                ])
                .await?;
        }
    }
    table.finish().await
}

pub(super) async fn closes(
    conn: &mut PgConnection,
    closes: &BTreeMap<CloseKey, CloseChange>,
) -> Result<Written, sqlx::Error> {
    let mut table = Table::open(conn, "closes", "asset_id, source, day, price, volume, position").await?;
    for ((asset_id, source, day), change) in closes {
        let Some(row) = &change.last else { continue };
        table
            .push(&[
                &asset_id.0,
                &&**source,
                day,
                &row.price.decimal(),
                &row.volume.map(Quantity::decimal),
                &row.position.0,
            ])
            .await?;
    }
    table.finish().await
}
