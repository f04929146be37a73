//! Exact decimals of the reference ledger: whole numbers of 10⁻¹⁰.
//!
//! Products and shares are formed on magnitudes in 256 bits and divided once by long division; what is left decides the
//! last digit, half to even. It is another way to the same digits than the program's own arithmetic, of which nothing is
//! used here.

use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use ethnum::U256;

/// Decimals that are kept.
const DECIMALS: usize = 10;
/// One, in units.
const ONE: i128 = 10_000_000_000;
/// 10¹⁷, in units: no amount reaches it.
const BOUND: u128 = 1_000_000_000_000_000_000_000_000_000;

/// A decimal with ten places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Units(i128);

impl Units {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One.
    pub const ONE: Self = Self(ONE);

    /// Reads `-?digits[.digits]`; digits beyond the tenth must be zero. `None` for anything else and from 10¹⁷ on.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let mut units: u128 = 0;
        let mut decimals = 0;
        for (place, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
            if !digit.is_ascii_digit() {
                return None;
            }
            if place >= whole.len() + DECIMALS {
                if digit != b'0' {
                    return None;
                }
                continue;
            }
            decimals += usize::from(place >= whole.len());
            units = units.checked_mul(10)?.checked_add(u128::from(digit - b'0'))?;
        }
        if whole.is_empty() {
            return None;
        }
        for _ in decimals..DECIMALS {
            units = units.checked_mul(10)?;
        }
        signed(negative, units)
    }

    /// `self × other`, half to even; `None` from 10¹⁷ on.
    pub fn times(self, other: Self) -> Option<Self> {
        self.times_over(other, Self::ONE)
    }

    /// `self ÷ other`, half to even; `None` for a zero `other` and from 10¹⁷ on.
    pub fn over(self, other: Self) -> Option<Self> {
        self.times_over(Self::ONE, other)
    }

    /// `self × part ÷ whole`, half to even; `None` for a zero `whole` and from 10¹⁷ on.
    pub fn times_over(self, part: Self, whole: Self) -> Option<Self> {
        if whole.0 == 0 {
            return None;
        }
        let product = U256::from(self.0.unsigned_abs()) * U256::from(part.0.unsigned_abs());
        let quotient = divide(product, U256::from(whole.0.unsigned_abs()));
        let negative = (self.0 < 0) ^ (part.0 < 0) ^ (whole.0 < 0);
        signed(negative, u128::try_from(quotient).ok()?)
    }

    /// Itself; `None` from 10¹⁷ on.
    pub fn bounded(self) -> Option<Self> {
        signed(self.0 < 0, self.0.unsigned_abs())
    }

    /// Rounded to so many decimals, at most ten, half to even.
    pub fn to_decimals(self, decimals: u32) -> Self {
        let step = 10_u128.pow(10 - decimals.min(10));
        let steps = divide(U256::from(self.0.unsigned_abs()), U256::from(step)).as_u128();
        let magnitude = i128::try_from(steps * step).unwrap_or(i128::MAX);
        Self(if self.0 < 0 { -magnitude } else { magnitude })
    }

    /// Compares `self ÷ quantity` with `other ÷ other_quantity` without rounding; quantities count without their sign.
    pub fn compare_per_unit(self, quantity: Self, other: Self, other_quantity: Self) -> Ordering {
        let cross = |amount: Self, quantity: Self| {
            let magnitude = U256::from(amount.0.unsigned_abs()) * U256::from(quantity.0.unsigned_abs());
            (amount.0 < 0 && magnitude > 0, magnitude)
        };
        match (cross(self, other_quantity), cross(other, quantity)) {
            ((false, ours), (false, theirs)) => ours.cmp(&theirs),
            ((true, ours), (true, theirs)) => theirs.cmp(&ours),
            ((true, _), (false, _)) => Ordering::Less,
            ((false, _), (true, _)) => Ordering::Greater,
        }
    }

    /// Without the sign.
    pub fn abs(self) -> Self {
        Self(self.0.abs())
    }

    /// Whole number of 10⁻¹⁰, without the sign.
    pub fn magnitude(self) -> u128 {
        self.0.unsigned_abs()
    }

    /// −1, 0 or 1.
    pub fn signum(self) -> i128 {
        self.0.signum()
    }

    /// Less than zero.
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Exactly zero.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// The quotient, rounded half to even.
fn divide(dividend: U256, divisor: U256) -> U256 {
    let (quotient, rest) = (dividend / divisor, dividend % divisor);
    match (rest << 1_u32).cmp(&divisor) {
        Ordering::Less => quotient,
        Ordering::Greater => quotient + 1,
        Ordering::Equal => quotient + (quotient & 1),
    }
}

fn signed(negative: bool, magnitude: u128) -> Option<Units> {
    let magnitude = i128::try_from(magnitude).ok().filter(|_| magnitude < BOUND)?;
    Some(Units(if negative { -magnitude } else { magnitude }))
}

impl Add for Units {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Units {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Neg for Units {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl AddAssign for Units {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl SubAssign for Units {
    fn sub_assign(&mut self, other: Self) {
        self.0 -= other.0;
    }
}

impl Sum for Units {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let one = ONE.unsigned_abs();
        let text = format!("{}.{:010}", magnitude / one, magnitude % one);
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u(text: &str) -> Units {
        Units::parse(text).unwrap()
    }

    #[test]
    fn text_goes_in_and_comes_out() {
        for (text, shown) in [
            ("0", "0"),
            ("-0.00", "0"),
            ("12.5", "12.5"),
            ("-0.0000000001", "-0.0000000001"),
            ("12.50000000000000", "12.5"),
            ("99999999999999999.9999999999", "99999999999999999.9999999999"),
            ("007", "7"),
        ] {
            assert_eq!(u(text).to_string(), shown);
        }
        for bad in ["", "-", ".5", "1e3", "1.00000000001", "100000000000000000", "1,5", " 1", "--1", "NaN"] {
            assert_eq!(Units::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn products_and_quotients_round_half_to_even() {
        // 10⁻⁵ × 5·10⁻⁶ = 0.5 units → 0; 3·10⁻⁵ × 5·10⁻⁶ = 1.5 units → 2.
        assert_eq!(u("0.00001").times(u("0.000005")), Some(u("0")));
        assert_eq!(u("0.00003").times(u("0.000005")), Some(u("0.0000000002")));
        assert_eq!(u("-0.00003").times(u("0.000005")), Some(u("-0.0000000002")));
        // 2/3 = 0.66666666666…, −1/3 = −0.33333333333…
        assert_eq!(u("2").over(u("3")), Some(u("0.6666666667")));
        assert_eq!(u("1").over(u("-3")), Some(u("-0.3333333333")));
        // 100 × 1/3
        assert_eq!(u("100").times_over(u("1"), u("3")), Some(u("33.3333333333")));
        assert_eq!(u("1").over(u("0")), None);
        assert_eq!(u("1000000000").times(u("100000000")), None);
    }

    #[test]
    fn cents_round_half_to_even() {
        for (exact, cents) in
            [("1.005", "1"), ("1.015", "1.02"), ("-1.025", "-1.02"), ("1.0150000001", "1.02")]
        {
            assert_eq!(u(exact).to_decimals(2), u(cents), "{exact}");
        }
        assert_eq!(u("2.5").to_decimals(0), u("2"));
    }

    #[test]
    fn unit_costs_are_compared_exactly() {
        // 1/3 is more than 0.3333333333, a hair that ten decimals do not show.
        assert_eq!(u("1").compare_per_unit(u("3"), u("0.3333333333"), u("1")), Ordering::Greater);
        assert_eq!(u("-5").compare_per_unit(u("-1"), u("-4"), u("-1")), Ordering::Less);
        assert_eq!(u("2").compare_per_unit(u("6"), u("1"), u("3")), Ordering::Equal);
        assert_eq!(u("-1").compare_per_unit(u("1"), u("0"), u("1")), Ordering::Less);
    }
}
