//! The scenario matrix R (scenarios × columns), immutable and shared by all portfolios, and its product with one
//! exposure vector.
//!
//! R lies in blocks of equally many scenarios (one for history, one per batch for Monte Carlo), each column by
//! column: a portfolio reads only the columns it holds, contiguously. Every profit is summed in column order and
//! without fused multiply-adds, so how the work is cut up never shows in the bytes.

use super::exposure::{Column, ExposureVector};

/// Scenarios summed together: 4 kB of profits, which stay in the first-level cache.
const STRIP: usize = 512;

/// Simple one-day returns in the numeraire.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenarios {
    columns: usize,
    block_scenarios: usize,
    blocks: Vec<Vec<f64>>,
    /// Per column, its smallest return.
    least: Vec<f64>,
}

impl Scenarios {
    /// One block: `columns` of equal length, `scenarios` each (given apart, for there may be no columns).
    pub fn from_columns(scenarios: usize, columns: &[Vec<f64>]) -> Self {
        Self::from_blocks(columns.len(), scenarios, vec![columns.concat()])
    }

    /// Several batches, each `columns` × `block_scenarios` long and column by column.
    pub fn from_blocks(columns: usize, block_scenarios: usize, blocks: Vec<Vec<f64>>) -> Self {
        assert!(blocks.iter().all(|b| b.len() == columns * block_scenarios), "a ragged scenario matrix");
        let least = (0..columns)
            .map(|c| {
                let all = blocks.iter().flat_map(|b| &b[c * block_scenarios..(c + 1) * block_scenarios]);
                all.copied().fold(f64::INFINITY, f64::min)
            })
            .collect();
        Self { columns, block_scenarios, blocks, least }
    }

    /// n.
    pub fn len(&self) -> usize {
        self.block_scenarios * self.blocks.len()
    }

    /// Whether there is no scenario at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Independent batches: 16 for Monte Carlo, 1 for history.
    pub fn batches(&self) -> usize {
        self.blocks.len()
    }

    /// The returns of `column` in `batch`.
    pub fn returns(&self, batch: usize, column: usize) -> &[f64] {
        &self.blocks[batch][column * self.block_scenarios..(column + 1) * self.block_scenarios]
    }

    /// Whether `base` keeps a positive worth in every scenario; otherwise no amount can be expressed in it.
    pub fn can_report_in(&self, base: Column) -> bool {
        match base {
            Column::Numeraire => true,
            Column::Risky(column) => 1.0 + self.least[column] > 0.0,
        }
    }

    /// Profit (loss negative) of every scenario in base currency, in scenario order.
    pub fn profits(&self, exposures: &ExposureVector) -> Vec<f64> {
        let mut profits = vec![0.0; self.len()];
        if profits.is_empty() {
            return profits;
        }
        for (batch, out) in profits.chunks_exact_mut(self.block_scenarios).enumerate() {
            for (strip, out) in out.chunks_mut(STRIP).enumerate() {
                self.strip_profits(exposures, batch, strip * STRIP, out);
            }
        }
        profits
    }

    fn strip_profits(&self, exposures: &ExposureVector, batch: usize, start: usize, out: &mut [f64]) {
        let end = start + out.len();
        let column = |index: usize| &self.returns(batch, index)[start..end];
        let (fours, rest) = exposures.terms().as_chunks::<4>();
        for [a, b, c, d] in fours {
            let returns = [column(a.0), column(b.0), column(c.0), column(d.0)];
            add_four(out, [a.1, b.1, c.1, d.1], returns);
        }
        for (index, amount) in rest {
            for (profit, r) in out.iter_mut().zip(column(*index)) {
                *profit += amount * r;
            }
        }
        if let Column::Risky(base) = exposures.base() {
            for (profit, r) in out.iter_mut().zip(column(base)) {
                *profit /= 1.0 + r;
            }
        }
    }
}

/// Four columns in one pass over the profits: a quarter of their loads and stores, the same order of additions.
fn add_four(out: &mut [f64], amounts: [f64; 4], returns: [&[f64]; 4]) {
    let [a, b, c, d] = returns.map(|r| &r[..out.len()]);
    for (s, profit) in out.iter_mut().enumerate() {
        let mut sum = *profit;
        sum += amounts[0] * a[s];
        sum += amounts[1] * b[s];
        sum += amounts[2] * c[s];
        sum += amounts[3] * d[s];
        *profit = sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Column::{Numeraire, Risky};

    fn vector(base: Column, amounts: &[(Column, f64)]) -> ExposureVector {
        ExposureVector::new(base, amounts).unwrap()
    }

    #[test]
    fn profit_in_the_numeraire_is_the_product() {
        let r = Scenarios::from_columns(3, &[vec![0.01, -0.02, 0.0], vec![0.5, 0.25, -0.125]]);
        let profits = r.profits(&vector(Numeraire, &[(Risky(0), 100.0), (Risky(1), 8.0), (Numeraire, 1e3)]));
        assert_eq!(profits, [5.0, 0.0, -1.0]);
    }

    /// 100 EUR of a stock in USD terms, base EUR: stock +10 % in USD, EUR +25 %: 100·1.1/1.25 − 100 = −12.
    #[test]
    fn profit_in_another_base_divides_by_its_return() {
        let r = Scenarios::from_columns(1, &[vec![0.1], vec![0.25]]);
        let profits = r.profits(&vector(Risky(1), &[(Risky(0), 100.0)]));
        assert!((profits[0] + 12.0).abs() < 1e-13, "{profits:?}");
        let cash = r.profits(&vector(Risky(1), &[(Risky(1), 123.456)]));
        assert_eq!(cash, [0.0], "base cash is riskless");
        // Dollars held in a euro portfolio: 100/1.25 − 100 = −20.
        let dollars = r.profits(&vector(Risky(1), &[(Numeraire, 100.0)]));
        assert!((dollars[0] + 20.0).abs() < 1e-13, "{dollars:?}");
    }

    #[test]
    fn how_the_matrix_is_cut_into_blocks_does_not_show() {
        let columns: Vec<Vec<f64>> = (0..7)
            .map(|c| (0..2_048).map(|s| f64::from((s * 37 + c * 101) % 997) / 1e4 - 0.05).collect())
            .collect();
        let amounts: Vec<(Column, f64)> = (0..7).map(|c| (Risky(c), 1e4 / (c as f64 + 3.0))).collect();
        let exposures = vector(Risky(3), &amounts);
        let whole = Scenarios::from_columns(2_048, &columns).profits(&exposures);
        let halves =
            (0..2).map(|h| columns.iter().flat_map(|c| &c[h * 1_024..(h + 1) * 1_024]).copied().collect());
        assert_eq!(Scenarios::from_blocks(7, 1_024, halves.collect()).profits(&exposures), whole);
        for (s, profit) in whole.iter().enumerate().step_by(311) {
            let sum = exposures.terms().iter().fold(0.0, |sum, (c, v)| sum + v * columns[*c][s]);
            assert_eq!(*profit, sum / (1.0 + columns[3][s]));
        }
    }

    #[test]
    fn a_base_that_loses_everything_cannot_be_reported_in() {
        let r = Scenarios::from_columns(2, &[vec![0.1, -1.0], vec![0.1, -0.99]]);
        assert!(!r.can_report_in(Risky(0)));
        assert!(r.can_report_in(Risky(1)) && r.can_report_in(Numeraire));
    }
}
