//! A covariance as loadings on independent components, largest first.
//!
//! Not Cholesky: principal components exist for singular matrices too (two identical assets, a column that never
//! moves) without adding anything to the diagonal, and they put most of the variance on the first dimensions,
//! which is where a low-discrepancy sequence is best.

use super::covariance::Covariance;
use super::eigen;

/// L with L·Lᵀ = the covariance.
#[derive(Debug, Clone, PartialEq)]
pub struct Loadings {
    /// Columns of returns.
    pub columns: usize,
    /// Components with variance, at most `columns`.
    pub rank: usize,
    /// Row by row: `values[column · rank + component]`.
    pub values: Vec<f64>,
}

impl Loadings {
    /// Of a positive semidefinite matrix. Eigenvalues that are rounding errors, of either sign, are 0.
    pub fn of(covariance: &Covariance) -> Self {
        let columns = covariance.order;
        let eigen = eigen::decompose(columns, &covariance.values);
        let largest = eigen.values.first().copied().unwrap_or(0.0);
        let noise = largest * f64::EPSILON * columns as f64;
        let rank = eigen.values.iter().take_while(|value| **value > noise).count();
        let mut values = Vec::with_capacity(columns * rank);
        for column in 0..columns {
            // A column that never moves has no loadings, rather than the rounding errors of none.
            let moves = covariance.at(column, column) > 0.0;
            let scale = |k: usize| if moves { eigen.values[k].sqrt() } else { 0.0 };
            values.extend((0..rank).map(|k| eigen.vectors[k][column] * scale(k)));
        }
        Self { columns, rank, values }
    }

    /// The loadings of one column.
    pub fn row(&self, column: usize) -> &[f64] {
        &self.values[column * self.rank..(column + 1) * self.rank]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(loadings: &Loadings, i: usize, j: usize) -> f64 {
        loadings.row(i).iter().zip(loadings.row(j)).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn the_product_is_the_covariance_even_if_it_is_singular() {
        // Columns 0 and 1 are identical, column 3 never moves.
        let values = vec![4., 4., 1., 0., 4., 4., 1., 0., 1., 1., 9., 0., 0., 0., 0., 0.];
        let covariance = Covariance { order: 4, values };
        let loadings = Loadings::of(&covariance);
        assert_eq!(loadings.rank, 2);
        assert!(loadings.row(3).iter().all(|loading| *loading == 0.0));
        for i in 0..4 {
            for j in 0..4 {
                assert!((product(&loadings, i, j) - covariance.at(i, j)).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn no_columns_and_no_variance_have_no_components() {
        assert_eq!(Loadings::of(&Covariance { order: 0, values: vec![] }).rank, 0);
        assert_eq!(Loadings::of(&Covariance { order: 2, values: vec![0.0; 4] }).rank, 0);
    }
}
