//! Which loss a confidence means: the k-th worst of n, with k computed in integers.
//!
//! In floats ⌈500 · (1 − 0.99)⌉ is 6, because 1 − 0.99 is a little more than 0.01; so a confidence is read from
//! its text into integer millionths and never becomes a float where a rank depends on it. Weighted scenarios
//! later need a second rule here (first rank whose cumulative weight in millionths reaches 1 − c), nothing else.

use std::fmt;
use std::str::FromStr;

use super::Error;

const MILLION: u64 = 1_000_000;

/// A confidence level strictly between 0 and 1, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Confidence(u32);

impl Confidence {
    /// 95 %.
    pub const P95: Self = Self(950_000);
    /// 97.5 %.
    pub const P975: Self = Self(975_000);
    /// 99 %.
    pub const P99: Self = Self(990_000);

    /// From millionths; `None` unless strictly between 0 and 1,000,000.
    pub fn from_millionths(millionths: u32) -> Option<Self> {
        (millionths > 0 && u64::from(millionths) < MILLION).then_some(Self(millionths))
    }

    /// 1 − c in millionths.
    pub fn tail_millionths(self) -> u64 {
        MILLION - u64::from(self.0)
    }

    /// c, for formulas (never for ranks).
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e6
    }

    /// 1 − c, for formulas (never for ranks).
    pub fn tail(self) -> f64 {
        self.tail_millionths() as f64 / 1e6
    }

    /// n(1 − c), the expected number of scenarios in the tail, for formulas.
    pub fn expected_in_tail(self, scenarios: usize) -> f64 {
        (scenarios as u64 * self.tail_millionths()) as f64 / 1e6
    }

    /// k = ⌈n(1 − c)⌉, or `None` where n(1 − c) < 1: so few scenarios say nothing about that tail.
    pub fn tail_count(self, scenarios: usize) -> Option<usize> {
        let millionths = scenarios as u64 * self.tail_millionths();
        (millionths >= MILLION).then(|| millionths.div_ceil(MILLION) as usize)
    }

    /// [`Confidence::tail_count`] for a caller that asked for this level and is owed a refusal.
    pub fn require_tail_count(self, scenarios: usize) -> Result<usize, Error> {
        self.tail_count(scenarios).ok_or(Error::TooFewScenarios { scenarios, confidence: self })
    }
}

impl FromStr for Confidence {
    type Err = Error;

    /// `0.99`, `.975`, `0.999999`: a decimal point and at most 6 decimals, no sign, no exponent.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Confidence { text: text.chars().take(32).collect() };
        let decimals = text.strip_prefix("0.").or_else(|| text.strip_prefix('.')).ok_or_else(refused)?;
        let well_formed = (1..=6).contains(&decimals.len()) && decimals.bytes().all(|b| b.is_ascii_digit());
        if !well_formed {
            return Err(refused());
        }
        let millionths = format!("{decimals:0<6}").parse().map_err(|_| refused())?;
        Self::from_millionths(millionths).ok_or_else(refused)
    }
}

impl fmt::Display for Confidence {
    /// Without trailing zeros: `0.975`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(format!("0.{:06}", self.0).trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_is_computed_in_integers() {
        let k = |text: &str, n| text.parse::<Confidence>().unwrap().tail_count(n);
        assert_eq!(k("0.99", 500), Some(5), "in floats this is 6");
        assert_eq!((500.0 * (1.0 - 0.99f64)).ceil(), 6.0, "so it is");
        assert_eq!(k("0.99", 501), Some(6));
        assert_eq!(k("0.975", 1_000), Some(25));
        assert_eq!(k("0.95", 16_384), Some(820));
        assert_eq!(k("0.999999", 1_048_576), Some(2));
    }

    #[test]
    fn fewer_than_one_expected_loss_is_refused() {
        assert_eq!(Confidence::P99.tail_count(99), None);
        assert_eq!(Confidence::P99.tail_count(100), Some(1));
        assert!(matches!(
            Confidence::P99.require_tail_count(99),
            Err(Error::TooFewScenarios { scenarios: 99, confidence: Confidence::P99 })
        ));
    }

    #[test]
    fn a_confidence_is_read_from_its_text() {
        assert_eq!("0.95".parse::<Confidence>().unwrap(), Confidence::P95);
        assert_eq!(".9750".parse::<Confidence>().unwrap(), Confidence::P975);
        for text in ["", "0", "1", "0.", "1.0", "0.0", "0.000000", "0.9999999", "-0.9", "9e-1", "0.9 ", "95%"]
        {
            assert!(text.parse::<Confidence>().is_err(), "{text:?}");
        }
        assert_eq!(Confidence::P975.to_string(), "0.975");
        assert_eq!(Confidence(1).to_string(), "0.000001");
    }
}
