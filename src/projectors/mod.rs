//! Feed to read models: what happened becomes rows that can be read.
//!
//! One [`runner`] drives every read model; a read model is a pure fold between two statements per table. What the
//! runner promises, whatever the read model does:
//!
//! | promise | by |
//! | --- | --- |
//! | an event's effect is in the rows exactly once | rows and `checkpoint` commit in one transaction |
//! | nobody writes rows of a shard they have lost | the transaction begins with `revision = mine` |
//! | one bad event stops one stream | `parking` |
//! | memory never knows more than the rows | after any failure all of it is dropped and read again |
//!
//! The schemas are disposable and made at start ([`schema`]); [`rebuild`] makes their rows again from the log, beside
//! the live ones, and puts them in their place.

pub mod activity;
mod ahead;
pub mod book;
pub(crate) mod checkpoint;
mod copy;
pub mod directory;
mod error;
pub mod holdings;
pub mod jobs;
mod parking;
pub mod prices;
mod projection;
mod read_ahead;
pub mod rebuild;
pub mod risk;
pub mod runner;
pub mod schema;
mod stored;
mod stream_events;
pub mod unpark;
pub mod valuations;

pub use ahead::list_ahead;
pub use checkpoint::Checkpoint;
pub use error::Error;
pub use parking::Poison;
pub use projection::{Fact, FromLog, ReadModel, Readiness};
pub use runner::{Settings, run, run_with};

/// One column of a set of rows, for a statement that takes arrays.
fn column<'r, R, T>(rows: &'r [R], value: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}
