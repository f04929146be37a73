//! Covariance of the columns' returns, shrunk so that it can be trusted with many columns and few days.
//!
//! Ledoit and Wolf, *Honey, I shrunk the sample covariance matrix*, Journal of Portfolio Management 30 (2004):
//! δF + (1 − δ)S with F the constant-correlation target and δ estimated from the data. This target rather than the
//! scaled identity because it leaves every variance alone: the risk of one asset does not depend on which others
//! are listed. Returns are centred and divided by n, as there.

use rayon::prelude::*;

/// A symmetric matrix, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Covariance {
    /// Rows and columns.
    pub order: usize,
    /// order² values.
    pub values: Vec<f64>,
}

impl Covariance {
    /// Element (i, j).
    pub fn at(&self, i: usize, j: usize) -> f64 {
        self.values[i * self.order + j]
    }
}

/// The shrunk matrix and how far it was shrunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Shrunk {
    /// δF + (1 − δ)S.
    pub covariance: Covariance,
    /// δ in [0, 1].
    pub intensity: f64,
}

/// S: centred cross products over n.
pub fn sample(columns: &[&[f64]]) -> Covariance {
    let centred: Vec<Vec<f64>> = columns.iter().map(|c| centre(c)).collect();
    covariance_of(&centred)
}

/// The Ledoit–Wolf estimate towards constant correlation.
pub fn ledoit_wolf(columns: &[&[f64]]) -> Shrunk {
    let centred: Vec<Vec<f64>> = columns.iter().map(|c| centre(c)).collect();
    let sample = covariance_of(&centred);
    let deviations: Vec<f64> = (0..sample.order).map(|i| sample.at(i, i).sqrt()).collect();
    let target = constant_correlation(&sample, &deviations);
    let intensity = intensity(&centred, &sample, &target, &deviations);
    let values = target
        .values
        .iter()
        .zip(&sample.values)
        .map(|(f, s)| if f == s { *s } else { intensity * f + (1.0 - intensity) * s })
        .collect();
    Shrunk { covariance: Covariance { order: sample.order, values }, intensity }
}

/// F: the sample's variances, and the mean of its correlations for all pairs. A column without variance has no
/// correlation with anything.
fn constant_correlation(sample: &Covariance, deviations: &[f64]) -> Covariance {
    let mean = mean_correlation(sample, deviations);
    let mut target = sample.clone();
    for (i, row) in target.values.chunks_exact_mut(sample.order.max(1)).enumerate() {
        for (j, value) in row.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            *value = mean * deviations[i] * deviations[j];
        }
    }
    target
}

fn mean_correlation(sample: &Covariance, deviations: &[f64]) -> f64 {
    let alive: Vec<usize> = (0..sample.order).filter(|i| deviations[*i] > 0.0).collect();
    let pairs = alive.len() * alive.len().saturating_sub(1) / 2;
    if pairs == 0 {
        return 0.0;
    }
    let mut sum = 0.0;
    for (at, i) in alive.iter().enumerate() {
        for j in &alive[..at] {
            sum += sample.at(*i, *j) / (deviations[*i] * deviations[*j]);
        }
    }
    sum / pairs as f64
}

/// δ = (π − ρ) / (γn) of the article's appendix B, between 0 and 1.
fn intensity(centred: &[Vec<f64>], sample: &Covariance, target: &Covariance, deviations: &[f64]) -> f64 {
    let distance: f64 = sample.values.iter().zip(&target.values).map(|(s, f)| (s - f) * (s - f)).sum();
    if distance == 0.0 {
        return 0.0;
    }
    let n = centred[0].len() as f64;
    let mean = mean_correlation(sample, deviations);
    let squares: Vec<Vec<f64>> = centred.iter().map(|x| x.iter().map(|x| x * x).collect()).collect();
    // π_i = Σ_j AsyVar(√n s_ij) and the parts of ρ, row by row: rows in parallel, each summed in one order.
    let rows: Vec<(f64, f64)> = (0..sample.order)
        .into_par_iter()
        .map(|i| {
            let cubes: Vec<f64> = squares[i].iter().zip(&centred[i]).map(|(square, x)| square * x).collect();
            let (mut pi, mut rho) = (0.0, 0.0);
            for j in 0..sample.order {
                let s = sample.at(i, j);
                let pi_ij = dot(&squares[i], &squares[j]) / n - s * s;
                pi += pi_ij;
                if i == j {
                    rho += pi_ij;
                } else if deviations[i] > 0.0 {
                    let theta = dot(&cubes, &centred[j]) / n - sample.at(i, i) * s;
                    rho += mean * deviations[j] / deviations[i] * theta;
                }
            }
            (pi, rho)
        })
        .collect();
    let (pi, rho) = rows.iter().fold((0.0, 0.0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
    ((pi - rho) / distance / n).clamp(0.0, 1.0)
}

fn covariance_of(centred: &[Vec<f64>]) -> Covariance {
    let order = centred.len();
    let values = (0..order)
        .into_par_iter()
        .flat_map_iter(|i| centred.iter().map(move |other| dot(&centred[i], other) / other.len() as f64))
        .collect();
    Covariance { order, values }
}

/// Deviations from the mean. A constant column becomes exactly 0, or its rounding would pass for a variance.
fn centre(column: &[f64]) -> Vec<f64> {
    if column.iter().all(|x| *x == column[0]) {
        return vec![0.0; column.len()];
    }
    let mean = column.iter().sum::<f64>() / column.len() as f64;
    column.iter().map(|x| x - mean).collect()
}

/// Eight running sums, added up in a fixed tree: fast, and the same on every machine.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    let [s0, s1, s2, s3, s4, s5, s6, s7] = sums;
    ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7)) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 * (1.0 + b.abs())
    }

    #[test]
    fn sample_covariance_by_hand() {
        let s = sample(&[&[1.0, 2.0, 3.0], &[2.0, 2.0, 8.0]]);
        // Centred: (−1, 0, 1) and (−2, −2, 4).
        assert!(close(s.at(0, 0), 2.0 / 3.0) && close(s.at(0, 1), 2.0) && close(s.at(1, 1), 8.0), "{s:?}");
        assert_eq!(s.at(0, 1), s.at(1, 0));
    }

    /// Three columns of ±1 over four days: x = (1, 1, −1, −1), y = (1, −1, 1, −1), z = x. Every square is 1, so
    /// S = 1 on the diagonal, s_xz = 1, the rest 0; r̄ = 1/3; π_ij = 1 − s_ij² = 1 for the four entries of
    /// (x,y), (y,z), else 0: π = 4. θ_ij = mean(x_i³ x_j) − s_ij = 0: ρ = 0. γ = 2(2/3)² + 4(1/3)² = 4/3.
    /// δ = 4 / (4/3) / 4 = 3/4, so s_xz becomes ¾·⅓ + ¼ = ½ and s_xy ¾·⅓ = ¼.
    #[test]
    fn ledoit_wolf_by_hand() {
        let x = [1.0, 1.0, -1.0, -1.0];
        let y = [1.0, -1.0, 1.0, -1.0];
        let shrunk = ledoit_wolf(&[&x, &y, &x]);
        assert!(close(shrunk.intensity, 0.75), "{shrunk:?}");
        let c = &shrunk.covariance;
        assert!(close(c.at(0, 2), 0.5) && close(c.at(0, 1), 0.25) && close(c.at(1, 2), 0.25), "{c:?}");
        assert_eq!([c.at(0, 0), c.at(1, 1), c.at(2, 2)], [1.0; 3], "variances are left alone");
    }

    #[test]
    fn two_columns_are_their_own_target() {
        let (a, b) = ([0.01, -0.02, 0.03, 0.005], [0.02, -0.01, 0.01, 0.0]);
        let shrunk = ledoit_wolf(&[&a, &b]);
        let s = sample(&[&a, &b]);
        assert!(shrunk.covariance.values.iter().zip(&s.values).all(|(x, y)| (x - y).abs() < 1e-18));
    }

    #[test]
    fn a_column_that_never_moves_is_correlated_with_nothing() {
        let (a, b) = ([0.01, -0.02, 0.03, 0.005], [0.02, -0.01, 0.01, 0.0]);
        let still = [0.001; 4];
        let c = ledoit_wolf(&[&a, &still, &b]).covariance;
        assert_eq!([c.at(0, 1), c.at(1, 1), c.at(2, 1)], [0.0; 3]);
        assert!(c.values.iter().all(|v| v.is_finite()));
    }
}
