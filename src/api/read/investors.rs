//! Investors: who there is, and what they own.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::answer::send;
use super::portfolios::Portfolio;
use super::{Answered, List, One, Page, failed};
use crate::api::Api;
use crate::api::openapi::{FindProblems, ListProblems};
use crate::api::parameters::ReadHeaders;
use crate::api::path::InPath;
use crate::api::problem::Problem;
use crate::api::query::Query;
use crate::api::schema::{self, Decimal};
use crate::domain::fields::Fields;
use crate::domain::ids::InvestorId;
use crate::domain::money::Amount;
use crate::queries::directory::{self, InvestorRow, InvestorTotal};

/// An investor.
#[derive(Serialize, ToSchema)]
pub(crate) struct Investor {
    /// The investor.
    id: Uuid,
    /// Name; null once erased.
    name: Option<String>,
    /// E-mail; null once erased.
    email: Option<String>,
    /// How much risk they say they bear.
    #[schema(value_type = Option<schema::RiskTolerance>)]
    risk_tolerance: Option<String>,
    /// How experienced they say they are.
    #[schema(value_type = Option<schema::ExperienceLevel>)]
    experience_level: Option<String>,
    /// When they registered.
    registered_at: DateTime<Utc>,
    /// The version of the stream: what `If-Match` takes.
    version: i64,
    /// How many portfolios they have.
    portfolio_count: i64,
}

/// An investor with what they own.
#[derive(Serialize, ToSchema)]
pub(crate) struct InvestorWithPortfolios {
    #[serde(flatten)]
    investor: Investor,
    /// The first 500 of their portfolios, by name.
    portfolios: Vec<Portfolio>,
    /// What these are worth, by base currency.
    totals: Vec<Total>,
}

/// What portfolios of one base currency are worth together.
#[derive(Serialize, ToSchema)]
pub(crate) struct Total {
    /// The base currency.
    #[schema(example = "USD")]
    base_currency: String,
    /// The sum of their total values.
    #[schema(value_type = Decimal)]
    total_value_base: Amount,
    /// Something in it could not be priced, or was not valued yet, and is left out.
    incomplete: bool,
}

impl From<InvestorRow> for Investor {
    fn from(row: InvestorRow) -> Self {
        Self {
            id: row.investor_id,
            name: row.name,
            email: row.email,
            risk_tolerance: row.risk_tolerance,
            experience_level: row.experience_level,
            registered_at: row.registered_at,
            version: row.version,
            portfolio_count: row.portfolios,
        }
    }
}

impl From<directory::InvestorWithPortfolios> for InvestorWithPortfolios {
    fn from(found: directory::InvestorWithPortfolios) -> Self {
        let total = |total: InvestorTotal| Total {
            base_currency: total.currency,
            total_value_base: Amount::from_decimal(total.total_value_base),
            incomplete: total.incomplete,
        };
        Self {
            investor: found.investor.into(),
            portfolios: found.portfolios.into_iter().map(Portfolio::from).collect(),
            totals: found.totals.into_iter().map(total).collect(),
        }
    }
}

/// List investors
///
/// In the order of registration.
#[utoipa::path(get, path = "/v1/investors", tag = "investors", operation_id = "listInvestors",
    params(List, ReadHeaders),
    responses((status = 200, description = "A page", body = Answered<Page<Investor>>), ListProblems))]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Query(list): Query<List>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut fields = Fields::new();
    let (page, freshness) = list.read(&mut fields);
    fields.finish()?;
    api.wait_for(&freshness, &["directory"], None).await?;
    let answer = directory::list_investors(&api.pool, &page).await.map_err(failed)?;
    Ok(send(&request, answer, Page::<Investor>::of))
}

/// Find an investor
///
/// With their portfolios and what these are worth.
#[utoipa::path(get, path = "/v1/investors/{id}", tag = "investors", operation_id = "findInvestor",
    params(("id" = Uuid, Path, description = "The investor"), One, ReadHeaders),
    responses((status = 200, description = "The investor", body = Answered<InvestorWithPortfolios>), FindProblems))]
pub(crate) async fn find(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<InvestorId>,
    Query(one): Query<One>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    api.wait_for(&one.read()?, &["directory", "valuations"], None).await?;
    let found = directory::find_investor(&api.pool, id).await.map_err(failed)?;
    let answer = found.ok_or_else(|| Problem::not_found("investor"))?;
    Ok(send(&request, answer, InvestorWithPortfolios::from))
}
