//! Monte Carlo: correlated Student t returns with the stated covariance.
//!
//! r = L·z·√((ν − 2) / χ²_ν), L the loadings of the covariance, z independent normals and one mixing variable χ²_ν
//! a scenario: big days are big for all assets at once. The factor ν − 2 (instead of ν) makes the covariance of r
//! the stated one and not ν/(ν − 2) times it. McNeil, Frey, Embrechts, *Quantitative Risk Management*, section 6.2.
//! The mean is 0: a day's drift is far smaller than its estimation error.
//!
//! Sixteen independent batches, so that the figures carry the error of the simulation. Every number is addressed
//! (see [`super::philox`]), so batches run on any threads and the bytes are the same.

use rayon::prelude::*;

use super::Error;
use super::chi_square::ChiSquare;
use super::normal;
use super::philox::{Address, Stream, uniforms};
use super::principal_components::Loadings;
use super::replicates::BATCHES;
use super::scenarios::Scenarios;

/// Scenarios made together: their normals stay in the cache while all columns are computed from them.
const STRIP: usize = 64;

/// What a simulation depends on besides the covariance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Key of the random numbers.
    pub seed: u64,
    /// ν, over 2 and at most 1000.
    pub degrees_of_freedom: f64,
    /// 16 × 2^m scenarios, from 1,024 to 1,048,576.
    pub paths: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { seed: 0, degrees_of_freedom: 5.0, paths: 16_384 }
    }
}

impl Settings {
    /// Refuses what no simulation can be made of. (Above ν = 1000 the t is a normal to any figure's error.)
    pub fn check(&self) -> Result<(), Error> {
        let nu = self.degrees_of_freedom;
        if !(nu > 2.0 && nu <= 1_000.0) {
            return Err(Error::DegreesOfFreedom { given: nu });
        }
        if !(1_024..=1_048_576).contains(&self.paths) || !self.paths.is_power_of_two() {
            return Err(Error::Paths { given: self.paths });
        }
        Ok(())
    }
}

/// The scenarios of a checked `settings`.
pub fn scenarios(settings: &Settings, loadings: &Loadings) -> Scenarios {
    let per_batch = settings.paths / BATCHES;
    let chi_square = ChiSquare::new(settings.degrees_of_freedom);
    let blocks = (0..BATCHES as u32)
        .into_par_iter()
        .map(|batch| batch_returns(settings, loadings, &chi_square, batch, per_batch))
        .collect();
    Scenarios::from_blocks(loadings.columns, per_batch, blocks)
}

fn batch_returns(
    settings: &Settings,
    loadings: &Loadings,
    chi_square: &ChiSquare,
    batch: u32,
    per_batch: usize,
) -> Vec<f64> {
    let mut returns = vec![0.0; loadings.columns * per_batch];
    let mut normals = vec![[0.0; STRIP]; loadings.rank];
    for start in (0..per_batch).step_by(STRIP) {
        for (component, strip) in normals.iter_mut().enumerate() {
            let at = Address { stream: Stream::Normals, batch, column: component as u32, block: 0 };
            fill(strip, settings.seed, at, start, normal::quantile);
        }
        let mut scale = [0.0; STRIP];
        let at = Address { stream: Stream::Mixing, batch, column: 0, block: 0 };
        fill(&mut scale, settings.seed, at, start, |u| {
            ((settings.degrees_of_freedom - 2.0) / chi_square.quantile(u)).sqrt()
        });
        for (column, out) in returns.chunks_exact_mut(per_batch).enumerate() {
            out[start..start + STRIP].copy_from_slice(&column_returns(
                loadings.row(column),
                &normals,
                &scale,
            ));
        }
    }
    returns
}

/// `quantile` of the uniforms of scenarios start.., two to an address.
fn fill(strip: &mut [f64; STRIP], seed: u64, at: Address, start: usize, quantile: impl Fn(f64) -> f64) {
    for (pair, out) in strip.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        *out = uniforms(seed, Address { block: (start / 2 + pair) as u32, ..at }).map(&quantile);
    }
}

/// Components are added in order for every scenario.
fn column_returns(row: &[f64], normals: &[[f64; STRIP]], scale: &[f64; STRIP]) -> [f64; STRIP] {
    let mut sums = [0.0; STRIP];
    for (loading, strip) in row.iter().zip(normals) {
        for (sum, z) in sums.iter_mut().zip(strip) {
            *sum += loading * z;
        }
    }
    for (sum, factor) in sums.iter_mut().zip(scale) {
        *sum *= factor;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::super::covariance::Covariance;
    use super::super::{
        Confidence, engine,
        exposure::{Column, ExposureVector},
    };
    use super::*;

    fn covariance(correlation: f64) -> Covariance {
        let (a, b) = (0.01, 0.02);
        Covariance { order: 2, values: vec![a * a, correlation * a * b, correlation * a * b, b * b] }
    }

    fn simulate(settings: Settings, correlation: f64) -> Scenarios {
        scenarios(&settings, &Loadings::of(&covariance(correlation)))
    }

    fn moment(r: &Scenarios, i: usize, j: usize) -> f64 {
        let products = (0..r.batches()).flat_map(|b| r.returns(b, i).iter().zip(r.returns(b, j)));
        products.map(|(x, y)| x * y).sum::<f64>() / r.len() as f64
    }

    #[test]
    fn the_covariance_is_the_stated_one_and_not_that_of_an_unscaled_t() {
        let settings = Settings { seed: 11, degrees_of_freedom: 9.0, paths: 65_536 };
        let (r, stated) = (simulate(settings, 0.6), covariance(0.6));
        for (i, j) in [(0, 0), (0, 1), (1, 1)] {
            // Standard error of a t₉ second moment at 65,536 paths: √((3·7/5 − 1)/65536) = 0.7 %.
            let ratio = moment(&r, i, j) / stated.at(i, j);
            assert!((ratio - 1.0).abs() < 0.03, "{i} {j}: {ratio}");
        }
    }

    /// With equal money in both and correlation ρ the deviation is √(1 + 4 + 4ρ) %, and the 99 % point of a t₅
    /// scaled to variance 1 is 3.3649·√(3/5) = 2.6065 deviations.
    #[test]
    fn the_value_at_risk_of_two_assets_depends_on_their_correlation() {
        let amounts = [(Column::Risky(0), 100.0), (Column::Risky(1), 100.0)];
        let exposures = ExposureVector::new(Column::Numeraire, &amounts).unwrap();
        for correlation in [-1.0, -0.5, 0.0, 0.5, 1.0] {
            let settings = Settings { paths: 65_536, ..Settings::default() };
            let estimate =
                engine::value_at_risk(&simulate(settings, correlation), &exposures, Confidence::P99);
            let exact = 3.364929998907217 * 0.6f64.sqrt() * (5.0 + 4.0 * correlation).sqrt();
            // One standard error is √(0.01·0.99/65536) / f(3.3649), 1.06 % of the figure.
            let ratio = estimate.unwrap().value / exact;
            assert!((ratio - 1.0).abs() < 0.032, "{correlation}: {ratio}");
        }
    }

    /// The interval is built for 95 %; of 40 seeds at least 33 should cover the exact figure (fewer has a probability below 0.1 %).
    #[test]
    fn the_interval_covers_the_exact_figure_as_often_as_it_says() {
        let amounts = [(Column::Risky(0), 100.0), (Column::Risky(1), 100.0)];
        let exposures = ExposureVector::new(Column::Numeraire, &amounts).unwrap();
        let exact = 3.364929998907217 * 0.6f64.sqrt() * 5f64.sqrt();
        let covered = (0..40).filter(|seed| {
            let r = simulate(Settings { seed: *seed, ..Settings::default() }, 0.0);
            let estimate = engine::value_at_risk(&r, &exposures, Confidence::P99).unwrap();
            estimate.low.is_some_and(|low| low <= exact) && estimate.high.is_some_and(|high| high >= exact)
        });
        assert!(covered.count() >= 33);
    }

    #[test]
    fn two_identical_assets_move_as_one() {
        let values = vec![1e-4; 4];
        let r = scenarios(&Settings::default(), &Loadings::of(&Covariance { order: 2, values }));
        for batch in 0..r.batches() {
            for (a, b) in r.returns(batch, 0).iter().zip(r.returns(batch, 1)) {
                assert!((a - b).abs() <= 1e-12 * a.abs());
            }
        }
    }

    #[test]
    fn batches_and_seeds_differ_and_a_longer_run_begins_like_a_shorter_one() {
        let short = simulate(Settings { paths: 1_024, ..Settings::default() }, 0.3);
        let long = simulate(Settings { paths: 4_096, ..Settings::default() }, 0.3);
        assert_eq!(long.returns(5, 1)[..64], *short.returns(5, 1));
        assert_ne!(short.returns(0, 0), short.returns(1, 0));
        let other = simulate(Settings { seed: 1, paths: 1_024, ..Settings::default() }, 0.3);
        assert_ne!(short, other);
    }

    /// Frozen: another machine, compiler or optimisation that gives other bytes breaks every stored figure. If this
    /// is meant to change, raise the engine version.
    #[test]
    fn the_bytes_are_those_of_engine_version_1() {
        use sha2::{Digest, Sha256};
        let values = vec![4e-4, 1e-4, -2e-4, 1e-4, 1e-4, 5e-5, -2e-4, 5e-5, 9e-4];
        let settings = Settings { seed: 2_024, degrees_of_freedom: 4.5, paths: 2_048 };
        let r = scenarios(&settings, &Loadings::of(&Covariance { order: 3, values }));
        let mut hash = Sha256::new();
        for (batch, column) in (0..r.batches()).flat_map(|batch| (0..3).map(move |column| (batch, column))) {
            r.returns(batch, column).iter().for_each(|x| hash.update(x.to_bits().to_le_bytes()));
        }
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "61b5d25312f6d866a26e3e773dcf1fc749c71e4aa06169c5b07326ac5c6b8cab");
        assert_eq!(super::super::ENGINE_VERSION, 1);
    }

    #[test]
    fn settings_are_checked() {
        let with = |degrees_of_freedom, paths| Settings { seed: 0, degrees_of_freedom, paths }.check();
        assert!(with(5.0, 16_384).is_ok() && with(2.1, 1_024).is_ok() && with(1_000.0, 1_048_576).is_ok());
        for nu in [2.0, f64::NAN, f64::INFINITY, -5.0, 1_001.0] {
            assert!(matches!(with(nu, 16_384), Err(Error::DegreesOfFreedom { .. })));
        }
        for paths in [0, 512, 16_000, 2_097_152] {
            assert!(matches!(with(5.0, paths), Err(Error::Paths { .. })));
        }
    }
}
