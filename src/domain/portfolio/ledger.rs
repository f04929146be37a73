//! The ledger: what a portfolio holds, at what cost, with what gain, and its cash.
//!
//! A fold over [`Entry`]s in the order of (trade date, position), under one [`Accounting`]. It is total: what a
//! decision should have refused (an oversell without `allow_short`, a sum beyond 10¹⁷) neither fails nor
//! panics here. A fact that comes at the end is applied; a backdated one means deriving anew, so that it
//! gives the same ledger as if it had been entered in order.
//!
//! Every amount is rounded once, when it arises, by [`crate::domain::exact`]:
//!
//! | amount | rule |
//! | --- | --- |
//! | value of a trade | `amount`, with the charges that are part of it (see `charges`) |
//! | a trade through zero | the part that closes takes its share of the value by quantity, the part that opens the rest |
//! | cost released | a part of a lot takes its share by quantity, the last part the rest |
//! | realised gain | value of the closing part − cost released |

use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::entry::{Entry, EntryKind};
use super::event::{AccountingChanged, CostBasis, PortfolioOpened};
use super::lots::{self, Lot};
use crate::domain::currency::Currency;
use crate::domain::ids::{AssetId, Position};
use crate::domain::money::{Amount, Quantity};

/// How the history is accounted for. A change applies to all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accounting {
    /// Which lots a sale takes.
    pub cost_basis: CostBasis,
    /// Whether a buy's fee and tax are part of its cost, and a sale's fee of its proceeds.
    pub fees_in_cost: bool,
}

/// What is held of one asset. A holding that was closed stays, with its gains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The asset.
    pub asset_id: AssetId,
    /// The asset's currency, of every amount here.
    pub currency: Currency,
    /// Units held: the sum of the lots; negative when short.
    pub quantity: Quantity,
    /// Their cost: the sum of the lots.
    pub cost: Amount,
    /// Gains less losses of everything closed so far.
    pub realized_gain: Amount,
    /// Fees booked apart, so neither in cost nor in gain.
    pub fees: Amount,
    /// Taxes booked apart.
    pub taxes: Amount,
    /// The lots, in the order in which they were opened.
    pub lots: Vec<Lot>,
}

/// Holdings and cash, as they follow from the entries applied so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    accounting: Accounting,
    holdings: BTreeMap<AssetId, Holding>,
    cash: BTreeMap<Currency, Amount>,
    last: Option<(NaiveDate, Position)>,
}

impl Ledger {
    /// A ledger without entries.
    pub fn new(accounting: Accounting) -> Self {
        Self { accounting, ..Self::default() }
    }

    /// The ledger of these entries, given in any order.
    pub fn derive(accounting: Accounting, entries: &[Entry]) -> Self {
        let mut in_order: Vec<&Entry> = entries.iter().collect();
        in_order.sort_by_key(|entry| entry.place());
        let mut ledger = Self::new(accounting);
        for entry in in_order {
            ledger.apply(entry);
        }
        ledger
    }

    /// The ledger as it was stored: holdings with their lots, cash, and the place of the last entry.
    pub fn restore(
        accounting: Accounting,
        holdings: impl IntoIterator<Item = Holding>,
        cash: impl IntoIterator<Item = (Currency, Amount)>,
        last: Option<(NaiveDate, Position)>,
    ) -> Self {
        let holdings = holdings.into_iter().map(|holding| (holding.asset_id, holding)).collect();
        Self { accounting, holdings, cash: cash.into_iter().collect(), last }
    }

    /// Whether this entry comes after all that were applied; otherwise the ledger is to be derived anew.
    pub fn is_in_order(&self, entry: &Entry) -> bool {
        self.last.is_none_or(|last| last < entry.place())
    }

    /// Applies an entry that comes at the end.
    pub fn apply(&mut self, entry: &Entry) {
        if let Some(asset_id) = entry.asset_id
            && entry.quantity.is_positive()
        {
            match entry.kind {
                EntryKind::Buy | EntryKind::Sell => self.trade(asset_id, entry),
                EntryKind::Deposit | EntryKind::Withdraw => {}
            }
        }
        if let Some(effect) = &entry.cash {
            let balance = self.cash.entry(effect.currency.clone()).or_default();
            *balance = balance.saturating_add(effect.amount);
        }
        self.last = self.last.max(Some(entry.place()));
    }

    /// How this ledger is accounted for.
    pub fn accounting(&self) -> Accounting {
        self.accounting
    }

    /// Every asset ever traded, also those that are closed, by id.
    pub fn holdings(&self) -> impl Iterator<Item = &Holding> {
        self.holdings.values()
    }

    /// What is held of one asset; `None` if it was never traded.
    pub fn holding(&self, asset_id: AssetId) -> Option<&Holding> {
        self.holdings.get(&asset_id)
    }

    /// Tracked cash, by currency.
    pub fn cash(&self) -> impl Iterator<Item = (&Currency, Amount)> {
        self.cash.iter().map(|(currency, amount)| (currency, *amount))
    }

    /// The place of the last entry: trade date and position.
    pub fn last(&self) -> Option<(NaiveDate, Position)> {
        self.last
    }

    /// Closes lots of the other sign first, then opens one with the rest.
    fn trade(&mut self, asset_id: AssetId, entry: &Entry) {
        let basis = self.accounting.cost_basis;
        let charges = charges(entry, self.accounting.fees_in_cost);
        let holding =
            self.holdings.entry(asset_id).or_insert_with(|| Holding::empty(asset_id, entry.currency.clone()));

        let sells = entry.kind == EntryKind::Sell;
        let closes = if sells { holding.quantity.is_positive() } else { holding.quantity.is_negative() };
        let closing = if closes { holding.quantity.abs().min(entry.quantity) } else { Quantity::ZERO };
        let opening = entry.quantity.saturating_sub(closing);

        let received_closing = if opening.is_zero() {
            charges.received
        } else {
            charges.received.share(closing, entry.quantity).unwrap_or_default()
        };
        let released = lots::release(&mut holding.lots, basis, closing);
        let opened = Lot {
            opened: entry.trade_date,
            position: entry.position,
            quantity: if sells { -opening } else { opening },
            cost: received_closing.saturating_sub(charges.received),
            fx_rate: entry.fx_rate,
        };

        holding.quantity =
            holding.quantity.saturating_add(if sells { -entry.quantity } else { entry.quantity });
        holding.cost = holding.cost.saturating_sub(released).saturating_add(opened.cost);
        holding.realized_gain =
            holding.realized_gain.saturating_add(received_closing.saturating_sub(released));
        holding.fees = holding.fees.saturating_add(charges.fee_apart);
        holding.taxes = holding.taxes.saturating_add(charges.tax_apart);
        if !opening.is_zero() {
            lots::open(&mut holding.lots, basis, opened);
        }
    }
}

/// What a trade brought in, and what of its charges is booked apart.
struct Charges {
    /// Received (positive) or paid (negative) for the units.
    received: Amount,
    fee_apart: Amount,
    tax_apart: Amount,
}

/// A buy's fee and tax join its cost and a sale's fee leaves its proceeds, if fees are in cost; a sale's tax
/// is always apart.
fn charges(entry: &Entry, fees_in_cost: bool) -> Charges {
    let Entry { amount, fee, tax, .. } = *entry;
    let (received, fee_apart, tax_apart) = match (entry.kind == EntryKind::Sell, fees_in_cost) {
        (false, true) => (-amount.saturating_add(fee).saturating_add(tax), Amount::ZERO, Amount::ZERO),
        (false, false) => (-amount, fee, tax),
        (true, true) => (amount.saturating_sub(fee), Amount::ZERO, tax),
        (true, false) => (amount, fee, tax),
    };
    Charges { received, fee_apart, tax_apart }
}

impl Accounting {
    /// How a portfolio is accounted for when it is opened.
    pub fn opened(event: &PortfolioOpened) -> Self {
        Self { cost_basis: event.cost_basis, fees_in_cost: event.fees_in_cost }
    }

    /// How it is accounted for after a change.
    pub fn changed(self, event: &AccountingChanged) -> Self {
        Self {
            cost_basis: event.cost_basis.unwrap_or(self.cost_basis),
            fees_in_cost: event.fees_in_cost.unwrap_or(self.fees_in_cost),
        }
    }
}

impl Holding {
    /// Nothing of an asset.
    pub fn empty(asset_id: AssetId, currency: Currency) -> Self {
        Self {
            asset_id,
            currency,
            quantity: Quantity::ZERO,
            cost: Amount::ZERO,
            realized_gain: Amount::ZERO,
            fees: Amount::ZERO,
            taxes: Amount::ZERO,
            lots: Vec::new(),
        }
    }
}
