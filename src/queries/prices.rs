//! Closes of an asset, and the latest prices of each of its sources.

use chrono::{DateTime, NaiveDate, Utc};
use futures::TryStreamExt;
use rust_decimal::Decimal;
use sqlx::PgPool;
use uuid::Uuid;

use super::snapshot::{self, Answer, market};
use super::{Error, Page, PageRequest};
use crate::domain::ids::AssetId;

/// The closing price of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseRow {
    /// The exchange's calendar day.
    pub day: NaiveDate,
    /// Price of one unit, in quote units.
    pub price: Decimal,
    /// Units traded, if told.
    pub volume: Option<Decimal>,
    /// Where it is from.
    pub source: String,
    /// Of the event that gave it this price.
    pub position: i64,
}

/// The latest prices of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRow {
    /// The asset.
    pub asset_id: Uuid,
    /// The source.
    pub source: String,
    /// When its newest tick was.
    pub tick_at: Option<DateTime<Utc>>,
    /// The price of that tick.
    pub tick_price: Option<Decimal>,
    /// The day of its newest close.
    pub close_day: Option<NaiveDate>,
    /// The price of that close.
    pub close_price: Option<Decimal>,
}

/// A price that was held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPriceRow {
    /// Its id.
    pub held_id: Uuid,
    /// The asset.
    pub asset_id: Uuid,
    /// The asset's symbol today.
    pub symbol: String,
    /// Whose price.
    pub source: String,
    /// The instant, of a tick.
    pub at: Option<DateTime<Utc>>,
    /// The day, of a close.
    pub day: Option<NaiveDate>,
    /// Price of one unit, in quote units.
    pub price: Decimal,
    /// Units traded, if told.
    pub volume: Option<Decimal>,
    /// The price that it is far from.
    pub last_price: Decimal,
    /// Why it is held.
    pub reason: String,
    /// When the log took it.
    pub held_at: DateTime<Utc>,
    /// `waiting`, `accepted` or `dismissed`.
    pub state: String,
    /// Of the event that says so.
    pub position: i64,
}

/// Which closes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloseFilter {
    /// Of this source; else of the most believed one that has closes.
    pub source: Option<String>,
    /// The first day.
    pub from: Option<NaiveDate>,
    /// The last day.
    pub to: Option<NaiveDate>,
}

/// The last closes of an asset, of its most believed source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentCloses {
    /// The asset.
    pub asset_id: Uuid,
    /// Its symbol.
    pub symbol: String,
    /// Its class.
    pub class: String,
    /// The currency it is quoted in.
    pub currency: String,
    /// Whose closes these are.
    pub source: String,
    /// The days, in order.
    pub days: Vec<NaiveDate>,
    /// The close of each, in whole units of the currency.
    pub prices: Vec<Decimal>,
}

/// What `fold` makes of the last closes of each asset, at most so many of each. No more than one asset's are held at once.
///
/// # Errors
/// The database.
pub async fn fold_recent_closes<T>(
    pool: &PgPool,
    closes_max: u32,
    mut fold: impl FnMut(RecentCloses) -> T,
) -> Result<Answer<Vec<T>>, Error> {
    let mut tx = snapshot::begin(pool).await?;
    let mut folded = Vec::new();
    {
        let mut rows = sqlx::query_file_as!(
            RecentCloses,
            "projections/prices/list_recent_closes.sql",
            i64::from(closes_max)
        )
        .fetch(&mut *tx);
        while let Some(row) = rows.try_next().await? {
            folded.push(fold(row));
        }
    }
    snapshot::dated_answer(&mut tx, &[market("prices")], &[], folded).await
}

/// Closes of an asset by day, of one source.
///
/// # Errors
/// [`Error::BadCursor`], the database.
pub async fn list_closes(
    pool: &PgPool,
    asset_id: AssetId,
    filter: &CloseFilter,
    page: &PageRequest,
) -> Result<Answer<Page<CloseRow>>, Error> {
    const LIST: &str = "closes";
    let after: Option<NaiveDate> = page.key(LIST)?;
    let from = after.and_then(|day| day.succ_opt()).max(filter.from);
    let mut tx = snapshot::begin(pool).await?;
    let rows = sqlx::query_file_as!(
        CloseRow,
        "projections/prices/list_closes.sql",
        asset_id.0,
        filter.source,
        from,
        filter.to,
        page.rows()
    )
    .fetch_all(&mut *tx)
    .await?;
    let page = page.page(LIST, rows, |row| row.day);
    snapshot::answer(&mut tx, &[market("prices")], &[asset_id.price_stream()], page).await
}

/// The latest prices of each source of an asset, the most believed first.
///
/// # Errors
/// The database.
pub async fn list_sources(pool: &PgPool, asset_id: AssetId) -> Result<Answer<Vec<SourceRow>>, Error> {
    let mut tx = snapshot::begin(pool).await?;
    let rows = sqlx::query_file_as!(SourceRow, "projections/prices/list_sources.sql", asset_id.0)
        .fetch_all(&mut *tx)
        .await?;
    snapshot::answer(&mut tx, &[market("prices")], &[asset_id.price_stream()], rows).await
}

/// Prices that were held back and are in this state (`waiting`, `accepted`, `dismissed`), in the order in which they came to it.
///
/// # Errors
/// [`Error::BadCursor`], the database.
pub async fn list_held_prices(
    pool: &PgPool,
    state: &str,
    page: &PageRequest,
) -> Result<Answer<Page<HeldPriceRow>>, Error> {
    let list = format!("held prices {state}");
    let after: Option<i64> = page.key(&list)?;
    let mut tx = snapshot::begin(pool).await?;
    let rows = sqlx::query_file_as!(
        HeldPriceRow,
        "projections/prices/list_held_prices.sql",
        state,
        after.unwrap_or(0),
        page.rows()
    )
    .fetch_all(&mut *tx)
    .await?;
    let page = page.page(&list, rows, |row| row.position);
    snapshot::answer(&mut tx, &[market("prices")], &[], page).await
}
