//! Expected shortfall: the mean of the k worst losses, k = ⌈n(1 − c)⌉, with a 95 % interval.
//!
//! Equally likely past days: ES ± 1.96 √((s² + c(ES − VaR)²) / (n(1 − c))), s² the sample variance of the k worst
//! (Manistre and Hancock, *Variance of the CTE estimator*, North American Actuarial Journal 9, 2005). Independent
//! batches: see [`replicates`].

use super::quantile::Confidence;
use super::replicates;
use super::tail::{Depth, Loss, Tail};
use super::{Error, Estimate};

/// How deep a tail must reach for [`expected_shortfall`] and its interval.
pub fn depth(scenarios: usize, batches: usize, confidence: Confidence) -> Depth {
    let count = |n| confidence.tail_count(n).unwrap_or(0);
    Depth { pooled: count(scenarios), per_batch: if batches > 1 { count(scenarios / batches) } else { 0 } }
}

/// Expected shortfall of a tail that reaches [`depth`]; refused if n(1 − c) < 1.
pub fn expected_shortfall(tail: &Tail, confidence: Confidence) -> Result<Estimate, Error> {
    let k = confidence.require_tail_count(tail.scenarios)?;
    let worst = &tail.worst[..k];
    let value = mean(worst);
    let (low, high) = if tail.batches.is_empty() {
        let half = half_width(worst, value, tail.scenarios, confidence);
        (half.map(|half| value - half), half.map(|half| value + half))
    } else {
        let k = confidence.tail_count(tail.batch_scenarios);
        replicates::interval(value, k.map(|k| tail.batches.iter().map(move |batch| mean(&batch[..k]))))
    };
    Ok(Estimate { value, low, high, k })
}

/// Summed from the worst on, always in this order.
fn mean(worst: &[Loss]) -> f64 {
    worst.iter().fold(0.0, |sum, loss| sum + loss.amount) / worst.len() as f64
}

/// `None` for a single loss: one number has no variance, and 0 would be a false certainty.
fn half_width(worst: &[Loss], value: f64, scenarios: usize, confidence: Confidence) -> Option<f64> {
    let [.., value_at_risk] = worst else { return None };
    if worst.len() < 2 {
        return None;
    }
    let squares = worst.iter().fold(0.0, |sum, loss| sum + (loss.amount - value) * (loss.amount - value));
    let variance = squares / (worst.len() - 1) as f64;
    let beyond = value - value_at_risk.amount;
    let spread = variance + confidence.as_f64() * beyond * beyond;
    Some(1.96 * (spread / confidence.expected_in_tail(scenarios)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(profits: &[f64], batches: usize, confidence: Confidence) -> Result<Estimate, Error> {
        expected_shortfall(&Tail::of(profits, batches, depth(profits.len(), batches, confidence)), confidence)
    }

    /// Losses 1..=200 at 97.5 %: k = 5, the worst are 200..=196, their mean 198, s² = 2.5, VaR 196:
    /// half = 1.96 √((2.5 + 0.975·4)/5) = 1.96 √1.28.
    #[test]
    fn of_two_hundred_losses() {
        let profits: Vec<f64> = (1..=200).map(|i| -f64::from(i)).collect();
        let estimate = of(&profits, 1, Confidence::P975).unwrap();
        assert_eq!((estimate.k, estimate.value), (5, 198.0));
        let half = 1.96 * 1.28f64.sqrt();
        assert!((estimate.low.unwrap() - (198.0 - half)).abs() < 1e-12);
        assert!((estimate.high.unwrap() - (198.0 + half)).abs() < 1e-12);
    }

    #[test]
    fn one_loss_has_a_mean_but_no_interval() {
        let profits: Vec<f64> = (1..=100).map(|i| -f64::from(i)).collect();
        let estimate = of(&profits, 1, Confidence::P99).unwrap();
        assert_eq!(estimate, Estimate { value: 100.0, low: None, high: None, k: 1 });
    }

    #[test]
    fn too_few_scenarios_are_refused() {
        assert!(matches!(of(&[-1.0; 39], 1, Confidence::P975), Err(Error::TooFewScenarios { .. })));
    }

    /// 16 batches of 40 with losses b+1..=b+40: batch figure b+40.
    #[test]
    fn of_sixteen_batches() {
        let profits: Vec<f64> = (0..16).flat_map(|b| (1..=40).map(move |i| -f64::from(b + i))).collect();
        let estimate = of(&profits, 16, Confidence::P975).unwrap();
        // The 16 worst: 55, 54×2, 53×3, 52×4, 51×5, 50.
        assert_eq!(estimate.value, (55.0 + 108.0 + 159.0 + 208.0 + 255.0 + 50.0) / 16.0);
        let half = 2.131449545559323 * (340.0f64 / 15.0).sqrt() / 4.0;
        assert!((estimate.high.unwrap() - estimate.value - half).abs() < 1e-12);
    }
}
