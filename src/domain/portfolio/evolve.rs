//! Folds a portfolio's stream into what decisions need. Total: it cannot fail and never checks.

use chrono_tz::Tz;

use super::event::{AccountingChanged, CashEffect, PortfolioEvent, PortfolioOpened, Trade};
use super::ledger::Accounting;
use super::state::{Portfolio, Settings};
use crate::domain::dates;
use crate::domain::ids::Version;
use crate::domain::money::{Amount, Quantity};

impl Portfolio {
    /// Takes in the event at `version`. Facts of one day stand in the order of their versions, which within a
    /// stream is the order of their positions, and is known before they have one.
    pub fn evolve(&mut self, version: Version, event: &PortfolioEvent) {
        match event {
            PortfolioEvent::PortfolioOpened(opened) => self.settings = Some(settings(opened)),
            PortfolioEvent::AccountingChanged(changed) => self.change_accounting(changed),
            PortfolioEvent::AssetBought(trade) => self.trade(version, trade, trade.quantity),
            PortfolioEvent::AssetSold(trade) => self.trade(version, trade, -trade.quantity),
            PortfolioEvent::CashDeposited(cash) => {
                let effect = CashEffect { currency: cash.currency.clone(), amount: cash.amount };
                self.book(version, cash.trade_date, &effect);
            }
            PortfolioEvent::CashWithdrawn(cash) => {
                let effect = CashEffect { currency: cash.currency.clone(), amount: -cash.amount };
                self.book(version, cash.trade_date, &effect);
            }
        }
    }

    fn change_accounting(&mut self, changed: &AccountingChanged) {
        if let Some(settings) = &mut self.settings {
            settings.accounting = settings.accounting.changed(changed);
            if let Some(name) = &changed.name {
                settings.name.clone_from(name);
            }
        }
    }

    fn trade(&mut self, version: Version, trade: &Trade, delta: Quantity) {
        let track = self.assets.entry(trade.asset_id).or_default();
        track.units.insert(trade.trade_date, version, delta.decimal());
        track.turnover = track.turnover.saturating_add(turnover(trade));
        if let Some(effect) = &trade.cash {
            self.book(version, trade.trade_date, effect);
        }
    }

    fn book(&mut self, version: Version, day: chrono::NaiveDate, effect: &CashEffect) {
        let track = self.cash.entry(effect.currency.clone()).or_default();
        track.insert(day, version, effect.amount.decimal());
    }
}

/// The money that a trade moves, without signs.
fn turnover(trade: &Trade) -> Amount {
    trade.amount.saturating_add(trade.fee).saturating_add(trade.tax)
}

fn settings(opened: &PortfolioOpened) -> Settings {
    Settings {
        portfolio_id: opened.portfolio_id,
        investor_id: opened.investor_id,
        name: opened.name.clone(),
        base_currency: opened.base_currency.clone(),
        // A zone that this program's tables no longer have decides nothing but a default.
        time_zone: dates::zone(&opened.time_zone).unwrap_or(Tz::UTC),
        accounting: Accounting::opened(opened),
        cash: opened.cash,
        allow_short: opened.allow_short,
    }
}
