//! A whole log, moved between installations as a file of lines.
//!
//! ```text
//! {"header":{"format":"portfolio-insight-log","version":1,"head":3,"epochs":[…],"personal_data":false}}
//! {"event":{"position":1,"command_id":"…","ordinal":0,"stream_id":"…", … ,"payload":"{…}","metadata":"{…}"}}
//! …                                                                     in the order of positions
//! {"person":{"investor_id":"…","name":"…","email":"…","created_at":"…"}}    only if asked for
//! {"footer":{"events":3,"persons":0,"sha256":"…"}}
//! ```
//!
//! Payload and metadata are strings, so that their bytes are kept as they are. The footer's hash is the SHA-256 of all bytes
//! before it: a file that was cut off, altered, reordered or doubled is recognised, and nothing of it is taken. Two
//! exports of the same log are the same bytes.
//!
//! An import needs an empty log and is one transaction: it ends with the whole log or without an event. Every line is held
//! against the promises of the log (positions, versions, ids, shards), the table's constraints stay on, and before it
//! commits the events are read back and must be the bytes of the file.

mod checks;
mod export;
mod import;
mod line;

pub use export::export;
pub use import::{Imported, import};

use crate::domain::ids::Position;

/// Why a log could not be moved. Nothing was written to a log then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not what an export wrote.
    #[error("line {line}: {reason}: nothing was imported")]
    Refused {
        /// From 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be read.
    #[error("line {line} cannot be read: {source}: nothing was imported")]
    Read {
        /// From 1.
        line: u64,
        /// What the file says.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write: {0}")]
    Write(#[source] std::io::Error),
    /// There is a log already.
    #[error("the log is not empty, it ends at position {head}: import into a new installation")]
    NotEmpty {
        /// Its last position.
        head: Position,
    },
    /// The constraints of the table refuse what the file holds.
    #[error("the event store refuses it: {0}: nothing was imported")]
    Constraint(#[source] sqlx::Error),
    /// What was read back is not what the file holds.
    #[error("the events that were stored are not those of the file: nothing was imported")]
    ReadBack,
    /// The log.
    #[error(transparent)]
    Log(#[from] super::Error),
    /// PostgreSQL refused or could not be reached.
    #[error("the event store: {0}")]
    Database(#[from] sqlx::Error),
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// All events up to here.
    pub position: Position,
    /// The last one.
    pub head: Position,
}

/// What was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Events.
    pub events: i64,
    /// Investors with name and e-mail.
    pub persons: i64,
}
