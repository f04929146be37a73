//! A believable history from real prices.

mod closes;
mod history;
mod market;
mod styles;
