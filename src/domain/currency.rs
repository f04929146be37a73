//! Currencies (ISO 4217, or letters for a coin) and symbols.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! code_type {
    ($(#[$doc:meta])* $name:ident, $reason:literal, $pattern:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(extend("pattern" = $pattern))]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The code as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = &'static str;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err($reason) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(code: $name) -> String {
                code.0.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

code_type!(
    /// A currency: three to eight capital letters, for example `USD`, `BTC`.
    Currency,
    "is not a currency code: 3 to 8 capital letters, such as \"USD\"",
    "^[A-Z]{3,8}$",
    |text| (3..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase())
);
code_type!(
    /// An asset's symbol: 1 to 20 capital letters, digits and `.-^=/`, for example `AAPL`, `BRK.B`.
    Symbol,
    "is not a symbol: 1 to 20 capital letters, digits or any of . - ^ = /, first a letter, a digit or ^",
    "^[A-Z0-9^][A-Z0-9.^=/-]{0,19}$",
    |text| (1..=20).contains(&text.len())
        && !text.starts_with(['.', '-', '=', '/'])
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b".-^=/".contains(&b))
);

impl Currency {
    /// US dollar.
    pub fn usd() -> Self {
        Self("USD".into())
    }

    /// Euro.
    pub fn eur() -> Self {
        Self("EUR".into())
    }

    /// Decimals of the minor unit, to which cash is rounded where it is booked (ISO 4217; 8 for coins).
    pub fn minor_unit_decimals(&self) -> u32 {
        match self.as_str() {
            "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI"
            | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
            "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
            "BTC" | "ETH" | "SOL" | "XRP" | "ADA" | "DOGE" | "USDC" | "USDT" => 8,
            _ => 2,
        }
    }
}
