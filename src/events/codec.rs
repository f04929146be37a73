//! Domain facts to payload and back, by event type and schema version.

use schemars::Schema;

use super::schemas::payload_schema;
use crate::domain::asset::AssetEvent;
use crate::domain::investor::InvestorEvent;
use crate::domain::job::{JobEvent, ShardEvent};
use crate::domain::portfolio::event::PortfolioEvent;
use crate::domain::price::{HeldEvent, PriceEvent};

/// Any fact of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// In a stream `investor-…`.
    Investor(InvestorEvent),
    /// In a stream `asset-…` or `symbol:…`.
    Asset(AssetEvent),
    /// In a stream `portfolio-…`.
    Portfolio(PortfolioEvent),
    /// In a stream `price-…`.
    Price(PriceEvent),
    /// In a stream `held-…`.
    Held(HeldEvent),
    /// In a stream `job-…`.
    Job(JobEvent),
    /// In a stream `shard-…`.
    Shard(ShardEvent),
}

/// A type of event and the schema version that this program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventKind {
    /// The type's name, as stored.
    pub event_type: &'static str,
    /// The version of its payload.
    pub schema_version: i16,
}

impl EventKind {
    /// The file in `kafka/messages` that describes its payload.
    pub fn schema_file(self) -> String {
        format!("{}.v{}.schema.json", self.event_type, self.schema_version)
    }
}

/// Why stored bytes are not an event of this program.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A newer program wrote it: halt, do not park.
    #[error("event type {0} is unknown to this program: it needs a newer version")]
    UnknownType(String),
    /// A newer program wrote it: halt, do not park.
    #[error(
        "{event_type} has schema version {found}, this program knows up to {known}: it needs a newer version"
    )]
    NewerVersion {
        /// The type.
        event_type: String,
        /// What is stored.
        found: i16,
        /// What is known.
        known: i16,
    },
    /// The bytes do not fit the type: the stream is parked.
    #[error("payload of {event_type} cannot be read: {source}")]
    Malformed {
        /// The type.
        event_type: String,
        /// What does not fit.
        source: serde_json::Error,
    },
}

impl DecodeError {
    /// Whether a newer program is needed, so that reading on would be wrong for every stream.
    pub fn needs_newer_program(&self) -> bool {
        !matches!(self, Self::Malformed { .. })
    }
}

macro_rules! codec {
    ($($group:ident $inner:ident { $($variant:ident $version:literal),* $(,)? })*) => {
        impl Event {
            /// Every type this program writes, with its schema version.
            pub const KINDS: &'static [EventKind] = &[
                $($(EventKind { event_type: stringify!($variant), schema_version: $version },)*)*
            ];

            /// Type and schema version of this fact.
            pub fn kind(&self) -> EventKind {
                match self {
                    $($(Event::$group($inner::$variant(_)) =>
                        EventKind { event_type: stringify!($variant), schema_version: $version },)*)*
                }
            }

            /// The schema of every type's payload, in the order of [`Event::KINDS`].
            pub(super) fn payload_schemas() -> Vec<Schema> {
                vec![$($(payload_schema(stringify!($variant), $inner::$variant),)*)*]
            }

            /// The payload as JSON text: the bytes that are stored and sent.
            pub fn encode(&self) -> String {
                let encoded = match self {
                    $($(Event::$group($inner::$variant(payload)) => serde_json::to_string(payload),)*)*
                };
                encoded.expect("payloads are structs of strings and numbers, which always serialise")
            }

            /// Reads a stored payload.
            ///
            /// # Errors
            /// [`DecodeError`]: written by a newer program, or not a payload of this type.
            pub fn decode(event_type: &str, schema_version: i16, payload: &str) -> Result<Self, DecodeError> {
                match event_type {
                    $($(stringify!($variant) if schema_version <= $version => serde_json::from_str(payload)
                        .map(|payload| Event::$group($inner::$variant(payload)))
                        .map_err(|source| DecodeError::Malformed { event_type: event_type.to_owned(), source }),
                    stringify!($variant) => Err(DecodeError::NewerVersion {
                        event_type: event_type.to_owned(), found: schema_version, known: $version,
                    }),)*)*
                    _ => Err(DecodeError::UnknownType(event_type.to_owned())),
                }
            }
        }
    };
}

codec! {
    Investor InvestorEvent { InvestorRegistered 1 }
    Asset AssetEvent {
        SymbolClaimed 1, AssetListed 1, AssetRenamed 1, AssetDelisted 1, SplitDeclared 1, PriceSourcesRanked 1,
        EarningsReported 1,
    }
    Portfolio PortfolioEvent {
        PortfolioOpened 1, AccountingChanged 1, AssetBought 1, AssetSold 1, CashDeposited 1, CashWithdrawn 1,
    }
    Price PriceEvent { PricesObserved 1, ClosesObserved 1, PriceVoided 1 }
    Held HeldEvent { PriceHeld 1, HeldPriceAccepted 1, HeldPriceDismissed 1 }
    Job JobEvent {
        JobDefined 1, JobChanged 1, JobRemoved 1, RunScheduled 1, RunSkipped 1, RunFinished 1, RunFailed 1, RunCancelled 1,
    }
    Shard ShardEvent { RiskRecomputeRequested 1 }
}

impl From<InvestorEvent> for Event {
    fn from(event: InvestorEvent) -> Self {
        Self::Investor(event)
    }
}

impl From<AssetEvent> for Event {
    fn from(event: AssetEvent) -> Self {
        Self::Asset(event)
    }
}

impl From<PortfolioEvent> for Event {
    fn from(event: PortfolioEvent) -> Self {
        Self::Portfolio(event)
    }
}

impl From<PriceEvent> for Event {
    fn from(event: PriceEvent) -> Self {
        Self::Price(event)
    }
}

impl From<HeldEvent> for Event {
    fn from(event: HeldEvent) -> Self {
        Self::Held(event)
    }
}

impl From<JobEvent> for Event {
    fn from(event: JobEvent) -> Self {
        Self::Job(event)
    }
}

impl From<ShardEvent> for Event {
    fn from(event: ShardEvent) -> Self {
        Self::Shard(event)
    }
}
