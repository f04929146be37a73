//! What happened in a portfolio. One command is one event that carries its whole effect; lots and gains are
//! derived, never stored.

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::currency::Currency;
use crate::domain::ids::{AssetId, InvestorId, PortfolioId};
use crate::domain::money::{Amount, Price, Quantity, Rate};

/// A fact in a portfolio's stream.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub enum PortfolioEvent {
    /// The portfolio exists.
    PortfolioOpened(PortfolioOpened),
    /// Name, cost basis or treatment of fees changed, for the whole history.
    AccountingChanged(AccountingChanged),
    /// Units were bought.
    AssetBought(Trade),
    /// Units were sold.
    AssetSold(Trade),
    /// Cash came in.
    CashDeposited(CashMovement),
    /// Cash went out.
    CashWithdrawn(CashMovement),
}

/// Payload of `PortfolioOpened`. `base_currency`, `cash` and `allow_short` never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortfolioOpened {
    /// The portfolio.
    pub portfolio_id: PortfolioId,
    /// Whose it is.
    pub investor_id: InvestorId,
    /// What it is called.
    pub name: String,
    /// The currency it reports in.
    pub base_currency: Currency,
    /// IANA zone that decides which day "today" is.
    pub time_zone: String,
    /// Which lots a sale takes.
    pub cost_basis: CostBasis,
    /// Whether fees and taxes of a buy are part of its cost.
    pub fees_in_cost: bool,
    /// Whether a cash ledger is kept.
    pub cash: CashMode,
    /// Whether more may be sold than is held.
    pub allow_short: bool,
}

/// Payload of `AccountingChanged`: what is given changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct AccountingChanged {
    /// New name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// New cost basis, for the whole history.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cost_basis: Option<CostBasis>,
    /// New treatment of fees, for the whole history.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fees_in_cost: Option<bool>,
}

/// Payload of `AssetBought` and `AssetSold`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trade {
    /// What was traded.
    pub asset_id: AssetId,
    /// Units, positive.
    pub quantity: Quantity,
    /// Price of one unit in quote units, positive.
    pub price: Price,
    /// The asset's currency: of `amount`, `fee` and `tax`.
    pub currency: Currency,
    /// Quantity × price × quote unit, rounded.
    pub amount: Amount,
    /// Fee, not negative.
    pub fee: Amount,
    /// Tax, not negative.
    pub tax: Amount,
    /// Units of base for one unit of `currency`, if the client stated it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fx_rate: Option<Rate>,
    /// In which currency it was paid.
    pub settle: Settlement,
    /// What it did to cash; absent where no cash is tracked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cash: Option<CashEffect>,
    /// The day of the trade.
    pub trade_date: NaiveDate,
    /// The client's remark.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// Payload of `CashDeposited` and `CashWithdrawn`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CashMovement {
    /// How much, positive, in the currency's minor unit.
    pub amount: Amount,
    /// Of what.
    pub currency: Currency,
    /// The day.
    pub trade_date: NaiveDate,
    /// The client's remark.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// What a fact did to tracked cash: negative is paid, positive is received; rounded to the minor unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CashEffect {
    /// The currency booked.
    pub currency: Currency,
    /// The change.
    pub amount: Amount,
}

/// Which lots a sale takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostBasis {
    /// The oldest first.
    #[default]
    Fifo,
    /// The newest first.
    Lifo,
    /// The one with the smallest gain (the highest cost) first, ties oldest.
    Hifo,
    /// One pool at average cost.
    Average,
}

/// Whether a cash ledger is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CashMode {
    /// A ledger per currency that refuses what it cannot pay.
    Tracked,
    /// A buy is money coming in, a sale money going out.
    #[default]
    Untracked,
}

/// The currency that a trade is paid in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Settlement {
    /// The asset's.
    #[default]
    Asset,
    /// The portfolio's base, at `fx_rate`.
    Base,
}
