//! Buying and selling.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, NaiveDate, Utc};
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
use crate::api::schema::{self, Decimal};
use crate::commands::{AssetRef, Command};
use crate::domain::currency::Currency;
use crate::domain::dates;
use crate::domain::fields::Fields;
use crate::domain::ids::{AssetId, PortfolioId};
use crate::domain::money::{Amount, Price, Quantity, Rate};
use crate::domain::portfolio::command::{PortfolioCommand, TradeCommand};
use crate::domain::portfolio::event::Settlement;
use crate::domain::rejection::Rejection;

/// What is bought or sold.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = Trade, example = json!({
    "asset": "AAPL", "quantity": "10", "price": "182.31", "fee": "1", "trade_date": "2024-03-01"
}))]
pub(crate) struct Body {
    /// The asset's id or symbol.
    #[schema(value_type = String)]
    asset: Field<AssetRef>,
    /// Units, more than 0, below 10¹⁵.
    #[schema(value_type = Decimal)]
    quantity: Field<Quantity>,
    /// Price of one unit in quote units, more than 0, below 10¹⁵.
    #[schema(value_type = Decimal)]
    price: Field<Price>,
    /// Fee in the asset's currency; 0 if not told.
    #[schema(value_type = Option<Decimal>)]
    fee: Field<Amount>,
    /// Tax in the asset's currency; 0 if not told.
    #[schema(value_type = Option<Decimal>)]
    tax: Field<Amount>,
    /// Confirms the asset's currency: another one is refused.
    #[schema(value_type = Option<String>)]
    currency: Field<Currency>,
    /// Units of base for one unit of the asset's currency; wins over market rates for this trade.
    #[schema(value_type = Option<Decimal>)]
    fx_rate: Field<Rate>,
    /// In which currency it is paid: `asset` (default) or `base`, at `fx_rate`.
    #[schema(value_type = Option<schema::Settlement>)]
    settle: Field<Settlement>,
    /// The day of the trade; today in the portfolio's zone if not told. May lie in the past.
    #[schema(value_type = Option<NaiveDate>)]
    trade_date: Field<NaiveDate>,
    /// The instant of the trade, with zone; now if not told.
    #[schema(value_type = Option<DateTime<Utc>>)]
    occurred_at: Field<DateTime<Utc>>,
    /// A remark.
    #[schema(value_type = Option<String>)]
    note: Field<String>,
}

/// A trade as it was read: the asset is looked up by the write side.
struct Told {
    asset: AssetRef,
    command: TradeCommand,
    occurred_at: Option<DateTime<Utc>>,
}

impl Body {
    fn told(self, now: DateTime<Utc>) -> Result<Told, Rejection> {
        let mut fields = Fields::new();
        let asset = self.asset.required("asset", &mut fields);
        let quantity = self.quantity.required("quantity", &mut fields);
        let price = self.price.required("price", &mut fields);
        let fee = self.fee.optional("fee", &mut fields).unwrap_or_default();
        let tax = self.tax.optional("tax", &mut fields).unwrap_or_default();
        let currency = self.currency.optional("currency", &mut fields);
        let fx_rate = self.fx_rate.optional("fx_rate", &mut fields);
        let settle = self.settle.optional("settle", &mut fields).unwrap_or_default();
        let trade_date = self.trade_date.optional("trade_date", &mut fields);
        let occurred_at = self.occurred_at.optional("occurred_at", &mut fields);
        if let Some(at) = occurred_at {
            fields.take("occurred_at", dates::check_instant(at, now));
        }
        let note = self.note.optional("note", &mut fields);
        let (Some(asset), Some(quantity), Some(price)) = (asset, quantity, price) else {
            return Err(fields.rejection());
        };
        fields.finish()?;
        let asset_id = match asset {
            AssetRef::Id(id) => id,
            AssetRef::Symbol(_) => AssetId(uuid::Uuid::nil()),
        };
        let command =
            TradeCommand { asset_id, quantity, price, fee, tax, currency, fx_rate, settle, trade_date, note };
        Ok(Told { asset, command, occurred_at })
    }
}

/// Buy units of an asset
///
/// Paid from cash where the portfolio tracks it; short lots are closed first.
#[utoipa::path(post, path = "/v1/portfolios/{id}/buy", tag = "portfolios", operation_id = "buy",
    params(("id" = Uuid, Path, description = "The portfolio"), ChangeHeaders), request_body = Body,
    responses((status = 201, description = "Bought", body = CommandAnswer), ChangeProblems))]
pub(crate) async fn buy(
    State(api): State<Arc<Api>>,
    InPath(portfolio_id): InPath<PortfolioId>,
    headers: CommandHeaders,
    body: Json<Body>,
) -> Result<Response, Problem> {
    trade(&api, portfolio_id, headers, body, PortfolioCommand::Buy).await
}

/// Sell units of an asset
///
/// Lots leave by the portfolio's cost basis. More than is held on any day from the trade date on is refused, unless the
/// portfolio allows short selling.
#[utoipa::path(post, path = "/v1/portfolios/{id}/sell", tag = "portfolios", operation_id = "sell",
    params(("id" = Uuid, Path, description = "The portfolio"), ChangeHeaders), request_body = Body,
    responses((status = 201, description = "Sold", body = CommandAnswer), ChangeProblems))]
pub(crate) async fn sell(
    State(api): State<Arc<Api>>,
    InPath(portfolio_id): InPath<PortfolioId>,
    headers: CommandHeaders,
    body: Json<Body>,
) -> Result<Response, Problem> {
    trade(&api, portfolio_id, headers, body, PortfolioCommand::Sell).await
}

async fn trade(
    api: &Api,
    portfolio_id: PortfolioId,
    headers: CommandHeaders,
    body: Json<Body>,
    side: fn(TradeCommand) -> PortfolioCommand,
) -> Result<Response, Problem> {
    let hash = body.hash(headers.if_match, &[])?;
    let Told { asset, command, occurred_at } = body.value.told(api.clock.now())?;
    let command = Command::Portfolio { portfolio_id, asset: Some(asset), command: side(command) };
    api.change(Wish { command, headers, hash, occurred_at }).await
}
