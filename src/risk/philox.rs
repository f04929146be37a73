//! Philox4x32-10: random numbers addressed by a counter instead of drawn from a state.
//!
//! Number (seed, counter) is a pure function, so any thread may compute any scenario in any order and the bytes
//! are the same. Salmon, Moraes, Dror, Shaw: *Parallel random numbers: as easy as 1, 2, 3*, SC 2011.

const MULTIPLIER_0: u32 = 0xD251_1F53;
const MULTIPLIER_1: u32 = 0xCD9E_8D57;
/// Weyl increments of the key: the golden ratio and √3 − 1.
const WEYL_0: u32 = 0x9E37_79B9;
const WEYL_1: u32 = 0xBB67_AE85;
const ROUNDS: usize = 10;

/// What a counter's numbers are for, so that two uses of one seed never share a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The normals of the columns.
    Normals = 0,
    /// The mixing variable of a Student t scenario.
    Mixing = 1,
}

/// The address of two uniforms: scenarios `2·block` and `2·block + 1` of a batch, in one column.
#[derive(Debug, Clone, Copy)]
pub struct Address {
    /// Use of the numbers.
    pub stream: Stream,
    /// Independent batch (replicate).
    pub batch: u32,
    /// Column, or principal component.
    pub column: u32,
    /// Pair of scenarios within the batch.
    pub block: u32,
}

/// Two uniforms strictly inside (0, 1), with 52 random bits each.
pub fn uniforms(seed: u64, at: Address) -> [f64; 2] {
    let key = [seed as u32, (seed >> 32) as u32];
    let words = philox4x32_10([at.block, at.column, at.batch, at.stream as u32], key);
    [open_unit(words[0], words[1]), open_unit(words[2], words[3])]
}

/// The bijection itself: ten rounds over a counter of four words under a key of two.
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut c0, mut c1, mut c2, mut c3], [mut k0, mut k1]) = (counter, key);
    for _ in 0..ROUNDS {
        let product_0 = u64::from(MULTIPLIER_0) * u64::from(c0);
        let product_1 = u64::from(MULTIPLIER_1) * u64::from(c2);
        c0 = (product_1 >> 32) as u32 ^ c1 ^ k0;
        c1 = product_1 as u32;
        c2 = (product_0 >> 32) as u32 ^ c3 ^ k1;
        c3 = product_0 as u32;
        k0 = k0.wrapping_add(WEYL_0);
        k1 = k1.wrapping_add(WEYL_1);
    }
    [c0, c1, c2, c3]
}

/// (m + ½)·2⁻⁵² for a 52-bit m: exact in f64, symmetric about ½, and never 0 or 1 (with 53 bits the half would
/// be rounded away and 1 would be reached, whose normal quantile is infinite).
fn open_unit(low: u32, high: u32) -> f64 {
    const STEP: f64 = 1.0 / (1u64 << 52) as f64;
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 12;
    (bits as f64 + 0.5) * STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The three `philox4x32 10` lines of Random123's `tests/kat_vectors`.
    #[test]
    fn known_answers_of_random123() {
        let ones = u32::MAX;
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox4x32_10([ones; 4], [ones; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(
            philox4x32_10([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn uniforms_never_reach_zero_or_one() {
        assert_eq!(open_unit(0, 0), 2f64.powi(-53));
        assert_eq!(open_unit(u32::MAX, u32::MAX), 1.0 - 2f64.powi(-53));
    }

    #[test]
    fn uniforms_have_mean_and_variance_of_the_uniform() {
        let mut sum = 0.0;
        let mut squares = 0.0;
        for block in 0..50_000 {
            for u in uniforms(7, Address { stream: Stream::Normals, batch: 3, column: 5, block }) {
                sum += u;
                squares += u * u;
            }
        }
        let mean = sum / 100_000.0;
        let variance = squares / 100_000.0 - mean * mean;
        // Four standard errors: 4·√(1/12/10⁵) and 4·√(1/180/10⁵).
        assert!((mean - 0.5).abs() < 3.7e-3, "{mean}");
        assert!((variance - 1.0 / 12.0).abs() < 9.5e-4, "{variance}");
    }

    #[test]
    fn every_part_of_the_address_and_the_seed_matters() {
        let at = Address { stream: Stream::Normals, batch: 0, column: 0, block: 0 };
        let first = uniforms(1, at);
        for other in [
            uniforms(2, at),
            uniforms(1 | 1 << 32, at),
            uniforms(1, Address { stream: Stream::Mixing, ..at }),
            uniforms(1, Address { batch: 1, ..at }),
            uniforms(1, Address { column: 1, ..at }),
            uniforms(1, Address { block: 1, ..at }),
        ] {
            assert_ne!(first, other);
        }
    }
}
