//! Assets with their live prices, and the closes of one.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::answer::{Rendered, last_modified, send};
use super::{Answered, List, One, Page, failed};
use crate::api::Api;
use crate::api::fields::{Field, FieldValue};
use crate::api::openapi::{FindProblems, ListProblems};
use crate::api::parameters::{DatedHeaders, ReadHeaders};
use crate::api::path::InPath;
use crate::api::problem::Problem;
use crate::api::query::{Limit, Place, Query, SearchText, WaitMs};
use crate::api::schema::{self, Decimal};
use crate::commands::AssetRef;
use crate::domain::asset::AssetClass;
use crate::domain::fields::Fields;
use crate::domain::ids::AssetId;
use crate::domain::money::{Price, Quantity, Rate};
use crate::queries::directory::{self, AssetFilter, AssetName, AssetRow};
use crate::queries::prices::{CloseFilter, CloseRow, SourceRow, list_closes, list_sources};

/// The read models that an asset with its price is made from.
const SOURCES: [&str; 2] = ["directory", "prices"];

/// What can be held.
#[derive(Serialize, ToSchema)]
pub(crate) struct Asset {
    /// The asset.
    id: Uuid,
    /// Its symbol today.
    #[schema(example = "AAPL")]
    symbol: String,
    /// Its name.
    #[schema(example = "Apple Inc.")]
    name: String,
    /// Its class.
    #[schema(value_type = schema::AssetClass)]
    class: String,
    /// The currency it is quoted and paid in.
    #[schema(example = "USD")]
    currency: String,
    /// Units of the currency in one unit of the price.
    #[schema(value_type = Decimal)]
    quote_unit: Rate,
    /// ISIN, if told.
    isin: Option<String>,
    /// Where it is traded, if told.
    exchange: Option<String>,
    /// When it was listed.
    listed_at: DateTime<Utc>,
    /// Last day of trading, if there was one.
    delisted_on: Option<NaiveDate>,
    /// What a unit was worth at last, if told.
    #[schema(value_type = Option<Decimal>)]
    final_price: Option<Price>,
    /// The version of the stream: what `If-Match` takes.
    version: i64,
    /// The live price; null where there is none.
    price: Option<LivePrice>,
}

/// The price that valuations use now.
#[derive(Serialize, ToSchema)]
pub(crate) struct LivePrice {
    /// Price of one unit in quote units.
    #[schema(value_type = Decimal)]
    price: Price,
    /// When it was; a close lies at the end of its day, UTC.
    priced_at: Option<DateTime<Utc>>,
    /// Where it is from.
    source: Option<String>,
    /// `tick` or `close`.
    kind: Option<String>,
    /// Place of the event that gave it.
    position: Option<i64>,
}

/// An asset with the latest prices of its sources.
#[derive(Serialize, ToSchema)]
pub(crate) struct AssetWithSources {
    #[serde(flatten)]
    asset: Asset,
    /// The sources of its prices, the most believed first.
    sources: Vec<Source>,
}

/// A source of prices with its latest ones.
#[derive(Serialize, ToSchema)]
pub(crate) struct Source {
    /// Its name.
    #[schema(example = "exchange")]
    source: String,
    /// When its newest tick was.
    tick_at: Option<DateTime<Utc>>,
    /// The price of that tick.
    #[schema(value_type = Option<Decimal>)]
    tick_price: Option<Price>,
    /// The day of its newest close.
    close_day: Option<NaiveDate>,
    /// The price of that close.
    #[schema(value_type = Option<Decimal>)]
    close_price: Option<Price>,
}

/// The closing price of a day.
#[derive(Serialize, ToSchema)]
pub(crate) struct Close {
    /// The exchange's calendar day.
    day: NaiveDate,
    /// Price of one unit in quote units.
    #[schema(value_type = Decimal)]
    price: Price,
    /// Units traded, if told.
    #[schema(value_type = Option<Decimal>)]
    volume: Option<Quantity>,
    /// Where it is from.
    #[schema(example = "exchange")]
    source: String,
    /// Place of the event that gave it this price.
    position: i64,
}

impl From<AssetRow> for Asset {
    fn from(row: AssetRow) -> Self {
        let price = row.price.map(|price| LivePrice {
            price: Price::from_decimal(price),
            priced_at: row.priced_at,
            source: row.price_source,
            kind: row.price_kind,
            position: row.price_position,
        });
        Self {
            id: row.asset_id,
            symbol: row.symbol,
            name: row.name,
            class: row.class,
            currency: row.currency,
            quote_unit: Rate::from_decimal(row.quote_unit),
            isin: row.isin,
            exchange: row.exchange,
            listed_at: row.listed_at,
            delisted_on: row.delisted_on,
            final_price: row.final_price.map(Price::from_decimal),
            version: row.version,
            price,
        }
    }
}

impl From<SourceRow> for Source {
    fn from(row: SourceRow) -> Self {
        Self {
            source: row.source,
            tick_at: row.tick_at,
            tick_price: row.tick_price.map(Price::from_decimal),
            close_day: row.close_day,
            close_price: row.close_price.map(Price::from_decimal),
        }
    }
}

impl From<CloseRow> for Close {
    fn from(row: CloseRow) -> Self {
        Self {
            day: row.day,
            price: Price::from_decimal(row.price),
            volume: row.volume.map(Quantity::from_decimal),
            source: row.source,
            position: row.position,
        }
    }
}

/// Which assets.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Of this class.
    #[param(value_type = Option<schema::AssetClass>)]
    class: Field<ClassName>,
    /// Whose name has this in it, in any case.
    #[param(value_type = Option<String>)]
    name: Field<SearchText>,
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

/// The name of a class of assets.
pub(crate) struct ClassName(&'static str);

impl FieldValue for ClassName {
    const EXPECTED: &'static str = AssetClass::EXPECTED;
    const WORDS: &'static [&'static str] = AssetClass::WORDS;
    fn from_text(text: &str) -> Result<Self, String> {
        Self::WORDS.iter().find(|word| **word == text).map(|word| Self(word)).ok_or_else(Self::refusal)
    }
}

/// Which closes.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhichCloses {
    /// Of this source; of the most believed one that has closes if not told.
    #[param(value_type = Option<String>)]
    source: Field<SearchText>,
    /// The first day.
    #[param(value_type = Option<NaiveDate>)]
    from: Field<NaiveDate>,
    /// The last day.
    #[param(value_type = Option<NaiveDate>)]
    to: Field<NaiveDate>,
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

/// List assets
///
/// With their live prices, by symbol.
#[utoipa::path(get, path = "/v1/assets", tag = "assets", operation_id = "listAssets",
    params(Which, DatedHeaders),
    responses((status = 200, description = "A page", body = Answered<Page<Asset>>), ListProblems))]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Query(which): Query<Which>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut fields = Fields::new();
    let filter = AssetFilter {
        class: which.class.optional("class", &mut fields).map(|ClassName(class)| class.to_owned()),
        name: which.name.optional("name", &mut fields).map(|SearchText(name)| name),
    };
    let Which { after, limit, min_position, max_wait_ms, .. } = which;
    let (page, freshness) = List { after, limit, min_position, max_wait_ms }.read(&mut fields);
    fields.finish()?;
    api.wait_for(&freshness, &SOURCES, None).await?;
    let answer = directory::list_assets(&api.pool, &filter, &page).await.map_err(failed)?;
    let modified = last_modified(&answer.as_of, api.clock.now());
    let rendered = Rendered::of(&Page::<Asset>::of(answer.data));
    Ok(rendered.send_dated(&request, answer.as_of, answer.parked, modified))
}

/// Find an asset
///
/// By its id, or by a symbol that it has or had. With its live price and the latest prices of its sources.
#[utoipa::path(get, path = "/v1/assets/{asset}", tag = "assets", operation_id = "findAsset",
    params(("asset" = String, Path, description = "Id or symbol", example = "AAPL"), One, ReadHeaders),
    responses((status = 200, description = "The asset", body = Answered<AssetWithSources>), FindProblems))]
pub(crate) async fn find(
    State(api): State<Arc<Api>>,
    InPath(asset): InPath<AssetRef>,
    Query(one): Query<One>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    api.wait_for(&one.read()?, &SOURCES, None).await?;
    let answer = api.find_asset(asset).await?;
    let sources = list_sources(&api.pool, AssetId(answer.data.asset_id)).await.map_err(failed)?;
    let sources = sources.data.into_iter().map(Source::from).collect();
    Ok(send(&request, answer, |row| AssetWithSources { asset: row.into(), sources }))
}

/// List the closes of an asset
///
/// By day, of one source.
#[utoipa::path(get, path = "/v1/assets/{asset}/prices", tag = "assets", operation_id = "listCloses",
    params(("asset" = String, Path, description = "Id or symbol", example = "AAPL"), WhichCloses, ReadHeaders),
    responses((status = 200, description = "A page", body = Answered<Page<Close>>), FindProblems))]
pub(crate) async fn list_prices(
    State(api): State<Arc<Api>>,
    InPath(asset): InPath<AssetRef>,
    Query(which): Query<WhichCloses>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut fields = Fields::new();
    let filter = CloseFilter {
        source: which.source.optional("source", &mut fields).map(|SearchText(source)| source),
        from: which.from.optional("from", &mut fields),
        to: which.to.optional("to", &mut fields),
    };
    let WhichCloses { after, limit, min_position, max_wait_ms, .. } = which;
    let (page, freshness) = List { after, limit, min_position, max_wait_ms }.read(&mut fields);
    fields.finish()?;
    api.wait_for(&freshness, &SOURCES, None).await?;
    let asset_id = AssetId(api.find_asset(asset).await?.data.asset_id);
    let answer = list_closes(&api.pool, asset_id, &filter, &page).await.map_err(failed)?;
    Ok(send(&request, answer, Page::<Close>::of))
}

impl Api {
    pub(super) async fn find_asset(
        &self,
        asset: AssetRef,
    ) -> Result<crate::queries::Answer<AssetRow>, Problem> {
        let name = match asset {
            AssetRef::Id(id) => AssetName::Id(id),
            AssetRef::Symbol(symbol) => AssetName::Symbol(symbol.to_string()),
        };
        let found = directory::find_asset(&self.pool, &name).await.map_err(failed)?;
        found.ok_or_else(|| Problem::not_found("asset"))
    }
}
