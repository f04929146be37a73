//! Amounts, quantities, prices and rates: decimals with at most 10 places, strings in JSON.
//!
//! Four types over one decimal, so that a price cannot be added to an amount. Text is the only way in: a JSON
//! number would have passed through a binary float, and `1e400` must be an answer, not a panic.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::currency::Currency;
use super::exact::{self, SCALE};

/// Why a text is not a usable decimal. The text is for the person who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not digits with at most one point and a sign: also an exponent, `NaN`, spaces.
    #[error("is not a decimal number such as \"12.5\" (no exponent, no spaces)")]
    Malformed,
    /// More than 10 digits after the point.
    #[error("has more than 10 decimals")]
    TooManyDecimals,
    /// At or beyond the bound of its kind.
    #[error("is too large: must be below {0}")]
    TooLarge(&'static str),
}

/// Reads `-?digits[.digits]` with at most 10 decimals.
fn parse(text: &str) -> Result<Decimal, ParseError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return Err(ParseError::Malformed);
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > SCALE as usize {
        return Err(ParseError::TooManyDecimals);
    }
    let whole = whole.trim_start_matches('0');
    if whole.len() > 17 {
        return Err(ParseError::TooLarge("100000000000000000"));
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    let value = Decimal::from_str(&format!("{sign}0{whole}.{fraction}0"));
    value.map(|v| v.normalize()).map_err(|_| ParseError::Malformed)
}

macro_rules! decimal_type {
    ($(#[$doc:meta])* $name:ident, $whole_digits:literal, $bound_text:literal) => {
        $(#[$doc])*
        ///
        /// In JSON a string: a decimal number with at most 10 decimals and no exponent.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, JsonSchema)]
        #[schemars(
            with = "String",
            extend("pattern" = concat!("^-?0*[0-9]{1,", $whole_digits, "}(\\.[0-9]{1,10}0*)?$"))
        )]
        pub struct $name(Decimal);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(Decimal::ZERO);

            /// Takes a decimal that is already rounded to 10 places.
            pub fn from_decimal(value: Decimal) -> Self {
                let value = value.normalize();
                debug_assert!(value.scale() <= SCALE, "{value} has more than 10 decimals");
                Self(value)
            }

            /// The decimal, normalised.
            pub fn decimal(self) -> Decimal {
                self.0
            }

            /// Greater than zero.
            pub fn is_positive(self) -> bool {
                self.0 > Decimal::ZERO
            }

            /// Less than zero.
            pub fn is_negative(self) -> bool {
                self.0 < Decimal::ZERO
            }

            /// Exactly zero.
            pub fn is_zero(self) -> bool {
                self.0.is_zero()
            }

            /// `self + other`; `None` at 10¹⁷ and beyond.
            pub fn checked_add(self, other: Self) -> Option<Self> {
                exact::sum(self.0, other.0).map(Self)
            }

            /// `self + other`, held just below 10¹⁷: for folds, which cannot refuse.
            pub fn saturating_add(self, other: Self) -> Self {
                Self(exact::saturating_sum(self.0, other.0))
            }

            /// `self − other`, held just below 10¹⁷: for folds, which cannot refuse.
            pub fn saturating_sub(self, other: Self) -> Self {
                Self(exact::saturating_sum(self.0, -other.0))
            }

            /// Without the sign.
            pub fn abs(self) -> Self {
                Self(self.0.abs())
            }
        }

        impl FromStr for $name {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                let value = parse(text)?;
                let bound = Decimal::from_i128_with_scale(10_i128.pow($whole_digits), 0);
                if value.abs() >= bound { Err(ParseError::TooLarge($bound_text)) } else { Ok(Self(value)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // `-0` is `0`, and nothing trails.
                if self.0.is_zero() { f.write_str("0") } else { self.0.normalize().fmt(f) }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a decimal as a string")
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(|reason| E::custom(format!("{text:?} {reason}")))
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

decimal_type!(
    /// An amount of money in some currency; signed; below 10¹⁷.
    Amount,
    17,
    "100000000000000000"
);
decimal_type!(
    /// A number of units of an asset; signed where it is a holding; below 10¹⁵ on input.
    Quantity,
    15,
    "1000000000000000"
);
decimal_type!(
    /// The price of one unit in quote units; below 10¹⁵.
    Price,
    15,
    "1000000000000000"
);
decimal_type!(
    /// Units of one currency for one unit of another; below 10¹⁵.
    Rate,
    15,
    "1000000000000000"
);

impl std::ops::Neg for Amount {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl std::ops::Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Rate {
    /// One unit for one unit.
    pub const ONE: Self = Self(Decimal::ONE);
}

impl Amount {
    /// Quantity × price × quote unit, rounded half-even to 10 decimals; `None` at 10¹⁷ and beyond.
    pub fn gross(quantity: Quantity, price: Price, quote_unit: Rate) -> Option<Self> {
        let in_quote_units = exact::product(quantity.0, price.0)?;
        exact::product(in_quote_units, quote_unit.0).map(Self)
    }

    /// This amount at a rate, rounded half-even to 10 decimals; `None` at 10¹⁷ and beyond.
    pub fn at_rate(self, rate: Rate) -> Option<Self> {
        exact::product(self.0, rate.0).map(Self)
    }

    /// This amount rounded half-even to the currency's minor unit, as cash is booked.
    pub fn to_minor_unit(self, currency: &Currency) -> Self {
        Self(exact::round_to(self.0, currency.minor_unit_decimals()))
    }

    /// This amount × `part` / `whole`, rounded half-even to 10 decimals.
    pub fn share(self, part: Quantity, whole: Quantity) -> Option<Self> {
        exact::share(self.0, part.0, whole.0).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_decimals_are_read() {
        for bad in
            ["", "-", ".", "1.", ".5", "1e5", "1e400", "NaN", "inf", " 1", "1 ", "+1", "1_000", "1,5", "0x1"]
        {
            assert_eq!(bad.parse::<Amount>(), Err(ParseError::Malformed), "{bad:?}");
        }
        assert_eq!("0.12345678901".parse::<Amount>(), Err(ParseError::TooManyDecimals));
        assert!("12345678901234567890123456789".parse::<Price>().is_err());
        assert_eq!("1000000000000000".parse::<Quantity>(), Err(ParseError::TooLarge("1000000000000000")));
        assert_eq!(
            "999999999999999.9999999999".parse::<Quantity>().unwrap().to_string(),
            "999999999999999.9999999999"
        );
    }

    #[test]
    fn json_is_a_string_without_trailing_zeros_or_minus_zero() {
        let amount: Amount = serde_json::from_str("\"-0.00\"").unwrap();
        assert_eq!(serde_json::to_string(&amount).unwrap(), "\"0\"");
        let amount: Amount = serde_json::from_str("\"0012.500\"").unwrap();
        assert_eq!(serde_json::to_string(&amount).unwrap(), "\"12.5\"");
        assert!(serde_json::from_str::<Amount>("12.5").is_err());
    }
}
