//! Portfolios: their settings, with a summary of what they are worth and what could be lost; the first by a figure.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::answer::{last_modified, send};
use super::conflated::Kept;
use super::{Answered, List, One, Page, failed};
use crate::api::Api;
use crate::api::fields::{Field, FieldValue};
use crate::api::openapi::{FindProblems, ListProblems};
use crate::api::parameters::{DatedHeaders, ReadHeaders};
use crate::api::path::InPath;
use crate::api::problem::Problem;
use crate::api::query::{Freshness, Limit, Place, Query, SearchText, Statistic, WaitMs};
use crate::api::schema::{self, Decimal};
use crate::domain::fields::Fields;
use crate::domain::ids::{InvestorId, PortfolioId};
use crate::domain::money::Amount;
use crate::queries::directory::{self, OrderBy, PortfolioFilter, PortfolioOrder, PortfolioRow, RiskBand};
use crate::queries::{self, PageRequest};

/// How old an answer may be that many ask for; it says which place it is of.
const LISTS_GOOD_FOR: Duration = Duration::from_millis(100);
/// How many `top` has unless told.
const TOP_DEFAULT: u32 = 10;

/// A portfolio with its settings.
#[derive(Serialize, ToSchema)]
pub(crate) struct Portfolio {
    /// The portfolio.
    id: Uuid,
    /// Whose it is.
    investor_id: Uuid,
    /// What it is called.
    #[schema(example = "Retirement")]
    name: String,
    /// The currency it reports in.
    #[schema(example = "USD")]
    base_currency: String,
    /// IANA zone that decides which day today is.
    #[schema(example = "UTC")]
    time_zone: String,
    /// Which lots a sale takes.
    #[schema(value_type = schema::CostBasis)]
    cost_basis: String,
    /// Whether fees and taxes of a buy are part of its cost.
    fees_in_cost: bool,
    /// Whether a cash ledger is kept.
    #[schema(value_type = schema::CashMode)]
    cash: String,
    /// Whether more may be sold than is held.
    allow_short: bool,
    /// When it was opened.
    opened_at: DateTime<Utc>,
    /// The version of the stream: what `If-Match` takes.
    version: i64,
    /// What it is worth and what could be lost; null until that is known.
    summary: Option<Summary>,
}

/// A portfolio in a few figures, in its base currency.
#[derive(Serialize, ToSchema)]
pub(crate) struct Summary {
    /// Holdings and cash.
    #[schema(value_type = Decimal)]
    total_value_base: Amount,
    /// Holdings.
    #[schema(value_type = Option<Decimal>)]
    market_value_base: Option<Amount>,
    /// Cash.
    #[schema(value_type = Option<Decimal>)]
    cash_base: Option<Amount>,
    /// What the holdings cost.
    #[schema(value_type = Option<Decimal>)]
    cost_base: Option<Amount>,
    /// Market value less cost.
    #[schema(value_type = Option<Decimal>)]
    unrealized_gain_base: Option<Amount>,
    /// A price or rate is missing: the values are of what is priced.
    incomplete: bool,
    /// A rate of a purchase is missing: cost and gain are of what is known.
    cost_incomplete: bool,
    /// How many holdings and balances have no value.
    unpriced: i32,
    /// How many assets are held.
    asset_count: i32,
    /// Value at risk of one day at 99 %; a loss is positive. Null until it was computed, like what follows.
    value_at_risk_99: Option<f64>,
    /// The same as a share of gross exposure.
    risk_share: Option<f64>,
    /// The band of the volatility: `low` below 0.15, `medium`, `high` from 0.25 on.
    risk_band: Option<String>,
    /// Annual volatility of today's holdings, from closes and their correlation: 0.2 is 20 %.
    volatility: Option<f64>,
    /// Sharpe ratio of today's holdings, from the same closes.
    sharpe: Option<f64>,
}

impl From<PortfolioRow> for Portfolio {
    fn from(row: PortfolioRow) -> Self {
        let amount = |value: Option<_>| value.map(Amount::from_decimal);
        let summary = row.total_value_base.map(|total| Summary {
            total_value_base: Amount::from_decimal(total),
            market_value_base: amount(row.market_value_base),
            cash_base: amount(row.cash_base),
            cost_base: amount(row.cost_base),
            unrealized_gain_base: amount(row.unrealized_gain_base),
            incomplete: row.incomplete.unwrap_or(true),
            cost_incomplete: row.cost_incomplete.unwrap_or(true),
            unpriced: row.unpriced.unwrap_or_default(),
            asset_count: row.asset_count.unwrap_or_default(),
            value_at_risk_99: row.value_at_risk_99,
            risk_share: row.risk_share,
            risk_band: row.risk_band,
            volatility: row.volatility,
            sharpe: row.sharpe,
        });
        Self {
            id: row.portfolio_id,
            investor_id: row.investor_id,
            name: row.name,
            base_currency: row.base_currency,
            time_zone: row.time_zone,
            cost_basis: row.cost_basis,
            fees_in_cost: row.fees_in_cost,
            cash: row.cash,
            allow_short: row.allow_short,
            opened_at: row.opened_at,
            version: row.version,
            summary,
        }
    }
}

/// Which portfolios, and in which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Of this investor.
    #[param(value_type = Option<Uuid>)]
    investor_id: Field<InvestorId>,
    /// Whose name has this in it, in any case.
    #[param(value_type = Option<String>)]
    name: Field<SearchText>,
    /// In this band of annual volatility: `low` below 0.15, `medium`, `high` from 0.25 on.
    #[param(value_type = Option<String>)]
    risk_band: Field<RiskBand>,
    /// With at least this Sharpe ratio; those that have none are left out.
    #[param(value_type = Option<f64>)]
    min_sharpe: Field<Statistic>,
    /// Worth at least this, in base currency.
    #[param(value_type = Option<Decimal>)]
    value_min: Field<Amount>,
    /// Worth at most this, in base currency.
    #[param(value_type = Option<Decimal>)]
    value_max: Field<Amount>,
    /// `name` (default), `asset_count`, `volatility`, `sharpe`, `value` or `risk` (value at risk as a share of exposure); with
    /// `-` before it the greatest first. Values are compared as numbers, whatever the base currency.
    #[param(value_type = Option<String>)]
    order: Field<PortfolioOrder>,
    /// Where the page begins: `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Field<String>,
    /// Rows of the page: 1 to 500; 50 if not told.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Field<Limit>,
    /// A place that the answer must have seen: the `place` of a command's answer, such as `1:901`.
    #[param(value_type = Option<String>)]
    min_position: Field<Place>,
    /// How long to wait for it, in milliseconds: 0 to 10,000; 2,000 if not told.
    #[param(value_type = Option<u32>)]
    max_wait_ms: Field<WaitMs>,
}

impl FieldValue for RiskBand {
    const EXPECTED: &'static str = "one of low, medium, high";
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "low" => Ok(Self::Low),
            "medium" => Ok(Self::Medium),
            "high" => Ok(Self::High),
            _ => Err(Self::refusal()),
        }
    }
}

impl FieldValue for OrderBy {
    const EXPECTED: &'static str = "one of name, asset_count, volatility, sharpe, value, risk";
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "name" => Ok(Self::Name),
            "asset_count" => Ok(Self::AssetCount),
            "volatility" => Ok(Self::Volatility),
            "sharpe" => Ok(Self::Sharpe),
            "value" => Ok(Self::Value),
            "risk" => Ok(Self::Risk),
            _ => Err(Self::refusal()),
        }
    }
}

impl FieldValue for PortfolioOrder {
    const EXPECTED: &'static str =
        "one of name, asset_count, volatility, sharpe, value, risk, or the same with - before it";
    fn from_text(text: &str) -> Result<Self, String> {
        let (by, descending) = text.strip_prefix('-').map_or((text, false), |by| (by, true));
        OrderBy::from_text(by).map(|by| Self { by, descending }).map_err(|_| Self::refusal())
    }
}

/// What the first portfolios are the first by.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhichTop {
    /// `sharpe` (default), `volatility`, `value`, `risk`, `asset_count` or `name`: the greatest first.
    #[param(value_type = Option<String>)]
    by: Field<OrderBy>,
    /// Only those in this band of annual volatility.
    #[param(value_type = Option<String>)]
    risk_band: Field<RiskBand>,
    /// How many: 1 to 500; 10 if not told.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Field<Limit>,
    /// A place that the answer must have seen: the `place` of a command's answer, such as `1:901`.
    #[param(value_type = Option<String>)]
    min_position: Field<Place>,
    /// How long to wait for it, in milliseconds: 0 to 10,000; 2,000 if not told.
    #[param(value_type = Option<u32>)]
    max_wait_ms: Field<WaitMs>,
}

/// The first portfolios by a figure.
#[derive(Serialize, ToSchema)]
pub(crate) struct Top {
    /// What they are the first by.
    #[schema(example = "sharpe")]
    by: &'static str,
    /// The portfolios, the greatest first. Those without the figure come last.
    items: Vec<Portfolio>,
}

/// List portfolios
///
/// By name or by a figure. Those without the figure come last. The same question within a tenth of a second may get the same
/// answer, unless it names a place that this has not seen.
#[utoipa::path(get, path = "/v1/portfolios", tag = "portfolios", operation_id = "listPortfolios",
    params(Which, DatedHeaders),
    responses((status = 200, description = "A page", body = Answered<Page<Portfolio>>), ListProblems))]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Query(which): Query<Which>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut fields = Fields::new();
    let filter = PortfolioFilter {
        investor_id: which.investor_id.optional("investor_id", &mut fields),
        name: which.name.optional("name", &mut fields).map(|SearchText(name)| name),
        risk_band: which.risk_band.optional("risk_band", &mut fields),
        min_sharpe: which.min_sharpe.optional("min_sharpe", &mut fields).map(|Statistic(min)| min),
        value_min: which.value_min.optional("value_min", &mut fields).map(Amount::decimal),
        value_max: which.value_max.optional("value_max", &mut fields).map(Amount::decimal),
    };
    let order = which.order.optional("order", &mut fields).unwrap_or_default();
    let Which { after, limit, min_position, max_wait_ms, .. } = which;
    let (page, freshness) = List { after, limit, min_position, max_wait_ms }.read(&mut fields);
    fields.finish()?;
    let kept = api.portfolios(&filter, order, &page, &freshness, Page::<Portfolio>::of).await?;
    Ok(kept.rendered.send_dated(
        &request,
        kept.as_of,
        kept.parked,
        last_modified(&kept.as_of, api.clock.now()),
    ))
}

/// Find the first portfolios by a figure
///
/// By Sharpe ratio unless told otherwise, the greatest first.
#[utoipa::path(get, path = "/v1/portfolios/top", tag = "portfolios", operation_id = "findTopPortfolios",
    params(WhichTop, DatedHeaders),
    responses((status = 200, description = "The first ones", body = Answered<Top>), ListProblems))]
pub(crate) async fn find_top(
    State(api): State<Arc<Api>>,
    Query(which): Query<WhichTop>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut fields = Fields::new();
    let by = which.by.optional("by", &mut fields).unwrap_or(OrderBy::Sharpe);
    let risk_band = which.risk_band.optional("risk_band", &mut fields);
    let limit = which.limit.optional("limit", &mut fields).map_or(TOP_DEFAULT, |Limit(limit)| limit);
    let freshness = Freshness::read(which.min_position, which.max_wait_ms, &mut fields);
    fields.finish()?;
    let filter = PortfolioFilter { risk_band, ..PortfolioFilter::default() };
    let order = PortfolioOrder { by, descending: true };
    let page = PageRequest { after: None, limit };
    let top = |page: queries::Page<PortfolioRow>| Top {
        by: name_of(by),
        items: page.items.into_iter().map(Portfolio::from).collect(),
    };
    let kept = api.portfolios(&filter, order, &page, &freshness, top).await?;
    Ok(kept.rendered.send_dated(
        &request,
        kept.as_of,
        kept.parked,
        last_modified(&kept.as_of, api.clock.now()),
    ))
}

fn name_of(by: OrderBy) -> &'static str {
    match by {
        OrderBy::Name => "name",
        OrderBy::AssetCount => "asset_count",
        OrderBy::Volatility => "volatility",
        OrderBy::Sharpe => "sharpe",
        OrderBy::Value => "value",
        OrderBy::Risk => "risk",
    }
}

impl Api {
    /// A page of portfolios as `document` shows it: read, or what was read for the same question a moment ago.
    async fn portfolios<T: Serialize>(
        &self,
        filter: &PortfolioFilter,
        order: PortfolioOrder,
        page: &PageRequest,
        freshness: &Freshness,
        document: impl Fn(queries::Page<PortfolioRow>) -> T,
    ) -> Result<Arc<Kept>, Problem> {
        self.wait_for(freshness, &filter.read_models(order.by), None).await?;
        let shown_as = std::any::type_name::<T>();
        let question = format!("{shown_as} {filter:?} {order:?} {page:?}");
        let read = async {
            let answer = directory::list_portfolios(&self.pool, filter, order, page).await.map_err(failed)?;
            Ok(Kept::of(answer, document))
        };
        self.conflated.get(question, LISTS_GOOD_FOR, freshness.min_position, read).await
    }
}

/// Find a portfolio
///
/// Its settings, its version, and a summary of what it is worth and could lose.
#[utoipa::path(get, path = "/v1/portfolios/{id}", tag = "portfolios", operation_id = "findPortfolio",
    params(("id" = Uuid, Path, description = "The portfolio"), One, ReadHeaders),
    responses((status = 200, description = "The portfolio", body = Answered<Portfolio>), FindProblems))]
pub(crate) async fn find(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<PortfolioId>,
    Query(one): Query<One>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    api.wait_for(&one.read()?, &["directory", "valuations"], Some(id)).await?;
    let found = directory::find_portfolio(&api.pool, id).await.map_err(failed)?;
    let answer = found.ok_or_else(|| Problem::not_found("portfolio"))?;
    Ok(send(&request, answer, Portfolio::from))
}
