//! Investors, portfolios with their summary, assets and their earnings.

mod earnings;
mod portfolios;

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;
use uuid::Uuid;

pub use self::earnings::{EarningsFilter, EarningsRow, list_earnings};
pub use self::portfolios::{
    CurrencyTotal, OrderBy, PortfolioFilter, PortfolioOrder, PortfolioRow, PortfolioStats, RiskBand,
    find_portfolio, find_portfolio_stats, list_portfolios,
};
use super::snapshot::{self, Answer, market, portfolio_shards};
use super::{Error, Page, PageRequest};
use crate::domain::ids::{AssetId, InvestorId, MARKET_SHARD, PortfolioId};

/// An investor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvestorRow {
    /// The investor.
    pub investor_id: Uuid,
    /// Name; none once the person was erased.
    pub name: Option<String>,
    /// E-mail; none once the person was erased.
    pub email: Option<String>,
    /// `low`, `medium`, `high`, if told.
    pub risk_tolerance: Option<String>,
    /// `beginner`, `intermediate`, `advanced`, if told.
    pub experience_level: Option<String>,
    /// When the log took the registration.
    pub registered_at: DateTime<Utc>,
    /// Of the investor's stream: what `If-Match` is compared with.
    pub version: i64,
    /// Of the last event of that stream.
    pub position: i64,
    /// How many portfolios they have.
    pub portfolios: i64,
}

/// An investor and what they have.
#[derive(Debug, Clone, PartialEq)]
pub struct InvestorWithPortfolios {
    /// The investor.
    pub investor: InvestorRow,
    /// Their first portfolios by name, at most [`super::LIMIT_MAX`].
    pub portfolios: Vec<PortfolioRow>,
    /// What those are worth together, by base currency.
    pub totals: Vec<InvestorTotal>,
}

/// Sum over portfolios that report in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvestorTotal {
    /// The currency.
    pub currency: String,
    /// Value of holdings and cash.
    pub total_value_base: Decimal,
    /// A portfolio is incomplete or was not valued yet.
    pub incomplete: bool,
}

/// An asset with its live price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetRow {
    /// The asset.
    pub asset_id: Uuid,
    /// Its symbol today.
    pub symbol: String,
    /// Its name.
    pub name: String,
    /// `equity`, `etf`, `fund`, `bond`, `crypto`, `commodity`, `fx`.
    pub class: String,
    /// The currency it is quoted and paid in.
    pub currency: String,
    /// Units of the currency in one unit of the price.
    pub quote_unit: Decimal,
    /// ISIN, if told.
    pub isin: Option<String>,
    /// Exchange, if told.
    pub exchange: Option<String>,
    /// When the log took the listing.
    pub listed_at: DateTime<Utc>,
    /// Last day of trading, if there was one.
    pub delisted_on: Option<NaiveDate>,
    /// What a unit was worth at last, if told.
    pub final_price: Option<Decimal>,
    /// Of the asset's stream: what `If-Match` is compared with.
    pub version: i64,
    /// Of the last event of that stream.
    pub position: i64,
    /// The live price in quote units; none where there is none.
    pub price: Option<Decimal>,
    /// When it was; a close lies at the end of its day, UTC.
    pub priced_at: Option<DateTime<Utc>>,
    /// Where it is from.
    pub price_source: Option<String>,
    /// `tick` or `close`.
    pub price_kind: Option<String>,
    /// Of the last event that changed it.
    pub price_position: Option<i64>,
}

/// Which assets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AssetFilter {
    /// Of this class.
    pub class: Option<String>,
    /// Whose name has this in it, in any case.
    pub name: Option<String>,
}

/// How an asset is named in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssetName {
    /// By id.
    Id(AssetId),
    /// By a symbol that it has or had.
    Symbol(String),
}

/// Whom e-mails name, as they were asked for; those that nobody has are left out.
///
/// # Errors
/// The database.
pub async fn find_investors_by_email(
    pool: &PgPool,
    emails: &[String],
) -> Result<HashMap<String, InvestorId>, Error> {
    let found = sqlx::query_file!("projections/directory/find_investors_by_email.sql", emails);
    let found = found.fetch_all(pool).await?;
    Ok(found.into_iter().map(|row| (row.email, InvestorId(row.investor_id))).collect())
}

/// The oldest portfolio of each investor and name that there is.
///
/// # Errors
/// The database.
pub async fn find_portfolios_by_name(
    pool: &PgPool,
    named: &[(InvestorId, String)],
) -> Result<HashMap<(InvestorId, String), PortfolioId>, Error> {
    let investors: Vec<Uuid> = named.iter().map(|(investor, _)| investor.0).collect();
    let names: Vec<String> = named.iter().map(|(_, name)| name.clone()).collect();
    let rows = sqlx::query_file!("projections/directory/find_portfolios_by_name.sql", &investors, &names);
    let mut found = HashMap::new();
    for row in rows.fetch_all(pool).await? {
        found.entry((InvestorId(row.investor_id), row.name)).or_insert(PortfolioId(row.portfolio_id));
    }
    Ok(found)
}

/// Investors, by id, which is the order of registration.
///
/// # Errors
/// [`Error::BadCursor`], the database.
pub async fn list_investors(pool: &PgPool, page: &PageRequest) -> Result<Answer<Page<InvestorRow>>, Error> {
    const LIST: &str = "investors";
    let after: Option<Uuid> = page.key(LIST)?;
    let mut tx = snapshot::begin(pool).await?;
    let rows =
        sqlx::query_file_as!(InvestorRow, "projections/directory/list_investors.sql", after, page.rows())
            .fetch_all(&mut *tx)
            .await?;
    let sources: Vec<_> = portfolio_shards("directory").collect();
    snapshot::answer(&mut tx, &sources, &[], page.page(LIST, rows, |row| row.investor_id)).await
}

/// An investor with their portfolios; none if there is no such investor.
///
/// # Errors
/// The database.
pub async fn find_investor(
    pool: &PgPool,
    id: InvestorId,
) -> Result<Option<Answer<InvestorWithPortfolios>>, Error> {
    let mut tx = snapshot::begin(pool).await?;
    let found = sqlx::query_file_as!(InvestorRow, "projections/directory/find_investor.sql", id.0)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(investor) = found else { return Ok(None) };
    let filter = PortfolioFilter { investor_id: Some(id), ..PortfolioFilter::default() };
    let all = PageRequest { after: None, limit: super::LIMIT_MAX };
    let page = portfolios::read_page(&mut tx, &filter, PortfolioOrder::default(), &all).await?;
    let totals = totals(&page.items);
    let data = InvestorWithPortfolios { investor, portfolios: page.items, totals };
    let sources: Vec<_> = portfolio_shards("directory").chain(portfolio_shards("valuations")).collect();
    snapshot::answer(&mut tx, &sources, &[id.stream()], data).await.map(Some)
}

/// Assets with their live prices, by symbol.
///
/// # Errors
/// [`Error::BadCursor`], the database.
pub async fn list_assets(
    pool: &PgPool,
    filter: &AssetFilter,
    page: &PageRequest,
) -> Result<Answer<Page<AssetRow>>, Error> {
    const LIST: &str = "assets";
    let (symbol, id): (Option<String>, Option<Uuid>) = page.key(LIST)?.unzip();
    let mut tx = snapshot::begin(pool).await?;
    let rows = sqlx::query_file_as!(
        AssetRow,
        "projections/directory/list_assets.sql",
        filter.class,
        filter.name,
        symbol,
        id,
        page.rows()
    )
    .fetch_all(&mut *tx)
    .await?;
    let page = page.page(LIST, rows, |row| (row.symbol.clone(), row.asset_id));
    snapshot::dated_answer(&mut tx, &[market("directory"), market("prices")], &[], page).await
}

/// An asset with its live price; none if there is no such asset.
///
/// # Errors
/// The database.
pub async fn find_asset(pool: &PgPool, name: &AssetName) -> Result<Option<Answer<AssetRow>>, Error> {
    let (id, symbol) = match name {
        AssetName::Id(id) => (Some(id.0), None),
        AssetName::Symbol(symbol) => (None, Some(symbol.as_str())),
    };
    let mut tx = snapshot::begin(pool).await?;
    let found = sqlx::query_file_as!(AssetRow, "projections/directory/find_asset.sql", id, symbol)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(asset) = found else { return Ok(None) };
    let id = AssetId(asset.asset_id);
    let sources = [("directory", MARKET_SHARD), ("prices", MARKET_SHARD)];
    snapshot::answer(&mut tx, &sources, &[id.stream(), id.price_stream()], asset).await.map(Some)
}

fn totals(portfolios: &[PortfolioRow]) -> Vec<InvestorTotal> {
    let mut totals: Vec<InvestorTotal> = Vec::new();
    for portfolio in portfolios {
        let currency = &portfolio.base_currency;
        let index = totals.iter().position(|total| total.currency == *currency).unwrap_or_else(|| {
            let none = Decimal::ZERO;
            totals.push(InvestorTotal {
                currency: currency.clone(),
                total_value_base: none,
                incomplete: false,
            });
            totals.len() - 1
        });
        let total = &mut totals[index];
        total.incomplete |= portfolio.incomplete.unwrap_or(true);
        total.total_value_base += portfolio.total_value_base.unwrap_or_default();
    }
    totals.sort_by(|a, b| a.currency.cmp(&b.currency));
    totals
}
