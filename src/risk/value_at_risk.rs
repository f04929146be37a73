//! Value at risk: the k-th worst loss, k = ⌈n(1 − c)⌉, with a 95 % interval.
//!
//! Equally likely past days: the interval of order statistics (see [`binomial`]), which assumes no distribution.
//! Independent batches: see [`replicates`].

use super::binomial;
use super::quantile::Confidence;
use super::replicates;
use super::tail::{Depth, Tail};
use super::{Error, Estimate};

/// How deep a tail must reach for [`value_at_risk`] and its interval.
pub fn depth(scenarios: usize, batches: usize, confidence: Confidence) -> Depth {
    let k = confidence.tail_count(scenarios).unwrap_or(0);
    if batches > 1 {
        let per_batch = confidence.tail_count(scenarios / batches).unwrap_or(0);
        return Depth { pooled: k, per_batch };
    }
    let low = binomial::bounding_ranks(scenarios, confidence).low;
    Depth { pooled: low.unwrap_or(0).max(k), per_batch: 0 }
}

/// Value at risk of a tail that reaches [`depth`]; refused if n(1 − c) < 1.
pub fn value_at_risk(tail: &Tail, confidence: Confidence) -> Result<Estimate, Error> {
    let k = confidence.require_tail_count(tail.scenarios)?;
    let value = tail.worst[k - 1].amount;
    let (low, high) = if tail.batches.is_empty() {
        let ranks = binomial::bounding_ranks(tail.scenarios, confidence);
        let loss = |rank: usize| tail.worst[rank - 1].amount;
        (ranks.low.map(loss), ranks.high.map(loss))
    } else {
        let k = confidence.tail_count(tail.batch_scenarios);
        replicates::interval(value, k.map(|k| tail.batches.iter().map(move |batch| batch[k - 1].amount)))
    };
    Ok(Estimate { value, low, high, k })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(profits: &[f64], batches: usize, confidence: Confidence) -> Result<Estimate, Error> {
        value_at_risk(&Tail::of(profits, batches, depth(profits.len(), batches, confidence)), confidence)
    }

    /// Losses 1..=500: the 5th worst is 496; Bin(500, 1 %): P(X ≤ 0) = 0.7 %, P(X ≤ 1) = 4 % → l = 1;
    /// P(X ≥ 10) = 3.1 %, P(X ≥ 11) = 1.3 % → u = 11, the loss 490.
    #[test]
    fn of_five_hundred_losses() {
        let profits: Vec<f64> = (1..=500).map(|i| -f64::from(i)).collect();
        let estimate = of(&profits, 1, Confidence::P99).unwrap();
        assert_eq!(estimate, Estimate { value: 496.0, low: Some(490.0), high: Some(500.0), k: 5 });
    }

    #[test]
    fn the_upper_bound_is_missing_where_the_worst_day_is_none() {
        let profits: Vec<f64> = (1..=250).map(|i| -f64::from(i)).collect();
        let estimate = of(&profits, 1, Confidence::P99).unwrap();
        assert_eq!((estimate.value, estimate.high), (248.0, None));
        assert!(estimate.low.is_some());
    }

    #[test]
    fn ties_and_gains_are_taken_as_they_are() {
        let profits: Vec<f64> = (0..100).map(|i| if i < 3 { 1.0 } else { 2.0 }).collect();
        assert_eq!(of(&profits, 1, Confidence::P99).unwrap().value, -1.0, "a gain is a negative loss, not 0");
    }

    #[test]
    fn too_few_scenarios_are_refused() {
        assert!(matches!(of(&[-1.0; 99], 1, Confidence::P99), Err(Error::TooFewScenarios { .. })));
    }

    /// 16 batches of 20 with losses b+1..=b+20: the worst of batch b is b+20, s of 20..=35 is √(340/15).
    #[test]
    fn of_sixteen_batches() {
        let profits: Vec<f64> = (0..16).flat_map(|b| (1..=20).map(move |i| -f64::from(b + i))).collect();
        let estimate = of(&profits, 16, Confidence::P95).unwrap();
        // k = 16 of the pool: 35, 34×2, 33×3, 32×4, 31×5 are 15, so the 16th is 30.
        assert_eq!((estimate.k, estimate.value), (16, 30.0));
        let half = 2.131449545559323 * (340.0f64 / 15.0).sqrt() / 4.0;
        assert!((estimate.high.unwrap() - (30.0 + half)).abs() < 1e-12);
        assert!((estimate.low.unwrap() - (30.0 - half)).abs() < 1e-12);
        // 20 · 1 % < 1: the batches have no figure, so the pooled one has no interval.
        let estimate = of(&profits, 16, Confidence::P99).unwrap();
        assert_eq!((estimate.low, estimate.high), (None, None));
    }
}
