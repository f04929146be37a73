//! Ranks of the order statistics that bound a quantile without assuming a distribution.
//!
//! X ~ Bin(n, 1 − c) counts the losses beyond the true value at risk, so the l-th worst loss lies above it unless
//! X < l and the u-th worst below it unless X ≥ u. David and Nagaraja, *Order Statistics*, 3rd ed., section 7.1.

use super::quantile::Confidence;

/// Probability left out on each side of a 95 % interval.
const SIDE: f64 = 0.025;
/// Weights below this share of the mode's cannot move a 2.5 % point.
const NEGLIGIBLE: f64 = 1e-20;

/// Ranks (1 is the worst loss) whose losses bound the value at risk with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundingRanks {
    /// Largest l with P(X < l) ≤ 2.5 %: its loss is the upper bound. `None` if even the worst loss is no bound.
    pub high: Option<usize>,
    /// Smallest u ≤ n with P(X ≥ u) ≤ 2.5 %: its loss is the lower bound.
    pub low: Option<usize>,
}

/// The bounding ranks for `n` equally likely scenarios.
pub fn bounding_ranks(n: usize, confidence: Confidence) -> BoundingRanks {
    let (first, weights) = weights_around_mode(n, confidence.tail());
    let total: f64 = weights.iter().sum();

    let mut below = 0.0;
    let mut high = first;
    for weight in &weights {
        below += weight;
        if below > SIDE * total {
            break;
        }
        high += 1;
    }

    let mut beyond = 0.0;
    let mut low = first + weights.len();
    for weight in weights.iter().rev() {
        beyond += weight;
        if beyond > SIDE * total {
            break;
        }
        low -= 1;
    }
    BoundingRanks { high: (high >= 1).then_some(high), low: (low <= n).then_some(low) }
}

/// Unnormalised probabilities of X = first, first + 1, …, from the mode outwards by the ratio of neighbours: no
/// factorial and no power, so nothing underflows for any n.
fn weights_around_mode(n: usize, p: f64) -> (usize, Vec<f64>) {
    let odds = p / (1.0 - p);
    let mode = (((n + 1) as f64 * p) as usize).min(n);
    let mut down = Vec::new();
    let mut weight = 1.0;
    for x in (1..=mode).rev() {
        weight *= x as f64 / ((n - x + 1) as f64 * odds);
        if weight < NEGLIGIBLE {
            break;
        }
        down.push(weight);
    }
    let first = mode - down.len();
    down.reverse();
    let mut weights = down;
    weights.push(1.0);
    weight = 1.0;
    for x in mode + 1..=n {
        weight *= (n - x + 1) as f64 * odds / x as f64;
        if weight < NEGLIGIBLE {
            break;
        }
        weights.push(weight);
    }
    (first, weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{Binomial, DiscreteCDF};

    #[test]
    fn the_ranks_are_those_of_the_binomial_distribution() {
        for n in [20, 100, 250, 500, 750, 1_000, 4_000, 16_384] {
            for confidence in [Confidence::P95, Confidence::P975, Confidence::P99] {
                let x = Binomial::new(confidence.tail(), n as u64).unwrap();
                let ranks = bounding_ranks(n, confidence);
                let fewer_than = |rank: usize| if rank == 0 { 0.0 } else { x.cdf(rank as u64 - 1) };
                match ranks.high {
                    Some(l) => {
                        assert!(fewer_than(l) <= SIDE, "{n} {confidence} {l}");
                        assert!(fewer_than(l + 1) > SIDE, "{n} {confidence} {l} is not the largest");
                    }
                    None => assert!(fewer_than(1) > SIDE),
                }
                let u = ranks.low.unwrap();
                assert!(1.0 - fewer_than(u) <= SIDE, "{n} {confidence} {u}");
                assert!(1.0 - fewer_than(u - 1) > SIDE, "{n} {confidence} {u} is not the smallest");
            }
        }
    }

    /// 0.99⁵⁰⁰ = 0.7 % and P(X ≤ 1) = 4.0 %: the worst loss is the bound. 0.99²⁵⁰ = 8.1 %: there is none.
    #[test]
    fn a_bound_that_does_not_exist_is_none() {
        assert_eq!(bounding_ranks(500, Confidence::P99).high, Some(1));
        assert_eq!(bounding_ranks(250, Confidence::P99).high, None);
        // 0.5¹ of one scenario: P(X ≥ 1) = 50 %, so no rank is low enough.
        let half = Confidence::from_millionths(500_000).unwrap();
        assert_eq!(bounding_ranks(1, half), BoundingRanks { high: None, low: None });
    }
}
