//! What happened in a portfolio, as an investor reads it.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;
use uuid::Uuid;

use super::snapshot::{self, Answer};
use super::{Error, Page, PageRequest};
use crate::domain::ids::{AssetId, PortfolioId};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivityRow {
    /// Where the fact stands in the log.
    pub position: i64,
    /// Its name, for a correction.
    pub event_id: String,
    /// `opened`, `settings_changed`, `buy`, `sell`, `deposit`, `withdraw`.
    pub kind: String,
    /// The day it is dated.
    pub happened_on: NaiveDate,
    /// The instant it is dated.
    pub occurred_at: DateTime<Utc>,
    /// When the log took it.
    pub recorded_at: DateTime<Utc>,
    /// The asset concerned.
    pub asset_id: Option<Uuid>,
    /// Its symbol today.
    pub symbol: Option<String>,
    /// Units.
    pub quantity: Option<Decimal>,
    /// Price of one unit, in quote units.
    pub price: Option<Decimal>,
    /// The currency of amount, fee and tax.
    pub currency: Option<String>,
    /// Gross amount.
    pub amount: Option<Decimal>,
    /// Fee.
    pub fee: Option<Decimal>,
    /// Tax.
    pub tax: Option<Decimal>,
    /// The rate that the client stated.
    pub fx_rate: Option<Decimal>,
    /// The currency of the change of cash.
    pub cash_currency: Option<String>,
    /// What it did to tracked cash.
    pub cash_amount: Option<Decimal>,
    /// The client's remark.
    pub note: Option<String>,
}

/// Which activities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActivityFilter {
    /// Of this kind.
    pub kind: Option<String>,
    /// With this asset.
    pub asset_id: Option<AssetId>,
    /// The first day.
    pub from: Option<NaiveDate>,
    /// The last day.
    pub to: Option<NaiveDate>,
}

/// What happened, the latest first.
///
/// # Errors
/// [`Error::BadCursor`], the database.
pub async fn list_activities(
    pool: &PgPool,
    id: PortfolioId,
    filter: &ActivityFilter,
    page: &PageRequest,
) -> Result<Answer<Page<ActivityRow>>, Error> {
    const LIST: &str = "activities";
    let (day, position): (Option<NaiveDate>, Option<i64>) = page.key(LIST)?.unzip();
    let mut tx = snapshot::begin(pool).await?;
    let rows = sqlx::query_file_as!(
        ActivityRow,
        "projections/activity/list_activities.sql",
        id.0,
        filter.kind,
        filter.asset_id.map(|id| id.0),
        filter.from,
        filter.to,
        day,
        position,
        page.rows()
    )
    .fetch_all(&mut *tx)
    .await?;
    let page = page.page(LIST, rows, |row| (row.happened_on, row.position));
    snapshot::answer(&mut tx, &[("activity", id.stream().shard())], &[id.stream()], page).await
}
