//! Prices: ticks carry an instant, closes carry a day. A close is never guessed from a tick.

mod event;
mod held;
mod observe;

pub use event::*;
pub use held::*;
pub use observe::{DEFAULT_SOURCE, Observation, Observed, PriceLine, check_source, group, observe};
