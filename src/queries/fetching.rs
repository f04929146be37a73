//! What a fetch of prices has to know before it asks anybody: which assets, and what is known of them.
//!
//! Not an answer to a person, so without a moment it is of: whoever fetches appends what differs, and the log recognises what
//! it has already.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;
use uuid::Uuid;

use super::Error;
use crate::domain::ids::{AssetId, HeldId, Position};

/// An asset and the newest prices of its sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PricedAsset {
    /// The asset.
    pub asset_id: AssetId,
    /// Its symbol today.
    pub symbol: String,
    /// `equity`, `etf`, `fund`, `bond`, `crypto`, `commodity`, `fx`.
    pub class: String,
    /// The currency it is quoted in.
    pub currency: String,
    /// Units of the currency in one unit of the price.
    pub quote_unit: Decimal,
    /// The ranked sources with their adjustments, the most believed first.
    pub ranking: Vec<(String, String)>,
    /// The live price and when it was.
    pub live: Option<(DateTime<Utc>, Decimal)>,
    /// Of the asset's stream.
    pub version: i64,
    /// In the order of first use.
    pub sources: Vec<SourcePlace>,
    /// What was held back, in order.
    pub held: Vec<HeldPlace>,
}

/// A source's newest tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePlace {
    /// The source.
    pub source: String,
    /// When, the price, and the event that brought it.
    pub tick: Option<(DateTime<Utc>, Decimal, Position)>,
    /// The day of its newest close.
    pub close_day: Option<NaiveDate>,
}

/// A price that was held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPlace {
    /// Its id.
    pub held_id: HeldId,
    /// Whose.
    pub source: String,
    /// The instant of a tick.
    pub at: Option<DateTime<Utc>>,
    /// The day of a close.
    pub day: Option<NaiveDate>,
    /// The price.
    pub price: Decimal,
    /// `waiting`, `accepted` or `dismissed`.
    pub state: String,
    /// The event that says so.
    pub position: Position,
}

/// A close and the event that brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosePlace {
    /// The day.
    pub day: NaiveDate,
    /// The price.
    pub price: Decimal,
    /// The event.
    pub position: i64,
}

/// The log's head, and how far the rows of the market follow it.
///
/// # Errors
/// The database.
pub async fn find_market_scan(pool: &PgPool) -> Result<(Position, Position), Error> {
    let row = sqlx::query_file!("projections/prices/find_market_scan.sql").fetch_one(pool).await?;
    Ok((Position(row.head), Position(row.scanned_to.unwrap_or(0))))
}

/// Assets by symbols that they have or had.
///
/// # Errors
/// The database.
pub async fn find_named_assets(pool: &PgPool, symbols: &[String]) -> Result<HashMap<String, AssetId>, Error> {
    let rows = sqlx::query_file!("projections/prices/find_named_assets.sql", symbols).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (row.symbol, AssetId(row.asset_id))).collect())
}

/// Every exchange rate that is still traded, by symbol.
///
/// # Errors
/// The database.
pub async fn list_pairs(pool: &PgPool) -> Result<Vec<AssetId>, Error> {
    let rows = sqlx::query_file!("projections/prices/list_pairs.sql").fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| AssetId(row.asset_id)).collect())
}

/// Every asset that somebody holds and that is still traded, by symbol.
///
/// # Errors
/// The database.
pub async fn list_held_assets(pool: &PgPool) -> Result<Vec<AssetId>, Error> {
    let rows = sqlx::query_file!("projections/prices/list_held_assets.sql").fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| AssetId(row.asset_id)).collect())
}

/// What is known of these assets.
///
/// # Errors
/// The database.
pub async fn list_priced_assets(
    pool: &PgPool,
    assets: &[AssetId],
) -> Result<HashMap<AssetId, PricedAsset>, Error> {
    let ids: Vec<Uuid> = assets.iter().map(|id| id.0).collect();
    let mut found: HashMap<AssetId, PricedAsset> = HashMap::with_capacity(ids.len());
    for row in sqlx::query_file!("projections/prices/list_series_places.sql", &ids).fetch_all(pool).await? {
        let asset = found.entry(AssetId(row.asset_id)).or_insert_with(|| PricedAsset {
            asset_id: AssetId(row.asset_id),
            symbol: row.symbol,
            class: row.class,
            currency: row.currency,
            quote_unit: row.quote_unit,
            ranking: row.ranked_sources.into_iter().zip(row.ranked_adjustments).collect(),
            live: row.priced_at.zip(row.live_price),
            version: row.version,
            sources: Vec::new(),
            held: Vec::new(),
        });
        if let Some(source) = row.source {
            let tick = row.tick_at.zip(row.tick_price).zip(row.tick_position);
            let tick = tick.map(|((at, price), position)| (at, price, Position(position)));
            asset.sources.push(SourcePlace { source, tick, close_day: row.close_day });
        }
    }
    for row in sqlx::query_file!("projections/prices/list_held_of_assets.sql", &ids).fetch_all(pool).await? {
        if let Some(asset) = found.get_mut(&AssetId(row.asset_id)) {
            asset.held.push(HeldPlace {
                held_id: HeldId(row.held_id),
                source: row.source,
                at: row.at,
                day: row.day,
                price: row.price,
                state: row.state,
                position: Position(row.position),
            });
        }
    }
    Ok(found)
}

/// Closes of a source between two days, and the last one before them.
///
/// # Errors
/// The database.
pub async fn list_series_closes(
    pool: &PgPool,
    asset_id: AssetId,
    source: &str,
    since: NaiveDate,
    until: NaiveDate,
) -> Result<Vec<ClosePlace>, Error> {
    let rows = sqlx::query_file_as!(
        ClosePlace,
        "projections/prices/list_series_closes.sql",
        asset_id.0,
        source,
        since,
        until
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}
