//! What was seen of prices: ticks carry an instant, closes carry a day.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::currency::Currency;
use crate::domain::ids::AssetId;
use crate::domain::money::{Price, Quantity};

/// The most prices that one event carries.
pub const PRICES_PER_EVENT_MAX: usize = 1_000;

/// What was seen of an asset's price.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub enum PriceEvent {
    /// Ticks of one asset from one source.
    PricesObserved(PricesObserved),
    /// Closes of one asset from one source.
    ClosesObserved(ClosesObserved),
    /// A tick or close was taken back.
    PriceVoided(PriceVoided),
}

impl PriceEvent {
    /// The asset concerned.
    pub fn asset_id(&self) -> AssetId {
        match self {
            Self::PricesObserved(event) => event.asset_id,
            Self::ClosesObserved(event) => event.asset_id,
            Self::PriceVoided(event) => event.asset_id,
        }
    }

    /// How many prices it brings.
    pub fn price_count(&self) -> usize {
        match self {
            Self::PricesObserved(event) => event.ticks.len(),
            Self::ClosesObserved(event) => event.closes.len(),
            Self::PriceVoided(_) => 0,
        }
    }
}

/// Payload of `PricesObserved`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PricesObserved {
    /// The asset.
    pub asset_id: AssetId,
    /// Where the prices are from.
    pub source: String,
    /// The asset's currency.
    pub currency: Currency,
    /// 1 to 1,000 ticks, in the order they were sent.
    pub ticks: Vec<Tick>,
}

/// A price at an instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tick {
    /// When.
    pub at: DateTime<Utc>,
    /// Price of one unit, in quote units.
    pub price: Price,
    /// Units traded, if told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub volume: Option<Quantity>,
}

/// Payload of `ClosesObserved`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClosesObserved {
    /// The asset.
    pub asset_id: AssetId,
    /// Where the prices are from.
    pub source: String,
    /// The asset's currency.
    pub currency: Currency,
    /// 1 to 1,000 closes, in the order they were sent.
    pub closes: Vec<Close>,
}

/// The closing price of a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Close {
    /// The exchange's calendar day.
    pub day: NaiveDate,
    /// Price of one unit, in quote units.
    pub price: Price,
    /// Units traded, if told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub volume: Option<Quantity>,
}

/// Payload of `PriceVoided`: one of `at` and `day` is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PriceVoided {
    /// The asset.
    pub asset_id: AssetId,
    /// Where the price was from.
    pub source: String,
    /// The tick's instant.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<DateTime<Utc>>,
    /// The close's day.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub day: Option<NaiveDate>,
    /// Why.
    pub reason: String,
}
