//! Names of things: streams, shards, positions, versions, and the ids of investors, portfolios and assets.
//!
//! A shard is a function of a stream's name and never changes: it is the Kafka partition for ever.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Shards of `portfolio.events.v1`: investor, portfolio and alarm streams.
pub const PORTFOLIO_SHARDS: i16 = 32;
/// The one shard of `market.events.v1`: asset, symbol and price streams, in one total order.
pub const MARKET_SHARD: Shard = Shard(32);
/// First shard of `jobs.v1`.
pub const JOB_SHARD_FIRST: i16 = 33;
/// Shards of `jobs.v1`.
pub const JOB_SHARDS: i16 = 8;
/// Number of shards of the installation.
pub const SHARDS: i16 = JOB_SHARD_FIRST + JOB_SHARDS;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The stream that holds the facts of this id.
            pub fn stream(self) -> StreamId {
                StreamId(format!(concat!($kind, "-{}"), self.0).into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                // Only the hyphenated form in small letters: an id has one spelling, and so has what is made of it.
                let has_one_spelling = text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase());
                Uuid::parse_str(if has_one_spelling { text } else { "-" }).map(Self)
            }
        }
    };
}

uuid_id!(
    /// An investor. The stream is `investor-{id}`.
    InvestorId,
    "investor"
);
uuid_id!(
    /// A portfolio. The stream is `portfolio-{id}`.
    PortfolioId,
    "portfolio"
);
uuid_id!(
    /// An asset. Its facts are in `asset-{id}`, its prices in `price-{id}`.
    AssetId,
    "asset"
);
uuid_id!(
    /// A job, made of its name. The stream is `job-{id}`.
    JobId,
    "job"
);

uuid_id!(
    /// A price that waits to be confirmed, made of what was told. The stream is `held-{id}`.
    HeldId,
    "held"
);

impl PortfolioId {
    /// The portfolio that a bulk opens for an investor under a name. The same in every installation.
    pub fn named(investor_id: InvestorId, name: &str) -> Self {
        Self(Uuid::new_v5(&investor_id.0, name.as_bytes()))
    }
}

/// Names in this space make ids of jobs and runs.
const JOB_NAMES: Uuid = Uuid::from_u128(0x1f60_2c9a_7d1e_4b0f_9a53_6a1c_77f0_0b5e);

impl JobId {
    /// The job of this name. A name names one job in every installation.
    pub fn named(name: &str) -> Self {
        Self(Uuid::new_v5(&JOB_NAMES, name.as_bytes()))
    }

    /// The run of this job that is due at an instant.
    pub fn run_due(self, due_at: DateTime<Utc>) -> RunId {
        RunId(Uuid::new_v5(&self.0, due_at.timestamp_micros().to_string().as_bytes()))
    }
}

/// A run of a job. It has no stream of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl FromStr for RunId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(|JobId(id)| Self(id))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AssetId {
    /// The stream of this asset's prices; its appends are blind (no expected version).
    pub fn price_stream(self) -> StreamId {
        StreamId(format!("price-{}", self.0).into())
    }
}

/// The name of a stream, for example `portfolio-0192…` or `symbol:AAPL`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub std::sync::Arc<str>);

impl StreamId {
    /// The stream that makes a symbol unique: its version is 0 until someone claims it.
    pub fn symbol(symbol: &str) -> Self {
        Self(format!("symbol:{symbol}").into())
    }

    /// The stream of what is asked of whoever owns a shard; it lives there.
    pub fn of_shard(shard: Shard) -> Self {
        Self(format!("shard-{shard}").into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kind (`portfolio`, `price`, `symbol`, …) and what follows it.
    pub fn kind_and_rest(&self) -> (&str, &str) {
        match self.0.find(['-', ':']) {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (&self.0, ""),
        }
    }

    /// The shard of this stream: where its events live, for ever.
    pub fn shard(&self) -> Shard {
        let (kind, rest) = self.kind_and_rest();
        match kind {
            "asset" | "symbol" | "price" | "held" => MARKET_SHARD,
            "job" => Shard(JOB_SHARD_FIRST + hash_mod(rest, JOB_SHARDS)),
            "shard" => Shard(rest.parse().unwrap_or(0)),
            _ => Shard(hash_mod(rest, PORTFOLIO_SHARDS)),
        }
    }
}

/// First four bytes of SHA-256, big-endian, modulo `n`: stable over machines and years.
fn hash_mod(text: &str, n: i16) -> i16 {
    let digest = Sha256::digest(text.as_bytes());
    let word = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    (word % n as u32) as i16
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for StreamId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

macro_rules! integer_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

integer_id!(
    /// A place in the whole log: 1, 2, 3, … without a hole. 0 is before the first event.
    Position,
    i64
);
integer_id!(
    /// A place within a stream: 1, 2, 3, …; 0 for a stream without events.
    Version,
    i64
);
integer_id!(
    /// A slice of the log that keeps its own order; a Kafka partition.
    Shard,
    i16
);
integer_id!(
    /// A history of the log: a restore that reuses positions starts the next epoch.
    Epoch,
    i32
);

impl Version {
    /// The version after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_lives_with_its_portfolio() {
        let id = "0192f0c1-2345-7abc-8def-001122334455";
        let portfolio = StreamId::from(format!("portfolio-{id}").as_str());
        let alarm = StreamId::from(format!("alarm-{id}").as_str());
        assert_eq!(portfolio.shard(), alarm.shard());
        assert!(portfolio.shard().0 < PORTFOLIO_SHARDS);
    }

    #[test]
    fn shards_are_frozen() {
        assert_eq!(StreamId::from("portfolio-00000000-0000-0000-0000-000000000000").shard(), Shard(28));
        assert_eq!(StreamId::symbol("AAPL").shard(), MARKET_SHARD);
        assert_eq!(HeldId(Uuid::nil()).stream().shard(), MARKET_SHARD);
        assert_eq!(StreamId::from("shard-7").shard(), Shard(7));
    }
}
