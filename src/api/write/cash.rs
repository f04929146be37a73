//! Cash in and out of a portfolio that tracks it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use chrono::NaiveDate;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::answer::{CommandAnswer, Wish};
use crate::api::body::Json;
use crate::api::fields::Field;
use crate::api::headers::CommandHeaders;
use crate::api::openapi::ChangeProblems;
use crate::api::parameters::ChangeHeaders;
use crate::api::path::InPath;
use crate::api::problem::Problem;
use crate::api::schema::Decimal;
use crate::commands::Command;
use crate::domain::currency::Currency;
use crate::domain::fields::Fields;
use crate::domain::ids::PortfolioId;
use crate::domain::money::Amount;
use crate::domain::portfolio::command::{CashCommand, PortfolioCommand};
use crate::domain::rejection::Rejection;

/// What comes in or goes out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = CashMovement, example = json!({"amount": "5000", "currency": "USD", "trade_date": "2024-03-01"}))]
pub(crate) struct Body {
    /// How much, more than 0, in the currency's minor unit.
    #[schema(value_type = Decimal)]
    amount: Field<Amount>,
    /// Of what; the portfolio's base currency if not told.
    #[schema(value_type = Option<String>)]
    currency: Field<Currency>,
    /// The day; today in the portfolio's zone if not told. May lie in the past.
    #[schema(value_type = Option<NaiveDate>)]
    trade_date: Field<NaiveDate>,
    /// A remark.
    #[schema(value_type = Option<String>)]
    note: Field<String>,
}

impl Body {
    fn command(self) -> Result<CashCommand, Rejection> {
        let mut fields = Fields::new();
        let amount = self.amount.required("amount", &mut fields);
        let currency = self.currency.optional("currency", &mut fields);
        let trade_date = self.trade_date.optional("trade_date", &mut fields);
        let note = self.note.optional("note", &mut fields);
        let Some(amount) = amount else { return Err(fields.rejection()) };
        fields.finish()?;
        Ok(CashCommand { amount, currency, trade_date, note })
    }
}

/// Deposit cash
///
/// Only where the portfolio tracks cash.
#[utoipa::path(post, path = "/v1/portfolios/{id}/deposit", tag = "portfolios", operation_id = "deposit",
    params(("id" = Uuid, Path, description = "The portfolio"), ChangeHeaders), request_body = Body,
    responses((status = 201, description = "Deposited", body = CommandAnswer), ChangeProblems))]
pub(crate) async fn deposit(
    State(api): State<Arc<Api>>,
    InPath(portfolio_id): InPath<PortfolioId>,
    headers: CommandHeaders,
    body: Json<Body>,
) -> Result<Response, Problem> {
    move_cash(&api, portfolio_id, headers, body, PortfolioCommand::Deposit).await
}

/// Withdraw cash
///
/// Only where the portfolio tracks cash, and never more than is there on any day from the trade date on.
#[utoipa::path(post, path = "/v1/portfolios/{id}/withdraw", tag = "portfolios", operation_id = "withdraw",
    params(("id" = Uuid, Path, description = "The portfolio"), ChangeHeaders), request_body = Body,
    responses((status = 201, description = "Withdrawn", body = CommandAnswer), ChangeProblems))]
pub(crate) async fn withdraw(
    State(api): State<Arc<Api>>,
    InPath(portfolio_id): InPath<PortfolioId>,
    headers: CommandHeaders,
    body: Json<Body>,
) -> Result<Response, Problem> {
    move_cash(&api, portfolio_id, headers, body, PortfolioCommand::Withdraw).await
}

async fn move_cash(
    api: &Api,
    portfolio_id: PortfolioId,
    headers: CommandHeaders,
    body: Json<Body>,
    direction: fn(CashCommand) -> PortfolioCommand,
) -> Result<Response, Problem> {
    let hash = body.hash(headers.if_match, &[])?;
    let command = direction(body.value.command()?);
    let command = Command::Portfolio { portfolio_id, asset: None, command };
    api.change(Wish { command, headers, hash, occurred_at: None }).await
}
