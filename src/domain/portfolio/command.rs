//! What one may wish of a portfolio. Values are parsed; whether they make sense is for `decide` to say.

use chrono::NaiveDate;

use super::event::{CashMode, CostBasis, Settlement};
use crate::domain::currency::Currency;
use crate::domain::ids::{AssetId, InvestorId, PortfolioId};
use crate::domain::money::{Amount, Price, Quantity, Rate};

/// A wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortfolioCommand {
    /// Open a portfolio.
    Open(OpenPortfolio),
    /// Change its name, cost basis or treatment of fees.
    ChangeAccounting(ChangeAccounting),
    /// Buy units.
    Buy(TradeCommand),
    /// Sell units.
    Sell(TradeCommand),
    /// Put cash in.
    Deposit(CashCommand),
    /// Take cash out.
    Withdraw(CashCommand),
}

/// Opens a portfolio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPortfolio {
    /// Its id, new.
    pub portfolio_id: PortfolioId,
    /// Whose it is. The caller has made sure that there is one.
    pub investor_id: InvestorId,
    /// What it is called.
    pub name: String,
    /// The currency it reports in.
    pub base_currency: Currency,
    /// IANA zone; UTC if not told.
    pub time_zone: Option<String>,
    /// Which lots a sale takes.
    pub cost_basis: CostBasis,
    /// Whether fees and taxes of a buy are part of its cost.
    pub fees_in_cost: bool,
    /// Whether a cash ledger is kept.
    pub cash: CashMode,
    /// Whether more may be sold than is held.
    pub allow_short: bool,
}

/// Changes what is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeAccounting {
    /// New name.
    pub name: Option<String>,
    /// New cost basis, for the whole history.
    pub cost_basis: Option<CostBasis>,
    /// New treatment of fees, for the whole history.
    pub fees_in_cost: Option<bool>,
}

/// Buys or sells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TradeCommand {
    /// What.
    pub asset_id: AssetId,
    /// Units.
    pub quantity: Quantity,
    /// Price of one unit, in quote units.
    pub price: Price,
    /// Fee, in the asset's currency.
    pub fee: Amount,
    /// Tax, in the asset's currency.
    pub tax: Amount,
    /// Confirms the asset's currency.
    pub currency: Option<Currency>,
    /// Units of base for one unit of the asset's currency.
    pub fx_rate: Option<Rate>,
    /// In which currency it is paid.
    pub settle: Settlement,
    /// The day; today in the portfolio's zone if not told.
    pub trade_date: Option<NaiveDate>,
    /// A remark.
    pub note: Option<String>,
}

/// Moves cash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CashCommand {
    /// How much.
    pub amount: Amount,
    /// Of what; the base currency if not told.
    pub currency: Option<Currency>,
    /// The day; today in the portfolio's zone if not told.
    pub trade_date: Option<NaiveDate>,
    /// A remark.
    pub note: Option<String>,
}
