//! Prices from outside: asked for, judged, and appended where they are news.
//!
//! ```text
//! plan ─→ what is known ─→ ask (client) ─→ read (yahoo, stooq, …) ─→ judge ─→ declare, append, hold (commands)
//!         queries           the only I/O     bytes to prices          pure      ids made of the content
//! ```
//!
//! A source is a file of pure functions: which address to ask, and what an answer says. Everything else is the same for
//! all of them. Nothing of an answer with nonsense in it is taken, and nothing is guessed: what cannot be read is refused
//! with the reason, and the other symbols go on.

mod fetcher;
mod summary;

pub use fetcher::{Error, Fetcher, Parts};
pub use summary::{Refused, Request, Summary, What};
