//! Opening a portfolio, and changing how its history is accounted.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::Api;
use crate::api::answer::{CommandAnswer, Wish};
use crate::api::body::Json;
use crate::api::fields::Field;
use crate::api::headers::CommandHeaders;
use crate::api::openapi::{ChangeProblems, CreateProblems};
use crate::api::parameters::{ChangeHeaders, CreateHeaders};
use crate::api::path::InPath;
use crate::api::problem::Problem;
use crate::api::schema;
use crate::commands::Command;
use crate::domain::currency::Currency;
use crate::domain::fields::Fields;
use crate::domain::ids::{InvestorId, PortfolioId};
use crate::domain::portfolio::command::{ChangeAccounting, OpenPortfolio, PortfolioCommand};
use crate::domain::portfolio::event::{CashMode, CostBasis};
use crate::domain::rejection::Rejection;

/// What is opened.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = OpenPortfolio, example = json!({
    "investor_id": "019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90", "name": "Retirement", "base_currency": "USD",
    "time_zone": "America/New_York", "cost_basis": "fifo", "cash": "tracked"
}))]
pub(crate) struct OpenBody {
    /// Whose it is.
    #[schema(value_type = Uuid)]
    investor_id: Field<InvestorId>,
    /// What it is called.
    #[schema(value_type = String)]
    name: Field<String>,
    /// The currency it reports in. Never changes.
    #[schema(value_type = String, max_length = 8)]
    base_currency: Field<Currency>,
    /// IANA zone that decides which day today is; `UTC` if not told.
    #[schema(value_type = Option<String>)]
    time_zone: Field<String>,
    /// Which lots a sale takes: `fifo` (default), `lifo`, `hifo` (smallest gain first) or `average`.
    #[schema(value_type = Option<schema::CostBasis>)]
    cost_basis: Field<CostBasis>,
    /// Whether fees and taxes of a buy are part of its cost; `false` if not told.
    #[schema(value_type = Option<bool>)]
    fees_in_cost: Field<bool>,
    /// Whether a cash ledger is kept: `tracked` or `untracked` (default). Never changes.
    #[schema(value_type = Option<schema::CashMode>)]
    cash: Field<CashMode>,
    /// Whether more may be sold than is held; `false` if not told. Never changes.
    #[schema(value_type = Option<bool>)]
    allow_short: Field<bool>,
}

impl OpenBody {
    fn command(self, portfolio_id: PortfolioId) -> Result<OpenPortfolio, Rejection> {
        let mut fields = Fields::new();
        let investor_id = self.investor_id.required("investor_id", &mut fields);
        let name = self.name.required("name", &mut fields);
        let base_currency = self.base_currency.required("base_currency", &mut fields);
        let time_zone = self.time_zone.optional("time_zone", &mut fields);
        let cost_basis = self.cost_basis.optional("cost_basis", &mut fields).unwrap_or_default();
        let fees_in_cost = self.fees_in_cost.optional("fees_in_cost", &mut fields).unwrap_or_default();
        let cash = self.cash.optional("cash", &mut fields).unwrap_or_default();
        let allow_short = self.allow_short.optional("allow_short", &mut fields).unwrap_or_default();
        let (Some(investor_id), Some(name), Some(base_currency)) = (investor_id, name, base_currency) else {
            return Err(fields.rejection());
        };
        fields.finish()?;
        Ok(OpenPortfolio {
            portfolio_id,
            investor_id,
            name,
            base_currency,
            time_zone,
            cost_basis,
            fees_in_cost,
            cash,
            allow_short,
        })
    }
}

/// What changes; the rest stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = ChangeSettings, example = json!({"name": "Retirement, Lisbon", "cost_basis": "average"}))]
pub(crate) struct SettingsBody {
    /// New name.
    #[schema(value_type = Option<String>)]
    name: Field<String>,
    /// New cost basis, for the whole history: `fifo`, `lifo`, `hifo` or `average`.
    #[schema(value_type = Option<schema::CostBasis>)]
    cost_basis: Field<CostBasis>,
    /// New treatment of fees, for the whole history.
    #[schema(value_type = Option<bool>)]
    fees_in_cost: Field<bool>,
}

impl SettingsBody {
    fn command(self) -> Result<ChangeAccounting, Rejection> {
        let mut fields = Fields::new();
        let name = self.name.optional("name", &mut fields);
        let cost_basis = self.cost_basis.optional("cost_basis", &mut fields);
        let fees_in_cost = self.fees_in_cost.optional("fees_in_cost", &mut fields);
        fields.finish()?;
        Ok(ChangeAccounting { name, cost_basis, fees_in_cost })
    }
}

/// Open a portfolio
///
/// A ledger of its own, for one investor. Base currency, cash and short selling are fixed here.
#[utoipa::path(post, path = "/v1/portfolios", tag = "portfolios", operation_id = "openPortfolio",
    params(CreateHeaders), request_body = OpenBody,
    responses((status = 201, description = "Opened", body = CommandAnswer), CreateProblems))]
pub(crate) async fn open(
    State(api): State<Arc<Api>>,
    headers: CommandHeaders,
    body: Json<OpenBody>,
) -> Result<Response, Problem> {
    let headers = headers.without_version()?;
    let hash = body.hash(None, &[])?;
    let portfolio_id = PortfolioId(Uuid::now_v7());
    let command = PortfolioCommand::Open(body.value.command(portfolio_id)?);
    let command = Command::Portfolio { portfolio_id, asset: None, command };
    api.create("/v1/portfolios", Wish { command, headers, hash, occurred_at: None }).await
}

/// Change a portfolio's settings
///
/// Cost basis and treatment of fees change for the whole history.
#[utoipa::path(post, path = "/v1/portfolios/{id}/settings", tag = "portfolios", operation_id = "changeSettings",
    params(("id" = Uuid, Path, description = "The portfolio"), ChangeHeaders), request_body = SettingsBody,
    responses((status = 201, description = "Changed", body = CommandAnswer),
        (status = 200, description = "They were so before", body = CommandAnswer), ChangeProblems))]
pub(crate) async fn change_settings(
    State(api): State<Arc<Api>>,
    InPath(portfolio_id): InPath<PortfolioId>,
    headers: CommandHeaders,
    body: Json<SettingsBody>,
) -> Result<Response, Problem> {
    let hash = body.hash(headers.if_match, &[])?;
    let command = PortfolioCommand::ChangeAccounting(body.value.command()?);
    let command = Command::Portfolio { portfolio_id, asset: None, command };
    api.change(Wish { command, headers, hash, occurred_at: None }).await
}
