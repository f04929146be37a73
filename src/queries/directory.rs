//! Investors, portfolios with their summary, and assets.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;
use uuid::Uuid;

use super::snapshot::{self, Answer, market, portfolio_shards};
use super::{Error, Page, PageRequest};
use crate::domain::ids::{AssetId, InvestorId, MARKET_SHARD, PortfolioId, Shard};
use crate::domain::money::Amount;

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

/// A portfolio with its settings and its summary.
#[derive(Debug, Clone, PartialEq)]
pub struct PortfolioRow {
    /// The portfolio.
    pub portfolio_id: Uuid,
    /// Whose it is.
    pub investor_id: Uuid,
    /// What it is called.
    pub name: String,
    /// The currency it reports in.
    pub base_currency: String,
    /// IANA zone that decides which day "today" is.
    pub time_zone: String,
    /// `fifo`, `lifo`, `hifo`, `average`.
    pub cost_basis: String,
    /// Whether fees and taxes of a buy are part of its cost.
    pub fees_in_cost: bool,
    /// `tracked` or `untracked`.
    pub cash: String,
    /// Whether more may be sold than is held.
    pub allow_short: bool,
    /// When the log took the opening.
    pub opened_at: DateTime<Utc>,
    /// Of the portfolio's stream: what `If-Match` is compared with.
    pub version: i64,
    /// Of the last event of that stream.
    pub position: i64,
    /// Holdings and cash in base; none until it was valued.
    pub total_value_base: Option<Decimal>,
    /// Holdings in base.
    pub market_value_base: Option<Decimal>,
    /// Cash in base.
    pub cash_base: Option<Decimal>,
    /// Cost of what is held, in base.
    pub cost_base: Option<Decimal>,
    /// Gain of what is held, in base.
    pub unrealized_gain_base: Option<Decimal>,
    /// A price or rate is missing: the values are of what is priced.
    pub incomplete: Option<bool>,
    /// An opening rate is missing: cost and gain are of what is known.
    pub cost_incomplete: Option<bool>,
    /// How many holdings and balances have no value.
    pub unpriced: Option<i32>,
    /// Value at risk 99 % as a share of gross exposure; none until it was computed.
    pub risk_share: Option<f64>,
    /// The band of that share.
    pub risk_band: Option<String>,
    /// Value at risk 99 %, one day, in base.
    pub value_at_risk_99: Option<f64>,
    /// Annual volatility of today's holdings.
    pub volatility: Option<f64>,
}

/// Which portfolios.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortfolioFilter {
    /// Of this investor.
    pub investor_id: Option<InvestorId>,
    /// Whose name has this in it, in any case.
    pub name: Option<String>,
    /// In this band of risk.
    pub risk_band: Option<String>,
    /// Worth at least this, in base.
    pub value_min: Option<Decimal>,
    /// Worth at most this, in base.
    pub value_max: Option<Decimal>,
}

/// In which order. Portfolios without a figure come last, whatever the direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PortfolioOrder {
    /// By name.
    #[default]
    Name,
    /// By name, the last first.
    NameDescending,
    /// By value in base, the least first.
    Value,
    /// By value in base, the greatest first.
    ValueDescending,
    /// By share at risk, the least first.
    Risk,
    /// By share at risk, the greatest first.
    RiskDescending,
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
    let page = portfolios_in(&mut tx, &filter, PortfolioOrder::Name, &all).await?;
    let totals = totals(&page.items);
    let data = InvestorWithPortfolios { investor, portfolios: page.items, totals };
    let sources: Vec<_> = portfolio_shards("directory").chain(portfolio_shards("valuations")).collect();
    snapshot::answer(&mut tx, &sources, &[id.stream()], data).await.map(Some)
}

/// Portfolios with their summaries.
///
/// # Errors
/// [`Error::BadCursor`], the database.
pub async fn list_portfolios(
    pool: &PgPool,
    filter: &PortfolioFilter,
    order: PortfolioOrder,
    page: &PageRequest,
) -> Result<Answer<Page<PortfolioRow>>, Error> {
    let mut tx = snapshot::begin(pool).await?;
    let portfolios = portfolios_in(&mut tx, filter, order, page).await?;
    let sources: Vec<_> = portfolio_shards("directory").chain(portfolio_shards("valuations")).collect();
    snapshot::answer(&mut tx, &sources, &[], portfolios).await
}

/// A portfolio with its settings and summary; none if there is no such portfolio.
///
/// # Errors
/// The database.
pub async fn find_portfolio(pool: &PgPool, id: PortfolioId) -> Result<Option<Answer<PortfolioRow>>, Error> {
    let mut tx = snapshot::begin(pool).await?;
    let found = sqlx::query_file_as!(PortfolioRow, "projections/directory/find_portfolio.sql", id.0)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(portfolio) = found else { return Ok(None) };
    let shard: Shard = id.stream().shard();
    let sources = [("directory", shard), ("valuations", shard)];
    snapshot::answer(&mut tx, &sources, &[id.stream()], portfolio).await.map(Some)
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
    snapshot::answer(&mut tx, &[market("directory"), market("prices")], &[], page).await
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

async fn portfolios_in(
    conn: &mut sqlx::PgConnection,
    filter: &PortfolioFilter,
    order: PortfolioOrder,
    page: &PageRequest,
) -> Result<Page<PortfolioRow>, Error> {
    use PortfolioOrder::{Name, NameDescending, Risk, RiskDescending, Value, ValueDescending};
    let list = format!("portfolios by {order:?}");
    let investor = filter.investor_id.map(|id| id.0);
    macro_rules! rows {
        ($file:literal, $key:expr, $id:expr $(, $sign:expr)?) => {
            sqlx::query_file_as!(
                PortfolioRow,
                $file,
                investor,
                filter.name,
                filter.risk_band,
                filter.value_min,
                filter.value_max,
                $key,
                $id,
                page.rows()
                $(, $sign)?
            )
            .fetch_all(conn)
            .await?
        };
    }
    match order {
        Name | NameDescending => {
            let (name, id): (Option<String>, Option<Uuid>) = page.key(&list)?.unzip();
            let rows = if order == Name {
                rows!("projections/directory/list_portfolios_by_name.sql", name, id)
            } else {
                rows!("projections/directory/list_portfolios_by_name_descending.sql", name, id)
            };
            Ok(page.page(&list, rows, |row| (row.name.clone(), row.portfolio_id)))
        }
        Value | ValueDescending => {
            let (key, id): (Option<Option<Amount>>, Option<Uuid>) = page.key(&list)?.unzip();
            let key = key.flatten().map(Amount::decimal);
            let sign = if order == Value { Decimal::ONE } else { Decimal::NEGATIVE_ONE };
            let rows = rows!("projections/directory/list_portfolios_by_value.sql", key, id, sign);
            Ok(page
                .page(&list, rows, |row| (row.total_value_base.map(Amount::from_decimal), row.portfolio_id)))
        }
        Risk | RiskDescending => {
            let (key, id): (Option<Option<f64>>, Option<Uuid>) = page.key(&list)?.unzip();
            let sign = if order == Risk { 1.0 } else { -1.0 };
            let rows = rows!("projections/directory/list_portfolios_by_risk.sql", key.flatten(), id, sign);
            Ok(page.page(&list, rows, |row| (row.risk_share, row.portfolio_id)))
        }
    }
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
