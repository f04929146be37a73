//! Listing an asset under a unique symbol, and ranking the sources its prices are believed from.

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
use crate::api::schema::{self, Decimal};
use crate::commands::{AssetRef, Command};
use crate::domain::asset::{Adjustment, AssetClass, ListAsset, RankSources, RankedSource};
use crate::domain::currency::{Currency, Symbol};
use crate::domain::fields::Fields;
use crate::domain::ids::AssetId;
use crate::domain::money::Rate;
use crate::domain::rejection::Rejection;

/// What is listed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = ListAsset, example = json!({
    "symbol": "AAPL", "name": "Apple Inc.", "class": "equity", "currency": "USD", "isin": "US0378331005"
}))]
pub(crate) struct ListBody {
    /// Its symbol, unique: 1 to 20 capital letters, digits or any of `. - ^ = /`.
    #[schema(value_type = String, max_length = 20)]
    symbol: Field<Symbol>,
    /// Its name.
    #[schema(value_type = String, max_length = 200)]
    name: Field<String>,
    /// `equity`, `etf`, `fund`, `bond`, `crypto`, `commodity` or `fx` (an exchange rate, which cannot be bought).
    #[schema(value_type = schema::AssetClass)]
    class: Field<AssetClass>,
    /// The currency it is quoted and paid in.
    #[schema(value_type = String, max_length = 8)]
    currency: Field<Currency>,
    /// Units of the currency in one unit of the price: `1` if not told, `0.01` for pence.
    #[schema(value_type = Option<Decimal>)]
    quote_unit: Field<Rate>,
    /// ISIN.
    #[schema(value_type = Option<String>)]
    isin: Field<String>,
    /// Where it is traded.
    #[schema(value_type = Option<String>, max_length = 50)]
    exchange: Field<String>,
}

impl ListBody {
    fn command(self, asset_id: AssetId) -> Result<ListAsset, Rejection> {
        let mut fields = Fields::new();
        let symbol = self.symbol.required("symbol", &mut fields);
        let name = self.name.required("name", &mut fields);
        let class = self.class.required("class", &mut fields);
        let currency = self.currency.required("currency", &mut fields);
        let quote_unit = self.quote_unit.optional("quote_unit", &mut fields);
        let isin = self.isin.optional("isin", &mut fields);
        let exchange = self.exchange.optional("exchange", &mut fields);
        let (Some(symbol), Some(name), Some(class), Some(currency)) = (symbol, name, class, currency) else {
            return Err(fields.rejection());
        };
        fields.finish()?;
        Ok(ListAsset { asset_id, symbol, name, class, currency, quote_unit, isin, exchange })
    }
}

/// The order in which an asset's sources are believed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = RankSources, example = json!({
    "sources": [{"source": "exchange", "adjustment": "none"}, {"source": "vendor", "adjustment": "splits_and_dividends"}]
}))]
pub(crate) struct SourcesBody {
    /// The sources, the most believed first; at most 20.
    sources: Vec<SourceBody>,
}

/// A source of prices.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = RankedSource)]
pub(crate) struct SourceBody {
    /// Its name: 1 to 50 small letters, digits or any of `. _ -`.
    #[schema(value_type = String, max_length = 50)]
    source: Field<String>,
    /// What its prices are corrected for backwards: `none`, `splits` or `splits_and_dividends`. Never changes once given.
    #[schema(value_type = schema::Adjustment)]
    adjustment: Field<Adjustment>,
}

impl SourcesBody {
    fn command(self) -> Result<RankSources, Rejection> {
        let mut fields = Fields::new();
        let mut sources = Vec::with_capacity(self.sources.len());
        for (i, body) in self.sources.into_iter().enumerate() {
            let source = body.source.required(&format!("sources[{i}].source"), &mut fields);
            let adjustment = body.adjustment.required(&format!("sources[{i}].adjustment"), &mut fields);
            if let (Some(source), Some(adjustment)) = (source, adjustment) {
                sources.push(RankedSource { source, adjustment });
            }
        }
        fields.finish()?;
        Ok(RankSources { sources })
    }
}

/// List an asset
///
/// From now on it can be traded and priced, by its id or its symbol.
#[utoipa::path(post, path = "/v1/assets", tag = "assets", operation_id = "listAsset",
    params(CreateHeaders), request_body = ListBody,
    responses((status = 201, description = "Listed", body = CommandAnswer), CreateProblems))]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    headers: CommandHeaders,
    body: Json<ListBody>,
) -> Result<Response, Problem> {
    let headers = headers.without_version()?;
    let hash = body.hash(None, &[])?;
    let command = body.value.command(AssetId(Uuid::now_v7()))?;
    let wish = Wish { command: Command::ListAsset(command), headers, hash, occurred_at: None };
    api.create("/v1/assets", wish).await
}

/// Rank an asset's sources of prices
///
/// The live price is the newest tick of the best-ranked source that is not stale.
#[utoipa::path(post, path = "/v1/assets/{asset}/sources", tag = "assets", operation_id = "rankSources",
    params(("asset" = String, Path, description = "Id or symbol", example = "AAPL"), ChangeHeaders),
    request_body = SourcesBody,
    responses((status = 201, description = "Ranked", body = CommandAnswer),
        (status = 200, description = "They were ranked so before", body = CommandAnswer), ChangeProblems))]
pub(crate) async fn rank_sources(
    State(api): State<Arc<Api>>,
    InPath(asset): InPath<AssetRef>,
    headers: CommandHeaders,
    body: Json<SourcesBody>,
) -> Result<Response, Problem> {
    let hash = body.hash(headers.if_match, &[])?;
    let command = Command::RankSources { asset, command: body.value.command()? };
    api.change(Wish { command, headers, hash, occurred_at: None }).await
}
