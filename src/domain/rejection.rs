//! Every "no" the domain gives, with the data a program needs. The API makes problem documents of them.

use chrono::NaiveDate;

use super::ids::{RunId, Version};
use super::money::{Amount, Quantity};

/// Why a command was refused. The caller's business, never an error of ours.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// One or more fields hold an impossible value (422).
    #[error("{}", describe(.0))]
    InvalidFields(Vec<FieldError>),
    /// The thing in the path does not exist (404).
    #[error("there is no such {kind}")]
    NotFound {
        /// `portfolio`, `asset` or `investor`.
        kind: &'static str,
    },
    /// It was already created (409).
    #[error("this {kind} exists already")]
    AlreadyExists {
        /// `portfolio`, `asset` or `investor`.
        kind: &'static str,
    },
    /// `If-Match` named another version (412).
    #[error("the stream is at version {current_version}")]
    StaleVersion {
        /// The version it has.
        current_version: Version,
    },
    /// The symbol names another asset (409).
    #[error("the symbol {symbol} is taken")]
    SymbolTaken {
        /// The symbol.
        symbol: String,
    },
    /// Another investor has this e-mail (409).
    #[error("another investor is registered with this e-mail")]
    EmailTaken,
    /// More would be sold than is held on some day (409).
    #[error("on {day} only {held} would be held")]
    InsufficientHolding {
        /// The first day on which the holding would be negative.
        day: NaiveDate,
        /// What is held on that day before the fact that fails.
        held: Quantity,
    },
    /// More cash would be paid than is there on some day (409).
    #[error("on {day} only {available} {currency} would be available")]
    InsufficientCash {
        /// The first day on which cash would be negative.
        day: NaiveDate,
        /// The currency.
        currency: String,
        /// What is there on that day before the fact that fails.
        available: Amount,
    },
    /// The portfolio keeps no cash ledger (409).
    #[error("this portfolio does not track cash")]
    CashUntracked,
    /// The asset cannot be traded (409), with the reason.
    #[error("this asset cannot be traded: {reason}")]
    NotTradable {
        /// Why.
        reason: &'static str,
    },
    /// A source's adjustment was given before and differs (409).
    #[error("the source {source_name} is already declared with another adjustment")]
    AdjustmentFixed {
        /// The source.
        source_name: String,
    },
    /// The name names another job (409).
    #[error("the name {name} is taken by a job with other settings")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Runs of this job must not overlap, and one is open; or too many are (409).
    #[error("the run {run_id} of this job is still open")]
    RunOpen {
        /// The run that is open.
        run_id: RunId,
    },
    /// The run is not to be carried out any more, or not in this attempt (409).
    #[error("{reason}")]
    RunNotOpen {
        /// What became of it.
        reason: String,
    },
    /// The run did not fail for good, or was tried again already (409).
    #[error("{reason}")]
    RunNotFailed {
        /// What became of it.
        reason: &'static str,
    },
    /// The held price was settled the other way before (409).
    #[error("this price was {how} before")]
    AlreadySettled {
        /// `accepted` or `dismissed`.
        how: &'static str,
    },
}

/// One field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// The field as the client wrote it, for example `prices[3].at`.
    pub field: String,
    /// What is wrong, for the person who sent it.
    pub reason: String,
}

impl Rejection {
    /// One invalid field.
    pub fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidFields(vec![FieldError { field: field.into(), reason: reason.into() }])
    }
}

fn describe(errors: &[FieldError]) -> String {
    let parts: Vec<String> = errors.iter().map(|e| format!("{} {}", e.field, e.reason)).collect();
    parts.join("; ")
}
