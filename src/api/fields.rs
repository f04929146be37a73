//! What a client wrote in a field or a query parameter: nothing, something usable, or something else.
//!
//! Reading never fails at a wrong value, it keeps the reason: so a client learns of every wrong field at once, and of a number
//! in the place of a string in the same words as of a string that is no number.

use std::fmt::{self, Display};
use std::marker::PhantomData;

use chrono::{DateTime, NaiveDate, Utc};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny};

use crate::commands::AssetRef;
use crate::domain::asset::{Adjustment, AssetClass, Quarter};
use crate::domain::currency::{Currency, Symbol};
use crate::domain::fields::Fields;
use crate::domain::ids::{AssetId, InvestorId};
use crate::domain::investor::{ExperienceLevel, RiskTolerance};
use crate::domain::job::{JobKind, Overlap, Trigger};
use crate::domain::money::{Amount, Price, Quantity, Rate};
use crate::domain::portfolio::event::{CashMode, CostBasis, Settlement};

/// A field of a body or a query parameter, as it was sent. `null` is the same as leaving it out.
#[derive(Debug)]
pub enum Field<T> {
    /// Nothing was sent.
    Absent,
    /// A value.
    Given(T),
    /// Something else; why it is no value.
    Wrong(String),
}

/// A value that a client can write.
pub trait FieldValue: Sized {
    /// What is expected, to be read after "must be".
    const EXPECTED: &'static str;
    /// The words that are taken, if it is one of a few.
    const WORDS: &'static [&'static str] = &[];

    /// Reads a string.
    ///
    /// # Errors
    /// What is wrong, to be read after the field's name.
    fn from_text(text: &str) -> Result<Self, String>;

    /// Says what is expected.
    fn refusal() -> String {
        format!("must be {}", Self::EXPECTED)
    }

    /// Reads a whole number.
    ///
    /// # Errors
    /// What was found, to be read after "not".
    fn from_number(_: i128) -> Result<Self, String> {
        Err("a number".to_owned())
    }

    /// Reads `true` or `false`.
    fn from_flag(_: bool) -> Option<Self> {
        None
    }
}

impl<T> Field<T> {
    /// The value of a field that must be there; what is wrong is noted.
    pub fn required(self, name: &str, fields: &mut Fields) -> Option<T> {
        if matches!(self, Self::Absent) {
            fields.refuse(name, "is missing");
        }
        self.optional(name, fields)
    }

    /// The value of a field that may be left out; what is wrong is noted.
    pub fn optional(self, name: &str, fields: &mut Fields) -> Option<T> {
        match self {
            Self::Absent => None,
            Self::Given(value) => Some(value),
            Self::Wrong(reason) => {
                fields.refuse(name, reason);
                None
            }
        }
    }
}

impl<'de, T: FieldValue> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As an option, because that is what may be missing.
        deserializer.deserialize_option(Visitor(PhantomData))
    }
}

struct Visitor<T>(PhantomData<T>);

fn wrong<T: FieldValue>(found: &str) -> Field<T> {
    Field::Wrong(format!("must be {}, not {found}", T::EXPECTED))
}

impl<'de, T: FieldValue> de::Visitor<'de> for Visitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E>(self, text: &str) -> Result<Field<T>, E> {
        Ok(T::from_text(text).map_or_else(Field::Wrong, Field::Given))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Field<T>, E> {
        Ok(T::from_flag(flag).map_or_else(|| wrong("true or false"), Field::Given))
    }

    fn visit_none<E>(self) -> Result<Field<T>, E> {
        Ok(Field::Absent)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field<T>, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Field<T>, E> {
        Ok(T::from_number(number.into()).map_or_else(|found| wrong(&found), Field::Given))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Field<T>, E> {
        Ok(T::from_number(number.into()).map_or_else(|found| wrong(&found), Field::Given))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Field<T>, E> {
        let takes_numbers = T::from_number(0).is_ok();
        Ok(wrong(&if takes_numbers { number.to_string() } else { "a number".to_owned() }))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut array: A) -> Result<Field<T>, A::Error> {
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(wrong("an array"))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut object: A) -> Result<Field<T>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(wrong("an object"))
    }
}

/// Values whose own parser says what is wrong with a text.
macro_rules! parsed {
    ($($type:ty: $expected:literal;)*) => {$(
        impl FieldValue for $type {
            const EXPECTED: &'static str = $expected;
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(reason)
            }
        }
    )*};
}

fn reason(error: impl Display) -> String {
    error.to_string()
}

parsed! {
    Amount: "a decimal in a string, such as \"12.5\"";
    Quantity: "a decimal in a string, such as \"12.5\"";
    Price: "a decimal in a string, such as \"12.5\"";
    Rate: "a decimal in a string, such as \"12.5\"";
    Currency: "a currency code in a string, such as \"USD\"";
    Symbol: "a symbol in a string, such as \"AAPL\"";
    AssetRef: "an asset's id or symbol in a string";
    Quarter: "a quarter in a string, such as \"2024-Q1\"";
}

/// Values whose own parser does not speak to clients.
macro_rules! expected {
    ($($type:ty: $expected:literal;)*) => {$(
        impl FieldValue for $type {
            const EXPECTED: &'static str = $expected;
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| Self::refusal())
            }
        }
    )*};
}

expected! {
    InvestorId: "an investor's id";
    AssetId: "an asset's id";
    DateTime<Utc>: "an instant with zone such as \"2024-03-01T09:30:00Z\"";
}

/// Values that are one of a few words.
macro_rules! words {
    ($($type:ty: $first:literal $(, $word:literal)*;)*) => {$(
        impl FieldValue for $type {
            const EXPECTED: &'static str = concat!("one of \"", $first, "\"" $(, ", \"", $word, "\"")*);
            const WORDS: &'static [&'static str] = &[$first $(, $word)*];
            fn from_text(text: &str) -> Result<Self, String> {
                let word = de::value::StrDeserializer::<de::value::Error>::new(text);
                <$type>::deserialize(word).map_err(|_| Self::refusal())
            }
        }
    )*};
}

words! {
    RiskTolerance: "low", "medium", "high";
    ExperienceLevel: "beginner", "intermediate", "advanced";
    AssetClass: "equity", "etf", "fund", "bond", "crypto", "commodity", "fx";
    CostBasis: "fifo", "lifo", "hifo", "average";
    CashMode: "tracked", "untracked";
    Settlement: "asset", "base";
    Adjustment: "none", "splits", "splits_and_dividends";
    JobKind: "fetch-quotes", "fetch-history", "fetch-rates", "recompute-risk", "verify", "backup";
    Overlap: "skip", "allow";
    Trigger: "schedule", "manual", "retry";
}

impl FieldValue for NaiveDate {
    const EXPECTED: &'static str = "a day such as \"2024-03-01\"";
    fn from_text(text: &str) -> Result<Self, String> {
        // chrono would also read `2024-3-1` and years of five digits.
        let day = (text.len() == "2024-03-01".len()).then(|| text.parse().ok()).flatten();
        day.ok_or_else(Self::refusal)
    }
}

impl FieldValue for String {
    const EXPECTED: &'static str = "a string";
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl FieldValue for u32 {
    const EXPECTED: &'static str = "a whole number";
    fn from_text(_: &str) -> Result<Self, String> {
        Err(format!("must be {}, not a string", Self::EXPECTED))
    }
    fn from_number(number: i128) -> Result<Self, String> {
        Self::try_from(number).map_err(|_| number.to_string())
    }
}

impl FieldValue for bool {
    const EXPECTED: &'static str = "true or false";
    fn from_text(_: &str) -> Result<Self, String> {
        Err(format!("must be {}, not a string", Self::EXPECTED))
    }
    fn from_flag(flag: bool) -> Option<Self> {
        Some(flag)
    }
}
