//! The judge: compares the log with its own promises, and every read model with a reference ledger.
//!
//! The reference is naive on purpose and shares no code with `domain`.

pub mod ledger;
pub mod market;
mod payload;
pub mod reference;
pub mod units;

pub use payload::Unreadable;

#[cfg(test)]
mod tests;
