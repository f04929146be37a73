//! What happened to assets and their symbols.

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::earnings::Quarter;
use crate::domain::currency::{Currency, Symbol};
use crate::domain::ids::{AssetId, StreamId};
use crate::domain::money::{Amount, Price, Rate};

/// What happened to an asset or to a symbol.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub enum AssetEvent {
    /// In the stream `symbol:X`: the symbol now names this asset.
    SymbolClaimed(SymbolClaimed),
    /// The asset can be traded and priced from now on.
    AssetListed(AssetListed),
    /// The asset has another symbol.
    AssetRenamed(AssetRenamed),
    /// The asset is no longer traded.
    AssetDelisted(AssetDelisted),
    /// A split was announced.
    SplitDeclared(SplitDeclared),
    /// The order in which sources of prices are believed.
    PriceSourcesRanked(PriceSourcesRanked),
    /// The earnings of a quarter were reported, or reported anew.
    EarningsReported(EarningsReported),
}

impl AssetEvent {
    /// The stream it belongs to: the symbol's for a claim, the asset's for everything else.
    pub fn stream(&self) -> StreamId {
        match self {
            Self::SymbolClaimed(event) => StreamId::symbol(event.symbol.as_str()),
            Self::AssetListed(event) => event.asset_id.stream(),
            Self::AssetRenamed(event) => event.asset_id.stream(),
            Self::AssetDelisted(event) => event.asset_id.stream(),
            Self::SplitDeclared(event) => event.asset_id.stream(),
            Self::PriceSourcesRanked(event) => event.asset_id.stream(),
            Self::EarningsReported(event) => event.asset_id.stream(),
        }
    }
}

/// Payload of `SymbolClaimed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SymbolClaimed {
    /// The symbol.
    pub symbol: Symbol,
    /// The asset it names.
    pub asset_id: AssetId,
}

/// Payload of `AssetListed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AssetListed {
    /// The asset.
    pub asset_id: AssetId,
    /// Its symbol at listing.
    pub symbol: Symbol,
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: AssetClass,
    /// The currency it is quoted and paid in.
    pub currency: Currency,
    /// Units of the currency in one unit of the price: 1, or 0.01 for pence.
    pub quote_unit: Rate,
    /// ISIN, if told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub isin: Option<String>,
    /// Exchange, if told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exchange: Option<String>,
}

/// Payload of `AssetRenamed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AssetRenamed {
    /// The asset.
    pub asset_id: AssetId,
    /// Its new symbol.
    pub symbol: Symbol,
}

/// Payload of `AssetDelisted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AssetDelisted {
    /// The asset.
    pub asset_id: AssetId,
    /// Last day of trading.
    pub date: NaiveDate,
    /// What a unit was worth at last, if told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub final_price: Option<Price>,
}

/// Payload of `SplitDeclared`: `numerator` new for `denominator` old units from `ex_date` on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SplitDeclared {
    /// The asset.
    pub asset_id: AssetId,
    /// New units.
    pub numerator: u32,
    /// Old units.
    pub denominator: u32,
    /// First day on which the new units trade.
    pub ex_date: NaiveDate,
}

/// Payload of `PriceSourcesRanked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PriceSourcesRanked {
    /// The asset.
    pub asset_id: AssetId,
    /// Sources, the most believed first.
    pub sources: Vec<RankedSource>,
}

/// A source of prices and how its series is adjusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RankedSource {
    /// The source's name.
    pub source: String,
    /// How the series is adjusted; never changes once given.
    pub adjustment: Adjustment,
}

/// Payload of `EarningsReported`: what is believed of a quarter from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EarningsReported {
    /// The asset, a share.
    pub asset_id: AssetId,
    /// The quarter.
    pub quarter: Quarter,
    /// Earnings of one share; a loss is negative.
    pub earnings_per_share: Amount,
    /// What was expected, if told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub estimate: Option<Amount>,
    /// Revenue, if told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revenue: Option<Amount>,
    /// The currency of all three.
    pub currency: Currency,
    /// When it was published, if told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reported_on: Option<NaiveDate>,
}

/// What a price series has been corrected for backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Adjustment {
    /// Nothing: prices as they were traded.
    #[default]
    None,
    /// Splits.
    Splits,
    /// Splits and dividends.
    SplitsAndDividends,
}

/// Kind of asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AssetClass {
    /// A share.
    Equity,
    /// An exchange-traded fund.
    Etf,
    /// A fund.
    Fund,
    /// A bond.
    Bond,
    /// A coin.
    Crypto,
    /// A commodity.
    Commodity,
    /// An exchange rate: `EURUSD` is US dollars for one euro. Cannot be bought.
    Fx,
}
