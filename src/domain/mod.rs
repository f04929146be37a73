//! What is true about portfolios: commands, decisions, events and folds. Pure: no I/O, no async, no clock.
//!
//! Everything here is a function of its arguments, so that a decision, its replay, a rebuild and the
//! verification agree to the digit.

pub mod asset;
pub mod currency;
pub mod dates;
pub mod exact;
pub mod fields;
pub mod ids;
pub mod investor;
pub mod job;
pub mod money;
pub mod portfolio;
pub mod price;
pub mod price_table;
pub mod rejection;
