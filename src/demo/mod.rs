//! A believable history from real prices, played through the HTTP API as any client would.
//!
//! | step | what is sent |
//! | --- | --- |
//! | assets | 20 real stocks, and synthetic ones beyond; their one source of prices, declared as adjusted |
//! | closes | all of them from 1990 on, but for the last days |
//! | portfolios | two for each investor, kept in six different ways |
//! | facts | deposits, buys, sales, withdrawals from 2000 on; some entered months late |
//! | ticks | the closes of the last days, as live prices |
//! | answers | asked for until they reflect the last of it: holdings, valuation, risk |
//!
//! Idempotency keys are made from run, seed and number, so playing again on the same server changes nothing and finishes what an
//! interrupted run has begun; another run plays beside it.

mod client;
mod history;
mod market;
mod play;
mod progress;
mod report;
mod styles;
pub mod table;
mod tables;

pub use client::Error;
pub use play::{Options, play};
pub use progress::Progress;
pub use report::{PortfolioReport, Prices, Report, Step};
pub use styles::Settings;
pub use tables::render;
