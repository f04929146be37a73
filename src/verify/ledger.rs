//! What a portfolio's facts come to, from scratch: lots, gains, charges, cash.
//!
//! | figure | how |
//! | --- | --- |
//! | order | by (trade date, position) |
//! | value of a trade | its amount; a buy's fee and tax on top and a sale's fee off it, where fees are in cost |
//! | a trade through zero | what closes takes value in proportion to quantity, rounded; what opens takes the rest |
//! | which lot closes | oldest, newest, dearest unit (ties oldest), or the one pool |
//! | cost of part of a lot | in proportion to quantity, rounded; the rest stays, so that a closed lot is exactly zero |
//! | gain | closing a long: value − cost; covering a short: its proceeds − value |
//! | a pool's rate | Σ rounded (cost × rate) ÷ Σ cost, rounded; unknown if one of them is |
//!
//! A short lot has a negative quantity, and its cost is minus the proceeds.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::reference::{Entry, Portfolio, Settings};
use super::units::Units;

/// Holdings and cash.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// By asset; also what was closed, with its gains.
    pub holdings: BTreeMap<String, Holding>,
    /// By currency.
    pub cash: BTreeMap<String, Units>,
    /// Trade date and position of the last fact in order.
    pub last: Option<(String, i64)>,
    /// Where more was sold or paid than was there, although the portfolio's settings exclude it.
    pub shortfalls: Vec<String>,
}

/// What is held of one asset, in its currency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holding {
    /// Of every amount.
    pub currency: String,
    /// Of everything closed so far.
    pub realized_gain: Units,
    /// Booked apart.
    pub fees: Units,
    /// Booked apart.
    pub taxes: Units,
    /// In the order in which they were opened.
    pub lots: Vec<Lot>,
}

/// Units that were opened together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lot {
    /// Trade date of the fact that opened it; of a pool, the first.
    pub opened_on: String,
    /// Position of that fact.
    pub position: i64,
    /// Negative when short.
    pub quantity: Units,
    /// Minus the proceeds when short.
    pub cost: Units,
    /// Units of base for one of the asset's currency, if told.
    pub fx_rate: Option<Units>,
}

impl Holding {
    /// Units held.
    pub fn quantity(&self) -> Units {
        self.lots.iter().map(|lot| lot.quantity).sum()
    }

    /// What they cost.
    pub fn cost(&self) -> Units {
        self.lots.iter().map(|lot| lot.cost).sum()
    }
}

impl Ledger {
    /// Sorts and folds everything.
    pub fn of(portfolio: &Portfolio) -> Self {
        Self::as_of(portfolio, i64::MAX)
    }

    /// Sorts and folds everything up to a position of the log.
    pub fn as_of(portfolio: &Portfolio, position: i64) -> Self {
        let known = portfolio.entries().filter(|entry| entry.position <= position);
        let mut entries: Vec<&Entry> = known.collect();
        entries.sort_by_key(|entry| (&entry.trade_date, entry.position));
        let mut ledger = Self::default();
        for entry in entries {
            ledger.book(portfolio.settings_at(position), entry);
        }
        ledger
    }

    fn book(&mut self, settings: &Settings, entry: &Entry) {
        let Entry { position, trade_date, .. } = entry;
        if let Some(asset_id) = &entry.asset_id {
            let holding = self
                .holdings
                .entry(asset_id.clone())
                .or_insert_with(|| Holding { currency: entry.currency.clone(), ..Holding::default() });
            holding.trade(settings, entry);
            let quantity = holding.quantity();
            if quantity.is_negative() && !settings.allow_short {
                self.shortfalls
                    .push(format!("{quantity} of {asset_id} on {trade_date} after position {position}"));
            }
        }
        if let Some((currency, change)) = &entry.cash {
            let balance = self.cash.entry(currency.clone()).or_default();
            *balance += *change;
            if balance.is_negative() && change.is_negative() {
                self.shortfalls
                    .push(format!("{balance} {currency} on {trade_date} after position {position}"));
            }
        }
        self.last = Some((trade_date.clone(), *position));
    }
}

impl Holding {
    fn trade(&mut self, settings: &Settings, entry: &Entry) {
        let is_sale = entry.kind == "sell";
        let value = match (is_sale, settings.fees_in_cost) {
            (false, true) => entry.amount + entry.fee + entry.tax,
            (true, true) => entry.amount - entry.fee,
            (_, false) => entry.amount,
        };
        if !settings.fees_in_cost {
            self.fees += entry.fee;
        }
        if is_sale || !settings.fees_in_cost {
            self.taxes += entry.tax;
        }

        let held = self.quantity();
        let is_closing = if is_sale { held.signum() > 0 } else { held.is_negative() };
        let closes = if is_closing { entry.quantity.min(held.abs()) } else { Units::ZERO };
        let opens = entry.quantity - closes;
        let closing_value = if opens.is_zero() { value } else { part(value, closes, entry.quantity) };
        let opening_value = value - closing_value;

        let released = self.close(&settings.cost_basis, closes);
        self.realized_gain += if is_sale { closing_value - released } else { -released - closing_value };
        if !opens.is_zero() {
            let sign = |units: Units| if is_sale { -units } else { units };
            let lot = Lot {
                opened_on: entry.trade_date.clone(),
                position: entry.position,
                quantity: sign(opens),
                cost: sign(opening_value),
                fx_rate: entry.fx_rate,
            };
            self.open(&settings.cost_basis, lot);
        }
    }

    /// Takes so many units out of the lots, and gives the cost that goes with them.
    fn close(&mut self, cost_basis: &str, mut wanted: Units) -> Units {
        let mut released = Units::ZERO;
        while !wanted.is_zero() {
            let index = self.next_to_close(cost_basis);
            let lot = &mut self.lots[index];
            let taken = wanted.min(lot.quantity.abs());
            if taken == lot.quantity.abs() {
                released += lot.cost;
                self.lots.remove(index);
            } else {
                let cost = part(lot.cost, taken, lot.quantity.abs());
                lot.cost -= cost;
                lot.quantity -= if lot.quantity.is_negative() { -taken } else { taken };
                released += cost;
            }
            wanted -= taken;
        }
        released
    }

    fn next_to_close(&self, cost_basis: &str) -> usize {
        match cost_basis {
            "lifo" => self.lots.len() - 1,
            "hifo" => {
                let mut dearest = 0;
                for (index, lot) in self.lots.iter().enumerate() {
                    let best = &self.lots[dearest];
                    let order = lot.cost.compare_per_unit(lot.quantity, best.cost, best.quantity);
                    if order == Ordering::Greater {
                        dearest = index;
                    }
                }
                dearest
            }
            _ => 0,
        }
    }

    fn open(&mut self, cost_basis: &str, lot: Lot) {
        match self.lots.first_mut() {
            Some(pool) if cost_basis == "average" => {
                pool.fx_rate = pooled_rate(pool, &lot);
                pool.quantity += lot.quantity;
                pool.cost += lot.cost;
            }
            _ => self.lots.push(lot),
        }
    }
}

/// `part` units' share of the value of `whole` units.
fn part(value: Units, part: Units, whole: Units) -> Units {
    value.times_over(part, whole).expect("a part of a value is no larger than the value")
}

fn pooled_rate(pool: &Lot, lot: &Lot) -> Option<Units> {
    let (one, other) = (pool.fx_rate?, lot.fx_rate?);
    if one == other {
        return Some(one);
    }
    let in_base = pool.cost.times(one)? + lot.cost.times(other)?;
    in_base.bounded()?.over(pool.cost + lot.cost)
}
