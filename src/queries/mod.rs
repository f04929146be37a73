//! The read side: reads tables, decides nothing. A file per read model; [`log`] reads the log itself, read-only.
//!
//! Every answer says of which moment it is ([`AsOf`]): the least position that the shards and read models it used were
//! all scanned to, read in the snapshot that read the rows. Lists come in pages by keyset: a [`Page`] names where the
//! next one begins, so no row is repeated or missed under names and ids, whatever is written in between.

pub mod activity;
mod cursor;
pub mod directory;
mod error;
pub mod fetching;
pub mod freshness;
pub mod holdings;
pub mod job_plan;
pub mod jobs;
pub mod lag;
pub mod log;
pub mod prices;
pub mod pulse;
pub mod risk;
mod snapshot;
pub mod status;
pub mod valuations;

pub use cursor::{LIMIT_DEFAULT, LIMIT_MAX, Page, PageRequest};
pub use error::Error;
pub use snapshot::{Answer, AsOf, Source};
