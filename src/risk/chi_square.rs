//! The chi-square quantile: the mixing variable of a Student t scenario from one uniform.
//!
//! Inversion rather than rejection (Marsaglia–Tsang): one uniform makes one value, monotonically, so a low
//! discrepancy sequence can feed it on its first dimension. The incomplete gamma function by series below the
//! mean and Lentz' continued fraction above, then Halley steps from Wilson and Hilferty's cube: Press et al.,
//! *Numerical Recipes*, 3rd ed., sections 6.2 and 6.2.1; Abramowitz and Stegun 6.5.29, 6.5.31, 26.4.17.

use super::normal;

/// A chi-square distribution with ν > 2 degrees of freedom (so that its density is 0 at 0, and Halley is tame).
#[derive(Debug, Clone, Copy)]
pub struct ChiSquare {
    shape: f64,
    log_gamma: f64,
}

impl ChiSquare {
    /// The distribution with `degrees_of_freedom` > 2.
    pub fn new(degrees_of_freedom: f64) -> Self {
        let shape = degrees_of_freedom / 2.0;
        Self { shape, log_gamma: libm::lgamma(shape) }
    }

    /// x with P(χ² ≤ x) = `p`, for 0 < `p` < 1.
    pub fn quantile(&self, p: f64) -> f64 {
        let a = self.shape;
        let mut x = self.first_guess(p);
        for _ in 0..32 {
            let (below, above) = self.tails(x);
            // The smaller tail decides, or the difference would have no digits left.
            let excess = if p <= 0.5 { below - p } else { (1.0 - p) - above };
            let newton = excess / self.density(x);
            let step = newton / (1.0 - 0.5 * f64::min(1.0, newton * ((a - 1.0) / x - 1.0)));
            let next = if x > step { x - step } else { 0.5 * x };
            let moved = (next - x).abs();
            x = next;
            // Convergence is cubic: after a move of 10⁻⁸ there is nothing left to gain.
            if moved <= 1e-8 * x {
                break;
            }
        }
        2.0 * x
    }

    /// Wilson–Hilferty, or the leading term of the series where the cube would fall to 0 and below.
    fn first_guess(&self, p: f64) -> f64 {
        let a = self.shape;
        let ninth = 1.0 / (9.0 * a);
        let cube_root = 1.0 - ninth + normal::quantile(p) * ninth.sqrt();
        if cube_root > 0.3 {
            return a * cube_root * cube_root * cube_root;
        }
        libm::exp((libm::log(p) + libm::log(a) + self.log_gamma) / a)
    }

    /// Density of the gamma distribution of the same shape at `x`.
    fn density(&self, x: f64) -> f64 {
        libm::exp((self.shape - 1.0) * libm::log(x) - x - self.log_gamma)
    }

    /// (P, Q): the regularised incomplete gamma functions, which sum to one.
    fn tails(&self, x: f64) -> (f64, f64) {
        let front = x * self.density(x);
        if x < self.shape + 1.0 {
            let below = front * self.series(x);
            (below, 1.0 - below)
        } else {
            let above = front * self.continued_fraction(x);
            (1.0 - above, above)
        }
    }

    /// Σ xⁿ / (a(a+1)…(a+n)).
    fn series(&self, x: f64) -> f64 {
        let mut denominator = self.shape;
        let mut term = 1.0 / denominator;
        let mut sum = term;
        while term > sum * f64::EPSILON {
            denominator += 1.0;
            term *= x / denominator;
            sum += term;
        }
        sum
    }

    /// 1/(x+1−a− 1(1−a)/(x+3−a− …)) by the modified method of Lentz.
    fn continued_fraction(&self, x: f64) -> f64 {
        const TINY: f64 = 1e-300;
        let mut b = x + 1.0 - self.shape;
        let mut c = 1.0 / TINY;
        let mut d = 1.0 / b;
        let mut value = d;
        // Reached within some √a steps; the bound only makes the end of the loop evident.
        for i in 1..10_000 {
            let i = f64::from(i);
            let a = -i * (i - self.shape);
            b += 2.0;
            d = 1.0 / away_from_zero(a * d + b, TINY);
            c = away_from_zero(b + a / c, TINY);
            let factor = d * c;
            value *= factor;
            if (factor - 1.0).abs() <= f64::EPSILON {
                break;
            }
        }
        value
    }
}

fn away_from_zero(x: f64, tiny: f64) -> f64 {
    if x.abs() < tiny { tiny } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{ChiSquared, ContinuousCDF};

    /// Abramowitz and Stegun, table 26.8 and any textbook.
    #[test]
    fn published_percentage_points() {
        for (nu, p, x) in [
            (5.0, 0.95, 11.070497693516351),
            (5.0, 0.05, 1.1454762260617692),
            (10.0, 0.99, 23.209251158954356),
            (4.0, 0.5, 3.356693980033321),
        ] {
            let got = ChiSquare::new(nu).quantile(p);
            assert!((got / x - 1.0).abs() < 1e-13, "{nu} {p}: {got}");
        }
    }

    #[test]
    fn inverts_the_distribution_function_of_statrs_in_both_tails() {
        for nu in [2.1, 3.0, 5.0, 7.7, 30.0, 200.0, 1_000.0] {
            let ours = ChiSquare::new(nu);
            let oracle = ChiSquared::new(nu).unwrap();
            for p in [1e-12, 1e-9, 1e-6, 1e-3, 0.01, 0.2, 0.4999, 0.5001, 0.8, 0.99, 0.9999] {
                let back = oracle.cdf(ours.quantile(p));
                assert!((back / p - 1.0).abs() < 1e-9, "nu {nu}, p {p} became {back}");
            }
        }
    }

    #[test]
    fn grows_with_the_probability() {
        let chi = ChiSquare::new(5.0);
        let values: Vec<f64> = (1..4_096).map(|i| chi.quantile(f64::from(i) / 4_096.0)).collect();
        assert!(values.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn the_ends_of_the_open_unit_interval_stay_finite_and_positive() {
        for nu in [2.000_001, 5.0, 1_000.0] {
            let chi = ChiSquare::new(nu);
            let (low, high) = (chi.quantile(2f64.powi(-53)), chi.quantile(1.0 - 2f64.powi(-53)));
            assert!(low > 0.0 && low < high && high.is_finite(), "{nu}: {low} {high}");
        }
    }
}
