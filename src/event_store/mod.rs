//! The log: one append-only table in PostgreSQL. The only writer of the tables of `migrations/`, but for the progress of the
//! relay and the leases of runs, which those who hold them write.
//!
//! Within an epoch:
//!
//! | # | promise |
//! | --- | --- |
//! | L1 | Positions are 1, 2, 3, … head: no hole, ever. |
//! | L2 | Commit order is position order: `position > last` never misses an event, at any moment. |
//! | L3 | Within a stream, versions are 1, 2, 3, … and increase with position. |
//! | L4 | An acknowledged command has all of its events, exactly once; another has all or none, and resending it returns the original answer. |
//! | L5 | Of two commands that expect the same version, exactly one wins; the other learns the current version. |
//! | L6 | Nothing is ever updated or deleted. |
//!
//! Numbers from a sequence would lose events for readers (a later number can commit first), and a counter row
//! would make every append queue for a whole commit. So numbering is serialised by one lock and amortised by
//! group commit: [`Appender`] hands the database function `append_batch` as many commands as are waiting.

mod append;
mod appender;
mod chunk;
pub mod epochs;
mod error;
mod place;
pub mod read;
pub mod schema;
pub mod seal;
pub mod seals;
pub mod transfer;
mod witness;

pub use append::{Append, Details, Guard, Outcome, Part};
pub use appender::{Answered, Appender};
pub use chunk::ChunkSize;
pub use error::{AFTER_A_RESTORE, Error};
pub use place::{Place, PlaceCheck, check_place, check_places, head_place};
pub use witness::Witness;
