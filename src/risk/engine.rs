//! The figures of one exposure vector on one scenario matrix.
//!
//! One pass makes the profits of all scenarios (128 kB at 16,384: one portfolio's, never a matrix of them), one
//! selection the tail that all figures share. What is summed is summed in one order: the same bytes on any thread.

use super::exposure::ExposureVector;
use super::figures::{Estimate, TailFigures};
use super::quantile::Confidence;
use super::scenarios::Scenarios;
use super::tail::{Depth, Tail};
use super::{Error, expected_shortfall, value_at_risk};

/// Value at risk at 95 and 99 % and expected shortfall at 97.5 %, each absent where n(1 − c) < 1.
pub fn tail_figures(scenarios: &Scenarios, exposures: &ExposureVector) -> TailFigures {
    let (n, batches) = (scenarios.len(), scenarios.batches());
    let depth = deepest([
        value_at_risk::depth(n, batches, Confidence::P95),
        value_at_risk::depth(n, batches, Confidence::P99),
        expected_shortfall::depth(n, batches, Confidence::P975),
    ]);
    let tail = Tail::of(&scenarios.profits(exposures), batches, depth);
    TailFigures {
        var_95: value_at_risk::value_at_risk(&tail, Confidence::P95).ok(),
        var_99: value_at_risk::value_at_risk(&tail, Confidence::P99).ok(),
        es_975: expected_shortfall::expected_shortfall(&tail, Confidence::P975).ok(),
    }
}

/// Value at risk at a level of the caller's choice.
pub fn value_at_risk(r: &Scenarios, exposures: &ExposureVector, at: Confidence) -> Result<Estimate, Error> {
    let depth = value_at_risk::depth(r.len(), r.batches(), at);
    value_at_risk::value_at_risk(&Tail::of(&r.profits(exposures), r.batches(), depth), at)
}

/// Expected shortfall at a level of the caller's choice.
pub fn expected_shortfall(
    r: &Scenarios,
    exposures: &ExposureVector,
    at: Confidence,
) -> Result<Estimate, Error> {
    let depth = expected_shortfall::depth(r.len(), r.batches(), at);
    expected_shortfall::expected_shortfall(&Tail::of(&r.profits(exposures), r.batches(), depth), at)
}

fn deepest(depths: [Depth; 3]) -> Depth {
    depths.into_iter().fold(Depth { pooled: 0, per_batch: 0 }, |a, b| Depth {
        pooled: a.pooled.max(b.pooled),
        per_batch: a.per_batch.max(b.per_batch),
    })
}

#[cfg(test)]
mod tests {
    use super::super::exposure::Column::{self, Numeraire, Risky};
    use super::*;
    use proptest::prelude::*;

    fn vector(amounts: &[(Column, f64)]) -> ExposureVector {
        ExposureVector::new(Numeraire, amounts).unwrap()
    }

    /// 100 days of −1 … −100 basis points on 10,000: VaR 95 % is the 5th worst, 96; VaR 99 % the worst, 100; ES
    /// 97.5 % the mean of the ⌈2.5⌉ = 3 worst, 99.
    #[test]
    fn a_small_known_matrix() {
        let r = Scenarios::from_columns(100, &[(1..=100).map(|i| -f64::from(i) / 1e4).collect()]);
        let figures = tail_figures(&r, &vector(&[(Risky(0), 10_000.0)]));
        let value = |estimate: Option<Estimate>| (estimate.unwrap().value * 1e6).round() / 1e6;
        assert_eq!(value(figures.var_95), 96.0);
        assert_eq!(value(figures.var_99), 100.0);
        assert_eq!(value(figures.es_975), 99.0);
        assert_eq!(figures.es_975.unwrap().k, 3);
    }

    #[test]
    fn a_short_position_loses_where_a_long_one_gains() {
        let r = Scenarios::from_columns(100, &[(1..=100).map(f64::from).collect()]);
        assert_eq!(value_at_risk(&r, &vector(&[(Risky(0), -1.0)]), Confidence::P99).unwrap().value, 100.0);
        assert_eq!(value_at_risk(&r, &vector(&[(Risky(0), 1.0)]), Confidence::P99).unwrap().value, -1.0);
    }

    #[test]
    fn too_few_scenarios_leave_only_what_they_can_say() {
        let r = Scenarios::from_columns(50, &[vec![-0.01; 50]]);
        let figures = tail_figures(&r, &vector(&[(Risky(0), 1.0)]));
        assert!(figures.var_95.is_some() && figures.es_975.is_some() && figures.var_99.is_none());
        let none = tail_figures(&Scenarios::from_columns(0, &[vec![]]), &vector(&[(Risky(0), 1.0)]));
        assert_eq!(none, TailFigures::default());
    }

    fn returns() -> impl Strategy<Value = Vec<Vec<f64>>> {
        proptest::collection::vec(proptest::collection::vec(-0.2..0.2f64, 320), 3)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn value_at_risk_grows_with_confidence_and_shortfall_is_beyond_it(
            columns in returns(),
            amounts in proptest::array::uniform3(-1e6..1e6f64),
            levels in proptest::collection::vec(1u32..990_001, 2..6),
            batches in prop_oneof![Just(1usize), Just(16)],
        ) {
            let r = if batches == 1 {
                Scenarios::from_columns(320, &columns)
            } else {
                let block = |b: usize| columns.iter().flat_map(|c| &c[b * 20..b * 20 + 20]).copied().collect();
                Scenarios::from_blocks(3, 20, (0..16).map(block).collect())
            };
            let amounts: Vec<_> = amounts.iter().enumerate().map(|(c, v)| (Risky(c), *v)).collect();
            let exposures = vector(&amounts);
            let mut levels: Vec<_> = levels.into_iter().filter_map(Confidence::from_millionths).collect();
            levels.sort();
            let mut last = f64::NEG_INFINITY;
            for level in levels {
                let var = value_at_risk(&r, &exposures, level).unwrap();
                let es = expected_shortfall(&r, &exposures, level).unwrap();
                prop_assert!(var.value >= last);
                // A mean of k equal numbers may be one rounding below them.
                prop_assert!(es.value >= var.value - 1e-9 * var.value.abs());
                prop_assert!(var.low.is_none_or(|low| low <= var.value));
                prop_assert!(var.high.is_none_or(|high| high >= var.value));
                last = var.value;
            }
        }

        #[test]
        fn scaling_the_exposures_scales_every_figure(
            columns in returns(),
            amounts in proptest::array::uniform3(-1e6..1e6f64),
            power in -8i32..8,
        ) {
            // By a power of two, so that it is exact to the bit.
            let factor = 2f64.powi(power);
            let r = Scenarios::from_columns(320, &columns);
            let of = |factor: f64| {
                let amounts: Vec<_> = amounts.iter().enumerate().map(|(c, v)| (Risky(c), v * factor)).collect();
                tail_figures(&r, &vector(&amounts))
            };
            let (one, scaled) = (of(1.0), of(factor));
            for (a, b) in [(one.var_95, scaled.var_95), (one.var_99, scaled.var_99), (one.es_975, scaled.es_975)] {
                let (a, b) = (a.unwrap(), b.unwrap());
                prop_assert_eq!(a.value * factor, b.value);
                prop_assert_eq!(a.low.map(|x| x * factor), b.low);
                prop_assert_eq!(a.high.map(|x| x * factor), b.high);
            }
        }
    }
}
