//! Earnings of an asset by quarter.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;

use crate::domain::asset::Quarter;
use crate::domain::ids::AssetId;
use crate::queries::snapshot::{self, Answer, market};
use crate::queries::{Error, Page, PageRequest};

/// What is believed of a quarter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarningsRow {
    /// The quarter, such as `2024-Q1`.
    pub quarter: String,
    /// Earnings of one share.
    pub earnings_per_share: Decimal,
    /// What was expected, if told.
    pub estimate: Option<Decimal>,
    /// Revenue, if told.
    pub revenue: Option<Decimal>,
    /// The currency of all three.
    pub currency: String,
    /// When it was published, if told.
    pub reported_on: Option<NaiveDate>,
    /// When the log took the report.
    pub recorded_at: DateTime<Utc>,
    /// Of the report.
    pub position: i64,
}

/// Which quarters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EarningsFilter {
    /// The first.
    pub from: Option<Quarter>,
    /// The last.
    pub to: Option<Quarter>,
}

/// Earnings of an asset, by quarter.
///
/// # Errors
/// [`Error::BadCursor`], the database.
pub async fn list_earnings(
    pool: &PgPool,
    asset_id: AssetId,
    filter: &EarningsFilter,
    page: &PageRequest,
) -> Result<Answer<Page<EarningsRow>>, Error> {
    const LIST: &str = "earnings";
    let after: Option<Quarter> = page.key(LIST)?;
    let mut tx = snapshot::begin(pool).await?;
    let rows = sqlx::query_file_as!(
        EarningsRow,
        "projections/directory/list_earnings.sql",
        asset_id.0,
        filter.from.map(|quarter| quarter.to_string()),
        filter.to.map(|quarter| quarter.to_string()),
        after.map(|quarter| quarter.to_string()),
        page.rows()
    )
    .fetch_all(&mut *tx)
    .await?;
    let page = page.page(LIST, rows, |row| row.quarter.clone());
    snapshot::answer(&mut tx, &[market("directory")], &[asset_id.stream()], page).await
}
