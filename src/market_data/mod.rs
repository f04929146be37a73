//! Prices from outside: asked for, judged, and appended where they are news.
//!
//! ```text
//! target ─→ source ─→ client ─→ source ─→ judge ─→ append
//! which     address   the       bytes to  take,    declare, observe, hold:
//! assets              network   prices    hold     ids made of the content
//! ```
//!
//! A source is a file of pure functions: which address to ask, and what an answer says. Everything else is the same for
//! all of them. Nothing of an answer with nonsense in it is taken, and nothing is guessed: what cannot be read is refused
//! with the reason, and the other symbols go on.
//!
//! A fetch that was killed, or ran twice at once, is fetched again: a command's id is a function of what it appends and of
//! what that replaces, so the log takes each once.

mod alphavantage;
mod append;
mod breaker;
mod client;
mod daily;
mod demo;
mod ecb;
mod fetcher;
pub mod http;
pub mod judge;
mod metric;
mod pace;
mod restated;
mod seen;
pub mod settings;
mod source;
mod stooq;
mod summary;
mod table;
mod target;
mod url;
mod yahoo;

pub use daily::Daily;
pub use fetcher::{Error, Fetcher, Parts};
pub use settings::Settings;
pub use summary::{Refused, Request, Summary, What};
