//! The worst losses of one portfolio, pooled and per batch, exactly as a full sort would have them.
//!
//! A threshold guessed from a sample screens out most scenarios before anything is sorted. The certificate is a
//! count: every profit at or below the threshold is a candidate, so if at least as many candidates as wanted
//! remain, nothing outside them can matter; otherwise all are selected from. A bad guess costs time only.

/// One scenario's loss. Ordered from the worst, ties by scenario number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Loss in base currency, positive if money is lost.
    pub amount: f64,
    /// Scenario number, from 0.
    pub scenario: usize,
}

/// The worst losses, pooled and of each batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Tail {
    /// n.
    pub scenarios: usize,
    /// The worst of all, worst first, as many as were asked for.
    pub worst: Vec<Loss>,
    /// Scenarios of one batch.
    pub batch_scenarios: usize,
    /// Per batch its worst, worst first; empty if there is only one batch.
    pub batches: Vec<Vec<Loss>>,
}

/// How many of the worst are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Of all scenarios.
    pub pooled: usize,
    /// Of each batch.
    pub per_batch: usize,
}

const SAMPLE: usize = 512;

impl Tail {
    /// From profits (loss negative, finite, never −0) of equally long batches.
    pub fn of(profits: &[f64], batches: usize, depth: Depth) -> Self {
        let scenarios = profits.len();
        let batch_scenarios = scenarios / batches.max(1);
        let mut candidates = candidates(profits, depth.pooled);
        candidates.sort_unstable();
        let batches = match batches {
            0 | 1 => Vec::new(),
            _ => per_batch(profits, batch_scenarios, &candidates, depth.per_batch),
        };
        candidates.truncate(depth.pooled);
        Self { scenarios, worst: losses(&candidates), batch_scenarios, batches }
    }
}

/// Orders as (profit, scenario) does, but compares as integers.
type Key = (i64, u32);

fn key(scenario: usize, profit: f64) -> Key {
    // The total order of IEEE 754 on bits: negative numbers count backwards, so flip all but their sign.
    let bits = profit.to_bits() as i64;
    (bits ^ ((bits >> 63) as u64 >> 1) as i64, scenario as u32)
}

fn losses(keys: &[Key]) -> Vec<Loss> {
    keys.iter()
        .map(|(ordered, scenario)| {
            let bits = ordered ^ ((ordered >> 63) as u64 >> 1) as i64;
            // 0 − profit, for −(+0) would be printed as a negative zero.
            Loss { amount: 0.0 - f64::from_bits(bits as u64), scenario: *scenario as usize }
        })
        .collect()
}

/// A superset of the `wanted` worst, unsorted.
fn candidates(profits: &[f64], wanted: usize) -> Vec<Key> {
    let all = || profits.iter().enumerate().map(|(s, profit)| key(s, *profit));
    // Short histories, and depths that are no tail, are not worth a guess.
    if profits.len() < 4 * SAMPLE || wanted * 4 > profits.len() {
        return exactly(all().collect(), wanted);
    }
    let threshold = threshold(profits, wanted);
    let screened: Vec<Key> = profits
        .iter()
        .enumerate()
        .filter(|(_, profit)| **profit <= threshold)
        .map(|(s, profit)| key(s, *profit))
        .collect();
    if screened.len() >= wanted { screened } else { exactly(all().collect(), wanted) }
}

/// The `wanted` smallest keys, unsorted.
fn exactly(mut keys: Vec<Key>, wanted: usize) -> Vec<Key> {
    if wanted == 0 {
        return Vec::new();
    }
    if wanted < keys.len() {
        keys.select_nth_unstable(wanted - 1);
        keys.truncate(wanted);
    }
    keys
}

/// A profit that rather more than `wanted` scenarios are expected at or below: the rank in an evenly spaced
/// sample, and three standard deviations of that rank more.
fn threshold(profits: &[f64], wanted: usize) -> f64 {
    let step = profits.len() / SAMPLE;
    let mut sample: Vec<f64> = profits.iter().step_by(step).copied().collect();
    let rank = wanted as f64 * sample.len() as f64 / profits.len() as f64;
    let index = (rank + 3.0 * rank.sqrt() + 1.0) as usize;
    let index = index.min(sample.len() - 1);
    *sample.select_nth_unstable_by(index, f64::total_cmp).1
}

fn per_batch(profits: &[f64], size: usize, sorted: &[Key], wanted: usize) -> Vec<Vec<Loss>> {
    let mut screened: Vec<Vec<Key>> = vec![Vec::with_capacity(wanted); profits.len() / size];
    for key in sorted {
        let batch = &mut screened[key.1 as usize / size];
        if batch.len() < wanted {
            batch.push(*key);
        }
    }
    let certain = |keys: &Vec<Key>| keys.len() >= wanted.min(size);
    screened
        .into_iter()
        .enumerate()
        .map(|(batch, keys)| {
            if certain(&keys) {
                return losses(&keys);
            }
            let start = batch * size;
            let all = (start..start + size).map(|s| key(s, profits[s])).collect();
            let mut keys = exactly(all, wanted);
            keys.sort_unstable();
            losses(&keys)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition: sort everything.
    fn by_full_sort(profits: &[f64], offset: usize, wanted: usize) -> Vec<Loss> {
        let mut all: Vec<Loss> =
            profits.iter().enumerate().map(|(s, p)| Loss { amount: 0.0 - p, scenario: s + offset }).collect();
        all.sort_by(|a, b| b.amount.total_cmp(&a.amount).then(a.scenario.cmp(&b.scenario)));
        all.truncate(wanted);
        all
    }

    fn check(profits: &[f64], batches: usize, depth: Depth) {
        let tail = Tail::of(profits, batches, depth);
        assert_eq!(tail.worst, by_full_sort(profits, 0, depth.pooled));
        let size = profits.len() / batches;
        for (b, batch) in tail.batches.iter().enumerate() {
            assert_eq!(*batch, by_full_sort(&profits[b * size..(b + 1) * size], b * size, depth.per_batch));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn is_what_a_full_sort_gives(
            seed in proptest::collection::vec(-20i32..20, 4_096),
            spread in prop_oneof![Just(1e-3), Just(1.0)],
            pooled in 1usize..1_200,
            per_batch in 1usize..300,
        ) {
            // Few distinct values, so that ties are everywhere.
            let profits: Vec<f64> = seed.iter().map(|v| f64::from(*v) * spread + 0.0).collect();
            check(&profits, 16, Depth { pooled, per_batch });
            check(&profits, 1, Depth { pooled, per_batch });
        }
    }

    #[test]
    fn a_misleading_sample_changes_nothing() {
        // All losses sit between the sampled scenarios, or all on them.
        for on_sample in [false, true] {
            let profits: Vec<f64> =
                (0..8_192).map(|s| if (s % 16 == 0) == on_sample { -1.0 - s as f64 } else { 1.0 }).collect();
            check(&profits, 16, Depth { pooled: 400, per_batch: 25 });
        }
        // All losses in one batch: the others have no candidates and are selected from directly.
        let profits: Vec<f64> = (0..8_192).map(|s| if s < 512 { -9.0 } else { s as f64 }).collect();
        check(&profits, 16, Depth { pooled: 400, per_batch: 25 });
    }

    #[test]
    fn no_loss_is_printed_as_negative_zero() {
        let tail = Tail::of(&[0.0, 0.0], 1, Depth { pooled: 2, per_batch: 0 });
        assert!(tail.worst.iter().all(|loss| loss.amount.is_sign_positive()));
    }

    #[test]
    fn asking_for_more_than_there_is_gives_all() {
        assert_eq!(Tail::of(&[1.0, -1.0], 1, Depth { pooled: 9, per_batch: 0 }).worst.len(), 2);
        assert!(Tail::of(&[], 1, Depth { pooled: 9, per_batch: 0 }).worst.is_empty());
    }
}
