//! The only arithmetic that rounds: products and shares, half-even to 10 decimals, through 256 bits.
//!
//! Inputs have at most 10 decimals, so a product has at most 20 and a share has any number. Both are formed
//! exactly in integers and rounded once. Rounding twice (as a 96-bit decimal would for long products) would
//! let two correct programs differ in the last digit.

use std::cmp::Ordering;

use ethnum::I256;
use rust_decimal::Decimal;

/// Decimals of every stored amount, quantity, price and rate.
pub const SCALE: u32 = 10;
const ONE: i128 = 10_i128.pow(SCALE);
/// The bound of every product and total: 10¹⁷, in units of 10⁻¹⁰.
const TOTAL_BOUND: i128 = 10_i128.pow(17 + SCALE);

/// The value in units of 10⁻¹⁰. The value must have at most 10 decimals, as every stored one has.
fn units(value: Decimal) -> i128 {
    debug_assert!(value.normalize().scale() <= SCALE);
    let mut scaled = value;
    scaled.rescale(SCALE);
    scaled.mantissa()
}

fn from_units(units: i128) -> Option<Decimal> {
    (units.abs() < TOTAL_BOUND).then(|| Decimal::from_i128_with_scale(units, SCALE).normalize())
}

/// `numerator / denominator` rounded half-even to an integer.
fn divide_half_even(numerator: I256, denominator: I256) -> I256 {
    let (numerator, denominator) =
        if denominator < 0 { (-numerator, -denominator) } else { (numerator, denominator) };
    let floor = numerator.div_euclid(denominator);
    let rest = numerator.rem_euclid(denominator);
    let twice = rest * 2;
    if twice > denominator || (twice == denominator && floor & 1 != 0) { floor + 1 } else { floor }
}

/// `a × b`, rounded half-even to 10 decimals; `None` at 10¹⁷ and beyond.
pub fn product(a: Decimal, b: Decimal) -> Option<Decimal> {
    let exact = I256::from(units(a)) * I256::from(units(b));
    from_units(i128::try_from(divide_half_even(exact, I256::from(ONE))).ok()?)
}

/// `total × part / whole`, rounded half-even to 10 decimals; `None` for a zero `whole` or beyond 10¹⁷.
pub fn share(total: Decimal, part: Decimal, whole: Decimal) -> Option<Decimal> {
    if whole.is_zero() {
        return None;
    }
    let exact = I256::from(units(total)) * I256::from(units(part));
    from_units(i128::try_from(divide_half_even(exact, I256::from(units(whole)))).ok()?)
}

/// `a / b`, rounded half-even to 10 decimals; `None` for a zero `b` or beyond 10¹⁷.
pub fn quotient(a: Decimal, b: Decimal) -> Option<Decimal> {
    share(a, Decimal::ONE, b)
}

/// `a + b`; `None` at 10¹⁷ and beyond. Sums of stored amounts are exact.
pub fn sum(a: Decimal, b: Decimal) -> Option<Decimal> {
    from_units(units(a).checked_add(units(b))?)
}

/// `a + b`, held just below 10¹⁷: for folds, which cannot refuse what a decision should have refused.
pub fn saturating_sum(a: Decimal, b: Decimal) -> Decimal {
    let bound = TOTAL_BOUND - 1;
    let held = (units(a) + units(b)).clamp(-bound, bound);
    Decimal::from_i128_with_scale(held, SCALE).normalize()
}

/// Compares `a / b` with `c / d` by cross-multiplication, without rounding. `b` and `d` are positive.
pub fn compare_ratios(a: Decimal, b: Decimal, c: Decimal, d: Decimal) -> Ordering {
    let cross = |left, right| I256::from(units(left)) * I256::from(units(right));
    cross(a, d).cmp(&cross(c, b))
}

/// `value` rounded half-even to `decimals` places (a currency's minor unit).
pub fn round_to(value: Decimal, decimals: u32) -> Decimal {
    value.round_dp_with_strategy(decimals, rust_decimal::RoundingStrategy::MidpointNearestEven).normalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    fn d(text: &str) -> Decimal {
        Decimal::from_str(text).unwrap()
    }

    #[test]
    fn a_product_is_rounded_once_and_half_to_even() {
        assert_eq!(product(d("0.00001"), d("0.000005")), Some(d("0")));
        assert_eq!(product(d("0.00003"), d("0.000005")), Some(d("0.0000000002")));
        assert_eq!(product(d("3"), d("1.5")), Some(d("4.5")));
        // (10¹⁵ − 10⁻¹⁰) × (99 + 10⁻¹⁰) = 99·10¹⁵ + 10⁵ − 99·10⁻¹⁰ − 10⁻²⁰
        assert_eq!(
            product(d("999999999999999.9999999999"), d("99.0000000001")),
            Some(d("99000000000099999.9999999901"))
        );
    }

    #[test]
    fn a_product_beyond_the_bound_is_none() {
        assert_eq!(product(d("100000000000000"), d("1000")), None);
        assert_eq!(product(d("999999999999999.9999999999"), d("999999999999999.9999999999")), None);
    }

    #[test]
    fn a_share_of_a_negative_total_rounds_to_even_too() {
        assert_eq!(share(d("-1"), d("1"), d("3")), Some(d("-0.3333333333")));
        assert_eq!(share(d("-0.0000000005"), d("1"), d("10")), Some(d("0")));
        assert_eq!(share(d("-0.0000000015"), d("1"), d("10")), Some(d("-0.0000000002")));
        assert_eq!(share(d("1"), d("1"), d("0")), None);
    }

    #[test]
    fn ratios_are_compared_without_rounding() {
        // 1/3 and 0.3333333333 are equal to ten decimals, but not equal.
        assert_eq!(compare_ratios(d("1"), d("3"), d("0.3333333333"), d("1")), Ordering::Greater);
        assert_eq!(compare_ratios(d("2"), d("6"), d("1"), d("3")), Ordering::Equal);
        assert_eq!(compare_ratios(d("-5"), d("1"), d("-4"), d("1")), Ordering::Less);
    }

    #[test]
    fn a_saturating_sum_stops_below_the_bound() {
        assert_eq!(saturating_sum(d("2"), d("-3")), d("-1"));
        let most = d("99999999999999999.9999999999");
        assert_eq!(saturating_sum(most, most), most);
        assert_eq!(saturating_sum(-most, -most), -most);
    }
}
