//! Lots: what was bought together, what it cost, and which of them a sale takes.
//!
//! The lots of a holding are all long or all short. A short lot has a negative quantity, and its cost is minus
//! the proceeds. They stand in the order in which they were opened.

use std::cmp::Ordering;

use chrono::NaiveDate;

use super::event::CostBasis;
use crate::domain::exact;
use crate::domain::ids::Position;
use crate::domain::money::{Amount, Quantity, Rate};

/// Units that were opened by one fact, or the one pool of the average cost basis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lot {
    /// The trade date of the fact that opened it; of the first, for a pool.
    pub opened: NaiveDate,
    /// The position of that fact.
    pub position: Position,
    /// Units left; negative for a short lot.
    pub quantity: Quantity,
    /// Cost of the units left, in the asset's currency; minus the proceeds for a short lot.
    pub cost: Amount,
    /// Units of base for one of the asset's currency when it was opened, if the client stated it.
    pub fx_rate: Option<Rate>,
}

/// Adds a lot: at the end, or into the pool.
pub fn open(lots: &mut Vec<Lot>, basis: CostBasis, lot: Lot) {
    match lots.first_mut() {
        Some(pool) if basis == CostBasis::Average => pour(pool, &lot),
        _ => lots.push(lot),
    }
}

/// Takes `quantity` units (positive) out of the lots and returns the cost released.
///
/// A part of a lot takes its share of the cost, rounded half-even; the last part takes what is left, so that a
/// closed lot is exactly zero. More than the lots hold cannot be taken: the caller opens a lot for the rest.
pub fn release(lots: &mut Vec<Lot>, basis: CostBasis, quantity: Quantity) -> Amount {
    let mut released = Amount::ZERO;
    let mut wanted = quantity;
    while wanted.is_positive()
        && let Some(index) = next(lots, basis)
    {
        let lot = &mut lots[index];
        let held = lot.quantity.abs();
        if held <= wanted {
            released = released.saturating_add(lot.cost);
            wanted = wanted.saturating_sub(held);
            lots.remove(index);
        } else {
            let cost = lot.cost.share(wanted, held).unwrap_or(lot.cost);
            let part = if lot.quantity.is_negative() { -wanted } else { wanted };
            lot.quantity = lot.quantity.saturating_sub(part);
            lot.cost = lot.cost.saturating_sub(cost);
            released = released.saturating_add(cost);
            wanted = Quantity::ZERO;
        }
    }
    released
}

/// Which lot is taken next.
fn next(lots: &[Lot], basis: CostBasis) -> Option<usize> {
    match basis {
        CostBasis::Fifo | CostBasis::Average => (!lots.is_empty()).then_some(0),
        CostBasis::Lifo => lots.len().checked_sub(1),
        CostBasis::Hifo => (0..lots.len()).reduce(|best, i| {
            let gains_less = compare_unit_cost(&lots[i], &lots[best]) == Ordering::Greater;
            if gains_less { i } else { best }
        }),
    }
}

/// Compares the signed cost of one unit: the higher, the smaller the gain, for long and for short lots.
fn compare_unit_cost(a: &Lot, b: &Lot) -> Ordering {
    exact::compare_ratios(
        a.cost.decimal(),
        a.quantity.abs().decimal(),
        b.cost.decimal(),
        b.quantity.abs().decimal(),
    )
}

/// Adds a lot to the pool, whose rate becomes the average weighted by cost; unknown if either is.
fn pour(pool: &mut Lot, lot: &Lot) {
    pool.fx_rate = average_rate(pool, lot);
    pool.quantity = pool.quantity.saturating_add(lot.quantity);
    pool.cost = pool.cost.saturating_add(lot.cost);
}

fn average_rate(a: &Lot, b: &Lot) -> Option<Rate> {
    let (rate_a, rate_b) = (a.fx_rate?, b.fx_rate?);
    if rate_a == rate_b {
        return Some(rate_a);
    }
    let in_base = a.cost.at_rate(rate_a)?.checked_add(b.cost.at_rate(rate_b)?)?;
    let cost = a.cost.checked_add(b.cost)?;
    exact::quotient(in_base.decimal(), cost.decimal()).map(Rate::from_decimal)
}
