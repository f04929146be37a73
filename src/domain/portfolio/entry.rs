//! An entry: one fact of the ledger, flat, as the read side keeps it.

use std::str::FromStr;

use chrono::NaiveDate;

use super::event::{CashEffect, CashMovement, PortfolioEvent, Trade};
use crate::domain::currency::Currency;
use crate::domain::ids::{AssetId, Position};
use crate::domain::money::{Amount, Price, Quantity, Rate};

/// One fact of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where the fact stands in the log.
    pub position: Position,
    /// The day it counts for.
    pub trade_date: NaiveDate,
    /// What it is.
    pub kind: EntryKind,
    /// The asset concerned; absent for cash.
    pub asset_id: Option<AssetId>,
    /// Units, positive; zero for cash.
    pub quantity: Quantity,
    /// Price of one unit in quote units; absent for cash.
    pub price: Option<Price>,
    /// Gross amount, positive.
    pub amount: Amount,
    /// Fee, not negative.
    pub fee: Amount,
    /// Tax, not negative.
    pub tax: Amount,
    /// The currency of `amount`, `fee` and `tax`.
    pub currency: Currency,
    /// Units of base for one unit of `currency`, if the client stated it.
    pub fx_rate: Option<Rate>,
    /// What it did to tracked cash.
    pub cash: Option<CashEffect>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Units came in for money.
    Buy,
    /// Units went out for money.
    Sell,
    /// Cash came in.
    Deposit,
    /// Cash went out.
    Withdraw,
}

impl Entry {
    /// The entry that an event makes; `None` for events that are not facts of the ledger.
    pub fn from_event(position: Position, event: &PortfolioEvent) -> Option<Self> {
        match event {
            PortfolioEvent::PortfolioOpened(_) | PortfolioEvent::AccountingChanged(_) => None,
            PortfolioEvent::AssetBought(trade) => Some(Self::trade(position, EntryKind::Buy, trade)),
            PortfolioEvent::AssetSold(trade) => Some(Self::trade(position, EntryKind::Sell, trade)),
            PortfolioEvent::CashDeposited(cash) => {
                Some(Self::movement(position, EntryKind::Deposit, cash, cash.amount))
            }
            PortfolioEvent::CashWithdrawn(cash) => {
                Some(Self::movement(position, EntryKind::Withdraw, cash, -cash.amount))
            }
        }
    }

    /// The place that the entry of an event has in the order of the ledger; `None` where it makes none.
    pub fn place_of(position: Position, event: &PortfolioEvent) -> Option<(NaiveDate, Position)> {
        let trade_date = match event {
            PortfolioEvent::PortfolioOpened(_) | PortfolioEvent::AccountingChanged(_) => return None,
            PortfolioEvent::AssetBought(trade) | PortfolioEvent::AssetSold(trade) => trade.trade_date,
            PortfolioEvent::CashDeposited(cash) | PortfolioEvent::CashWithdrawn(cash) => cash.trade_date,
        };
        Some((trade_date, position))
    }

    /// The entry's place in the order of the ledger.
    pub fn place(&self) -> (NaiveDate, Position) {
        (self.trade_date, self.position)
    }

    fn trade(position: Position, kind: EntryKind, trade: &Trade) -> Self {
        Self {
            position,
            trade_date: trade.trade_date,
            kind,
            asset_id: Some(trade.asset_id),
            quantity: trade.quantity,
            price: Some(trade.price),
            amount: trade.amount,
            fee: trade.fee,
            tax: trade.tax,
            currency: trade.currency.clone(),
            fx_rate: trade.fx_rate,
            cash: trade.cash.clone(),
        }
    }

    fn movement(position: Position, kind: EntryKind, cash: &CashMovement, change: Amount) -> Self {
        Self {
            position,
            trade_date: cash.trade_date,
            kind,
            asset_id: None,
            quantity: Quantity::ZERO,
            price: None,
            amount: cash.amount,
            fee: Amount::ZERO,
            tax: Amount::ZERO,
            currency: cash.currency.clone(),
            fx_rate: None,
            cash: Some(CashEffect { currency: cash.currency.clone(), amount: change }),
        }
    }
}

impl EntryKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Buy, Self::Sell, Self::Deposit, Self::Withdraw];

    /// The kind as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
            Self::Deposit => "deposit",
            Self::Withdraw => "withdraw",
        }
    }
}

impl FromStr for EntryKind {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or("is not a kind of entry")
    }
}
