//! What can go wrong between us and the log.

use crate::domain::ids::Position;

/// What to do about a fork, as every role says it when it halts.
pub const AFTER_A_RESTORE: &str = "it was restored to an earlier moment: run `insight epoch new` once, then \
    `insight rebuild --all`, and start again";

/// An error of the event store. Conflicts and duplicates are not errors: see [`super::Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused or could not be reached.
    #[error("the event store: {0}")]
    Database(#[from] sqlx::Error),
    /// The log is another history than the one this process has seen: a restore or a stale standby.
    #[error("the log has forked: {reason}; {advice}", advice = AFTER_A_RESTORE)]
    Fork {
        /// What was found where something else was expected.
        reason: String,
    },
    /// A stored row has a shape that this program does not know.
    #[error("the event at position {position} cannot be read: {reason}")]
    Unreadable {
        /// Where.
        position: Position,
        /// What is wrong with it.
        reason: String,
    },
    /// The log cannot be sealed further: it has a hole, or is not the one that was sealed so far.
    #[error("the log cannot be sealed at position {position}: {reason}")]
    Unsealable {
        /// Where.
        position: Position,
        /// What is wrong there.
        reason: String,
    },
    /// The schema could not be brought up to date.
    #[error("migrating the event store: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl Error {
    /// Whether trying again later can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database(error) => !is_data_error(error),
            _ => false,
        }
    }
}

/// SQLSTATE class 22 (data) or 23 (constraint): the statement will fail again however often it is sent.
pub(super) fn is_data_error(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code());
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}
