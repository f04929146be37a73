//! Portfolios with their settings and a summary: one, a page of them in an order, and statistics of all.
//!
//! An order is an index of the read model that has the figure; a page walks it and stops when it is full. Portfolios without
//! the figure come last, whatever the direction: they are not in that index, and are read only where the others do not fill
//! the page.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::domain::ids::{InvestorId, PortfolioId, Shard};
use crate::domain::money::Amount;
use crate::queries::snapshot::{self, Answer, Source, portfolio_shards};
use crate::queries::{Error, Page, PageRequest};

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
    /// How many assets are held.
    pub asset_count: Option<i32>,
    /// Value at risk 99 % as a share of gross exposure; none until it was computed.
    pub risk_share: Option<f64>,
    /// The band of the volatility.
    pub risk_band: Option<String>,
    /// Value at risk 99 %, one day, in base.
    pub value_at_risk_99: Option<f64>,
    /// Annual volatility of today's holdings, from closes and their correlation.
    pub volatility: Option<f64>,
    /// Sharpe ratio of today's holdings, from the same.
    pub sharpe: Option<f64>,
}

/// A band of annual volatility.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RiskBand {
    /// Below 15 %.
    Low,
    /// From 15 % to below 25 %.
    Medium,
    /// From 25 % on.
    High,
}

impl RiskBand {
    /// The band of an annual volatility.
    pub fn of(volatility: f64) -> Self {
        match volatility {
            v if v < 0.15 => Self::Low,
            v if v < 0.25 => Self::Medium,
            _ => Self::High,
        }
    }

    /// The volatilities that are in it: from the first on, and below the second.
    fn range(self) -> (Option<f64>, Option<f64>) {
        match self {
            Self::Low => (None, Some(0.15)),
            Self::Medium => (Some(0.15), Some(0.25)),
            Self::High => (Some(0.25), None),
        }
    }
}

/// Which portfolios.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PortfolioFilter {
    /// Of this investor.
    pub investor_id: Option<InvestorId>,
    /// Whose name has this in it, in any case.
    pub name: Option<String>,
    /// In this band of volatility.
    pub risk_band: Option<RiskBand>,
    /// With at least this Sharpe ratio.
    pub min_sharpe: Option<f64>,
    /// Worth at least this, in base.
    pub value_min: Option<Decimal>,
    /// Worth at most this, in base.
    pub value_max: Option<Decimal>,
}

/// What portfolios can be ordered by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OrderBy {
    /// Their names.
    #[default]
    Name,
    /// How many assets they hold.
    AssetCount,
    /// Their annual volatility.
    Volatility,
    /// Their Sharpe ratio.
    Sharpe,
    /// What they are worth in base.
    Value,
    /// Value at risk 99 % as a share of gross exposure.
    Risk,
}

/// In which order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortfolioOrder {
    /// By what.
    pub by: OrderBy,
    /// The greatest first. Portfolios without a figure come last all the same.
    pub descending: bool,
}

impl PortfolioFilter {
    /// Whether portfolios without the figure that is ordered by can pass at all.
    fn admits_those_without(&self, by: OrderBy) -> bool {
        let has_value = self.value_min.is_some() || self.value_max.is_some();
        let has_sharpe = self.min_sharpe.is_some();
        match by {
            OrderBy::Name => false,
            OrderBy::AssetCount | OrderBy::Value => !has_value,
            OrderBy::Sharpe => !has_sharpe,
            // Without a volatility there is no Sharpe ratio.
            OrderBy::Volatility => !has_sharpe && self.risk_band.is_none(),
            OrderBy::Risk => true,
        }
    }

    /// The read models that decide which portfolios an answer has, and in which order.
    pub fn read_models(&self, by: OrderBy) -> Vec<&'static str> {
        let by_risk = matches!(by, OrderBy::Volatility | OrderBy::Sharpe | OrderBy::Risk);
        let mut read_models = vec!["directory", "valuations"];
        if by_risk || self.risk_band.is_some() || self.min_sharpe.is_some() {
            read_models.push("risk");
        }
        read_models
    }
}

/// What all portfolios are like together.
#[derive(Debug, Clone, PartialEq)]
pub struct PortfolioStats {
    /// Portfolios.
    pub count: i64,
    /// Those with a volatility below 15 %.
    pub low: i64,
    /// From 15 % to below 25 %.
    pub medium: i64,
    /// From 25 % on.
    pub high: i64,
    /// Mean of the volatilities.
    pub volatility_mean: Option<f64>,
    /// Their median.
    pub volatility_median: Option<f64>,
    /// How many have a Sharpe ratio.
    pub with_sharpe: i64,
    /// Mean of those.
    pub sharpe_mean: Option<f64>,
    /// Their median.
    pub sharpe_median: Option<f64>,
    /// What they are worth, by base currency.
    pub totals: Vec<CurrencyTotal>,
}

/// Portfolios that report in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrencyTotal {
    /// The currency.
    pub base_currency: String,
    /// How many.
    pub count: i64,
    /// What they are worth together.
    pub total_value_base: Decimal,
    /// How many of them are not valued, or not in full.
    pub incomplete: i64,
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
    let portfolios = read_page(&mut tx, filter, order, page).await?;
    let read_models = filter.read_models(order.by);
    // Its figures are shown in any case.
    let shown = if read_models.contains(&"risk") { None } else { Some("risk") };
    let sources: Vec<Source> = read_models.into_iter().flat_map(portfolio_shards).collect();
    let shown: Vec<Source> = shown.into_iter().flat_map(portfolio_shards).collect();
    snapshot::dated_answer(&mut tx, &sources, &shown, portfolios).await
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

/// Statistics of all portfolios. Reads every one of them: for those who ask rarely.
///
/// # Errors
/// The database.
pub async fn find_portfolio_stats(pool: &PgPool) -> Result<Answer<PortfolioStats>, Error> {
    let mut tx = snapshot::begin(pool).await?;
    let figures = sqlx::query_file!("projections/risk/find_figure_stats.sql").fetch_one(&mut *tx).await?;
    let totals = sqlx::query_file_as!(CurrencyTotal, "projections/directory/list_currency_totals.sql")
        .fetch_all(&mut *tx)
        .await?;
    let stats = PortfolioStats {
        count: totals.iter().map(|total| total.count).sum(),
        low: figures.low,
        medium: figures.medium,
        high: figures.high,
        volatility_mean: figures.volatility_mean,
        volatility_median: figures.volatility_median,
        with_sharpe: figures.with_sharpe,
        sharpe_mean: figures.sharpe_mean,
        sharpe_median: figures.sharpe_median,
        totals,
    };
    let sources: Vec<Source> =
        ["directory", "valuations", "risk"].into_iter().flat_map(portfolio_shards).collect();
    snapshot::dated_answer(&mut tx, &sources, &[], stats).await
}

/// Where a page goes on: the figure of the last row before it, and its id.
type After<K> = Option<(Option<K>, Uuid)>;

/// The direction that a statement takes: up or down the index, or through those that are not in it.
const UP: i32 = 1;
const DOWN: i32 = -1;
const THE_REST: i32 = 0;

/// A page of portfolios within a snapshot.
pub(super) async fn read_page(
    conn: &mut PgConnection,
    filter: &PortfolioFilter,
    order: PortfolioOrder,
    page: &PageRequest,
) -> Result<Page<PortfolioRow>, Error> {
    let list = format!("portfolios by {:?} {}", order.by, order.descending);
    let investor = filter.investor_id.map(|id| id.0);
    let (volatility_min, volatility_below) = filter.risk_band.map_or((None, None), RiskBand::range);
    let direction = if order.descending { DOWN } else { UP };
    // Rows of the index after the cursor, then, where these do not fill the page, the rest.
    macro_rules! walk {
        ($file:literal, $key:ty, $bind:expr, $of:expr) => {{
            let after: After<$key> = page.key(&list)?;
            let mut rows = Vec::new();
            let mut left = page.rows();
            let is_in_the_rest = matches!(after, Some((None, _)));
            let steps = [(direction, !is_in_the_rest), (THE_REST, filter.admits_those_without(order.by))];
            for (direction, _) in steps.into_iter().filter(|(_, is_walked)| *is_walked) {
                let (key, id) = match &after {
                    Some((key, id)) if (direction == THE_REST) == is_in_the_rest => (key.clone(), Some(*id)),
                    _ => (None, None),
                };
                let found = sqlx::query_file_as!(
                    PortfolioRow,
                    $file,
                    investor,
                    filter.name,
                    volatility_min,
                    volatility_below,
                    filter.min_sharpe,
                    filter.value_min,
                    filter.value_max,
                    key.map($bind),
                    id,
                    direction,
                    left
                )
                .fetch_all(&mut *conn)
                .await?;
                left -= found.len() as i64;
                rows.extend(found);
                if left <= 0 {
                    break;
                }
            }
            Ok(page.page(&list, rows, |row: &PortfolioRow| ($of(row), row.portfolio_id)))
        }};
    }
    match order.by {
        OrderBy::Name => walk!(
            "projections/directory/list_portfolios_by_name.sql",
            String,
            |name: String| name,
            |row: &PortfolioRow| Some(row.name.clone())
        ),
        OrderBy::AssetCount => walk!(
            "projections/directory/list_portfolios_by_asset_count.sql",
            i32,
            |count: i32| count,
            |row: &PortfolioRow| row.asset_count
        ),
        OrderBy::Volatility => walk!(
            "projections/directory/list_portfolios_by_volatility.sql",
            f64,
            |volatility: f64| volatility,
            |row: &PortfolioRow| row.volatility
        ),
        OrderBy::Sharpe => walk!(
            "projections/directory/list_portfolios_by_sharpe.sql",
            f64,
            |sharpe: f64| sharpe,
            |row: &PortfolioRow| row.sharpe
        ),
        OrderBy::Value => walk!(
            "projections/directory/list_portfolios_by_value.sql",
            Amount,
            Amount::decimal,
            |row: &PortfolioRow| row.total_value_base.map(Amount::from_decimal)
        ),
        OrderBy::Risk => walk!(
            "projections/directory/list_portfolios_by_risk.sql",
            f64,
            |share: f64| share,
            |row: &PortfolioRow| row.risk_share
        ),
    }
}
