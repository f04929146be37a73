//! The write side: load, decide, append.
//!
//! ```text
//! execute ─→ queue ─→ form: decide upon log + batch ─→ append_batch ─→ settle ─→ answer
//!    ▲                                                                    │
//!    └───── read the log: streams not known yet, before any "no" ◄────────┘
//! ```
//!
//! A "yes" is checked by the database. **No "no" leaves the process from memory alone**: before a rejection is
//! answered, one read fetches the command and the newer events of every stream that the decision read. If the
//! command is in the log, the original answer stands; if there are newer events, it is decided again.

pub(crate) mod aggregates;
pub(crate) mod answer;
mod assets;
pub(crate) mod batch;
mod decide;
pub(crate) mod execute;
pub(crate) mod load;
mod observed;
pub mod portfolio_bulk;
mod price_lines;
pub mod prices;
pub(crate) mod request;
mod writer;

pub use answer::{Answer, AnsweredEvent, Refusal};
pub use execute::{Commands, Settings};
pub use observed::{Appended, ObservedPrices};
pub use request::{AssetRef, Command, RefusedLine, Request};
