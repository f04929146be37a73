//! Why a projector stops. Everything else it survives.

use std::sync::Arc;

use crate::domain::ids::{Position, StreamId};
use crate::events::EventId;
use crate::{event_store, feed};

/// An error that trying again cannot help, or a failure of the database where the caller decides about trying again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log is of a newer program: going on would be wrong for every stream.
    #[error(
        "{read_model} halts at position {position}: event {event_id} is {event_type} of schema version {schema_version}, \
         which version {} of this program does not know: start the version that wrote it, or a newer one",
        env!("CARGO_PKG_VERSION")
    )]
    NewerProgram {
        /// The read model.
        read_model: &'static str,
        /// Where it stopped.
        position: Position,
        /// The event it stopped at.
        event_id: EventId,
        /// Its type.
        event_type: Arc<str>,
        /// The version of its payload.
        schema_version: i16,
        /// What it does not know.
        source: crate::events::DecodeError,
    },
    /// So many streams hold an event that could not be applied that the cause is not the streams.
    #[error(
        "{read_model} halts: {parked} streams are parked, at most {max} may be; see `insight parked list {read_model}`"
    )]
    TooManyParked {
        /// The read model.
        read_model: &'static str,
        /// How many there are.
        parked: usize,
        /// How many may be.
        max: usize,
    },
    /// The tables in the database were made from another text than this program's.
    #[error(
        "the tables of {read_model} have another shape than this program's: run `insight rebuild {read_model}`"
    )]
    ChangedShape {
        /// The read model.
        read_model: String,
    },
    /// There is no read model of that name.
    #[error(
        "there is no read model {0:?}: it is one of directory, holdings, prices, valuations, activity, risk"
    )]
    UnknownReadModel(String),
    /// Another process is rebuilding it.
    #[error("{read_model} is being rebuilt by another process: let it finish, or stop it first")]
    Rebuilding {
        /// The read model.
        read_model: String,
    },
    /// There is nothing to go back to.
    #[error("there is no {schema} to go back to: nothing was rebuilt since it was dropped")]
    NothingOld {
        /// The schema that is not there.
        schema: String,
    },
    /// An older program may still serve what was to be dropped.
    #[error(
        "{schema} may still be served by an older program: {sign}. Stop that program and let the log go on, or say --force"
    )]
    StillServed {
        /// The schema.
        schema: String,
        /// What tells so.
        sign: String,
    },
    /// What was replaced cannot be served by this program.
    #[error("{schema} cannot be gone back to: {reason}; `insight rebuild {read_model}` makes it anew")]
    OldUnfit {
        /// The read model.
        read_model: String,
        /// What was replaced.
        schema: String,
        /// Why.
        reason: String,
    },
    /// What stands in a table is not what was written into it.
    #[error(
        "{table} holds {found_rows} rows that add up to {found_checksum:016x}; {rows} that add up to \
         {checksum:016x} were written: it was dropped, start the rebuild again and look for a broken disk"
    )]
    Damaged {
        /// Schema and table.
        table: String,
        /// Rows that were written.
        rows: u64,
        /// What they add up to.
        checksum: u64,
        /// Rows that are there.
        found_rows: u64,
        /// What those add up to.
        found_checksum: u64,
    },
    /// The rebuilt rows are ready, and others keep the live ones busy.
    #[error(
        "{read_model} is rebuilt and could not be put in its place within {seconds} s: {waited_for}; run the same \
         command again, it goes on from here"
    )]
    CannotPromote {
        /// The read model.
        read_model: String,
        /// How long it was tried.
        seconds: u64,
        /// What stood in the way the last time.
        waited_for: String,
    },
    /// The stream is not parked.
    #[error("{stream} is not parked in {read_model}")]
    NotParked {
        /// The read model.
        read_model: &'static str,
        /// The stream.
        stream: StreamId,
    },
    /// The stream is parked in what this read model is made from, too.
    #[error("{stream} is parked in {needed}, which {read_model} is made from: deal with it there first")]
    ParkedBelow {
        /// The read model.
        read_model: &'static str,
        /// What it is made from.
        needed: &'static str,
        /// The stream.
        stream: StreamId,
    },
    /// What this read model is made from has not come far enough.
    #[error("{read_model} is made from {needed}, which stands at {reached} of {head}: project that first")]
    NeedsFirst {
        /// The read model.
        read_model: String,
        /// What it is made from.
        needed: &'static str,
        /// How far that is.
        reached: Position,
        /// How far it has to be.
        head: Position,
    },
    /// A rebuild lost its tables to another writer.
    #[error("another process writes {read_model}: the rebuild stops, start it again")]
    Lost {
        /// The read model.
        read_model: String,
    },
    /// The rows refuse what the projector writes: a bug, on which trying again would loop.
    #[error("{read_model} cannot write its rows: {source}")]
    Rows {
        /// The read model.
        read_model: &'static str,
        /// What PostgreSQL says.
        source: sqlx::Error,
    },
    /// The engine refuses what it is given: a setting, or a bug.
    #[error("the risk engine refuses: {0}")]
    Engine(#[from] crate::risk::Error),
    /// The feed stopped for good.
    #[error("{read_model} halts: {source}")]
    Feed {
        /// The read model.
        read_model: &'static str,
        /// What the feed says.
        source: feed::Error,
    },
    /// The log could not be read.
    #[error(transparent)]
    Store(#[from] event_store::Error),
    /// The database could not be used.
    #[error("the database of the read models: {0}")]
    Database(#[from] sqlx::Error),
}

/// Whether a statement failed over the values it was given: it would fail again.
pub(super) fn is_about_values(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}
