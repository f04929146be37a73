//! A portfolio's ledger: what was bought and sold, and what follows from it.
//!
//! `decide` turns a command into facts or a rejection, from the compact state that `evolve` folds. The
//! [`ledger`] is the other fold, for reading: lots, cost and gains under a cost basis.

pub mod command;
mod decide;
pub mod entry;
pub mod event;
mod evolve;
pub mod ledger;
pub mod lots;
mod state;
mod timeline;
mod upsert;

#[cfg(test)]
mod tests;

pub use decide::{NAME_CHARS_MAX, decide};
pub use state::{Portfolio, Settings};
pub use upsert::{UpsertPortfolio, upsert};
