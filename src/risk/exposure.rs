//! What a portfolio stands to gain or lose: one amount of base currency per column, ready for the kernel.
//!
//! With r_s the scenario's returns in the numeraire and B the base currency, holdings worth V = Σv become
//! (V + v·r_s) / (1 + r_B,s) in base. Profit and loss, less V, is therefore (v·r_s − V·r_B,s) / (1 + r_B,s): a
//! short of V in base cash is folded into v once, and base cash is riskless to the bit, not to a rounding.

use std::collections::BTreeMap;

use super::Error;

/// Amounts beyond this are no money, and could overflow downstream.
pub const MAX_EXPOSURE: f64 = 1e30;

/// Where an amount stands in a scenario matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Cash in the numeraire, whose return is 0 in every scenario.
    Numeraire,
    /// A column of the matrix.
    Risky(usize),
}

/// Checked exposures of one portfolio: finite, one per column, in column order.
#[derive(Debug, Clone, PartialEq)]
pub struct ExposureVector {
    terms: Vec<(usize, f64)>,
    base: Column,
    value: f64,
    gross: f64,
}

impl ExposureVector {
    /// From amounts in base currency, in any order; amounts of one column are added.
    pub fn new(base: Column, amounts: &[(Column, f64)]) -> Result<Self, Error> {
        if let Some((column, _)) = amounts.iter().find(|(_, amount)| !is_money(*amount)) {
            return Err(Error::Exposure { column: format!("{column:?}") });
        }
        // Sorted by amount too: the sum of a column must not depend on the order they came in.
        let mut sorted = amounts.to_vec();
        sorted.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut by_column = BTreeMap::new();
        for (column, amount) in sorted {
            *by_column.entry(column).or_insert(0.0) += amount;
        }
        let value: f64 = by_column.values().sum();
        let gross: f64 = by_column.values().map(|amount: &f64| amount.abs()).sum();
        *by_column.entry(base).or_insert(0.0) -= value;
        let terms = by_column
            .into_iter()
            .filter_map(|(column, amount)| match column {
                Column::Risky(index) if amount != 0.0 => Some((index, amount)),
                _ => None,
            })
            .collect();
        // `+ 0.0` because an empty sum of floats is −0.
        Ok(Self { terms, base, value: value + 0.0, gross: gross + 0.0 })
    }

    /// (column index, amount), ascending, without zeros, V short in base cash.
    pub fn terms(&self) -> &[(usize, f64)] {
        &self.terms
    }

    /// The base currency's column.
    pub fn base(&self) -> Column {
        self.base
    }

    /// V: net value in base currency.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Σ|v| in base currency.
    pub fn gross(&self) -> f64 {
        self.gross
    }
}

/// Whether an amount may enter: finite and not absurd.
pub fn is_money(amount: f64) -> bool {
    amount.abs() <= MAX_EXPOSURE
}

#[cfg(test)]
mod tests {
    use super::*;
    use Column::{Numeraire, Risky};

    #[test]
    fn what_is_not_a_finite_amount_is_refused() {
        for amount in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e31] {
            let refused = ExposureVector::new(Numeraire, &[(Risky(0), amount)]);
            assert!(matches!(refused, Err(Error::Exposure { .. })), "{amount}");
        }
    }

    #[test]
    fn the_base_currency_is_short_by_the_value() {
        let amounts = [(Risky(2), 30.0), (Risky(0), 50.0), (Risky(2), 20.0), (Numeraire, 7.0)];
        let exposures = ExposureVector::new(Risky(1), &amounts).unwrap();
        assert_eq!(exposures.terms(), [(0, 50.0), (1, -107.0), (2, 50.0)]);
        assert_eq!((exposures.value(), exposures.gross()), (107.0, 107.0));
    }

    #[test]
    fn base_cash_alone_has_no_terms() {
        let exposures = ExposureVector::new(Risky(1), &[(Risky(1), 1e6 / 3.0)]).unwrap();
        assert!(exposures.terms().is_empty());
    }

    #[test]
    fn the_order_of_the_amounts_does_not_matter() {
        let mut amounts = vec![(Risky(0), 0.1), (Risky(0), 1e16), (Risky(0), -1e16), (Risky(3), 2.0)];
        let first = ExposureVector::new(Numeraire, &amounts).unwrap();
        amounts.reverse();
        assert_eq!(first, ExposureVector::new(Numeraire, &amounts).unwrap());
    }
}
