//! What a decision about a portfolio needs to know, and no more: settings, and running totals by day.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use chrono_tz::Tz;

use super::event::CashMode;
use super::ledger::Accounting;
use super::timeline::{Shortfall, Timeline};
use crate::domain::currency::Currency;
use crate::domain::ids::{AssetId, InvestorId, PortfolioId};
use crate::domain::money::{Amount, Quantity};

/// A portfolio as its stream tells it. See `evolve`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Portfolio {
    pub(super) settings: Option<Settings>,
    pub(super) assets: BTreeMap<AssetId, AssetTrack>,
    pub(super) cash: BTreeMap<Currency, Timeline>,
}

/// What was decided when the portfolio was opened, and since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The portfolio.
    pub portfolio_id: PortfolioId,
    /// Whose it is.
    pub investor_id: InvestorId,
    /// What it is called.
    pub name: String,
    /// The currency it reports in.
    pub base_currency: Currency,
    /// Decides which day "today" is.
    pub time_zone: Tz,
    /// How the history is accounted for.
    pub accounting: Accounting,
    /// Whether a cash ledger is kept.
    pub cash: CashMode,
    /// Whether more may be sold than is held.
    pub allow_short: bool,
}

/// The units of one asset by day, and how much money they have moved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct AssetTrack {
    pub units: Timeline,
    /// The sum of every amount, fee and tax: no cost or gain can exceed it, under any cost basis.
    pub turnover: Amount,
}

impl Portfolio {
    /// A portfolio without events.
    pub fn initial() -> Self {
        Self::default()
    }

    /// The settings; `None` while there is no such portfolio.
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    /// Units held after everything, negative when short.
    pub fn quantity(&self, asset_id: AssetId) -> Quantity {
        self.assets.get(&asset_id).map_or(Quantity::ZERO, |track| Quantity::from_decimal(track.units.total()))
    }

    /// Tracked cash after everything.
    pub fn cash(&self, currency: &Currency) -> Amount {
        self.cash.get(currency).map_or(Amount::ZERO, |track| Amount::from_decimal(track.total()))
    }

    /// Every asset that was ever traded.
    pub fn assets(&self) -> impl Iterator<Item = AssetId> {
        self.assets.keys().copied()
    }

    pub(super) fn units_shortfall(
        &self,
        asset_id: AssetId,
        day: NaiveDate,
        delta: Quantity,
    ) -> Option<Shortfall> {
        match self.assets.get(&asset_id) {
            Some(track) => track.units.shortfall(day, delta.decimal()),
            None => Timeline::default().shortfall(day, delta.decimal()),
        }
    }

    pub(super) fn cash_shortfall(
        &self,
        currency: &Currency,
        day: NaiveDate,
        delta: Amount,
    ) -> Option<Shortfall> {
        match self.cash.get(currency) {
            Some(track) => track.shortfall(day, delta.decimal()),
            None => Timeline::default().shortfall(day, delta.decimal()),
        }
    }

    /// Whether every total of units and money of this asset stays below its bound with one more trade.
    pub(super) fn has_room_for_trade(&self, asset_id: AssetId, quantity: Quantity, turnover: Amount) -> bool {
        self.assets.get(&asset_id).is_none_or(|track| {
            track.units.has_room_for(quantity.decimal()) && track.turnover.checked_add(turnover).is_some()
        })
    }

    /// Whether every total of this cash stays below its bound with one more change.
    pub(super) fn has_room_for_cash(&self, currency: &Currency, delta: Amount) -> bool {
        self.cash.get(currency).is_none_or(|track| track.has_room_for(delta.decimal()))
    }
}
