//! What a model covers of a portfolio's exposures, and what it leaves out.

use crate::risk::exposure::is_money;
use crate::risk::figures::Excluded;
use crate::risk::{Column, ColumnId, Error, MarketModel};

/// An amount at risk: quantity × price × rate of a holding, or cash, negative if short or owed.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposure {
    /// The asset, or the currency of the cash.
    pub column: ColumnId,
    /// Market value in the portfolio's base currency.
    pub value_base: f64,
}

/// Exposures by what the model can say about them, each in the order of the columns.
pub(super) struct Coverage {
    pub(super) covered: Vec<(Column, f64)>,
    pub(super) excluded: Vec<Excluded>,
    pub(super) gross_excluded: f64,
    pub(super) zero_volatility: Vec<ColumnId>,
}

impl Coverage {
    /// Adds up the exposures of one column; refused if one is no finite amount, covered or not.
    pub(super) fn of(model: &MarketModel, exposures: &[Exposure]) -> Result<Self, Error> {
        let mut sorted: Vec<&Exposure> =
            exposures.iter().filter(|exposure| exposure.value_base != 0.0).collect();
        // By amount too: a sum must not depend on the order its parts came in.
        sorted.sort_by(|a, b| a.column.cmp(&b.column).then(a.value_base.total_cmp(&b.value_base)));
        let mut coverage = Self {
            covered: Vec::new(),
            excluded: Vec::new(),
            gross_excluded: 0.0,
            zero_volatility: Vec::new(),
        };
        for same in sorted.chunk_by(|a, b| a.column == b.column) {
            let id = &same[0].column;
            let amount = same.iter().fold(0.0, |sum, exposure| sum + exposure.value_base);
            if !same.iter().all(|exposure| is_money(exposure.value_base)) || !is_money(amount) {
                return Err(Error::Exposure { column: format!("{id:?}") });
            }
            coverage.add(model, id, amount);
        }
        Ok(coverage)
    }

    fn add(&mut self, model: &MarketModel, id: &ColumnId, amount: f64) {
        match model.column(id) {
            Ok(column) => {
                self.covered.push((column, amount));
                if model.has_zero_volatility(column) {
                    self.zero_volatility.push(id.clone());
                }
            }
            Err(why) => {
                self.gross_excluded += amount.abs();
                self.excluded.push(Excluded { column: id.clone(), exposure: amount, why });
            }
        }
    }
}
