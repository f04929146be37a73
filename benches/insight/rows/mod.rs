//! One function a row. Names are what the command line takes; goals are what the row is held against.

mod buys;
mod event_store;
mod lists;
mod prices;
mod process;
mod projection;
mod reads;
mod recompute;
mod risk;
mod visible;

use std::pin::Pin;

use crate::Settings;
use crate::outcome::Measured;

type Measuring = Pin<Box<dyn Future<Output = anyhow::Result<Measured>>>>;

/// One line of the table.
pub struct Row {
    /// What the command line calls it.
    pub name: &'static str,
    /// What is measured.
    pub what: &'static str,
    /// What the first system is to reach.
    pub first: &'static str,
    /// What we are after.
    pub last: &'static str,
    /// Measures it.
    pub measure: fn(Settings) -> Measuring,
}

macro_rules! rows {
    ($($name:literal $function:path: $what:literal, first $first:literal, final $last:literal;)*) => {
        /// Every row, in the order of the table.
        pub const ALL: &[Row] = &[$(Row {
            name: $name,
            what: $what,
            first: $first,
            last: $last,
            measure: |settings| Box::pin($function(settings)),
        }),*];
    };
}

rows! {
    "buys-api" buys::api_alone:
        "durable buys over HTTP, 64 callers, idempotency and version check on, api alone",
        first "≥ 8,000/s", final "≥ 12,000/s, p99 ≤ 20 ms";
    "buys-all" buys::all_roles:
        "the same with all roles in one process",
        first "≥ 3,000/s, lag ≤ 1 s", final "≥ 6,000/s, lag ≤ 1 s";
    "event-store-64" event_store::callers_64:
        "event store alone, 64 callers",
        first "≥ 25,000/s", final "≥ 35,000/s, p50 ≤ 2 ms";
    "event-store-1024" event_store::callers_1024:
        "event store alone, 1,024 callers",
        first "–", final "≥ 60,000/s";
    "prices-1000" prices::thousand_an_event:
        "prices in bulk, 1,000 an event",
        first "≥ 50,000/s", final "≥ 200,000/s";
    "prices-1" prices::one_an_event:
        "prices in bulk, 1 an event",
        first "≥ 10,000/s", final "≥ 30,000/s";
    "visible" visible::append_to_visible:
        "acknowledged → visible in holdings, at 5,000 buys/s, all roles in one process",
        first "p99 ≤ 150 ms", final "p50 ≤ 20 ms, p99 ≤ 100 ms";
    "projection" projection::live:
        "live projection of holdings over 1,000 portfolios, one process",
        first "≥ 20,000 events/s", final "≥ 80,000 events/s";
    "rebuild" projection::rebuild:
        "rebuild of holdings from nothing",
        first "works, with progress", final "10 million events in ≤ 60 s (167,000/s)";
    "reads" reads::holdings:
        "reads of holdings, 64 callers",
        first "≥ 15,000/s", final "≥ 20,000/s, p99 ≤ 5 ms";
    "lists" lists::asked_by_many:
        "lists, filters and the first ones over 100,000 portfolios, 32 callers, what many ask, api alone",
        first "–", final "p99 ≤ 10 ms";
    "lists-apart" lists::asked_by_one:
        "the same where no question is asked twice at a time",
        first "–", final "measured";
    "risk-kernel" risk::exact_figures:
        "VaR 95/99 and ES with intervals, exact, 20 assets × 100,000 scenarios, 1,000 portfolios",
        first "measured", final "≥ 4 × the best shared-matrix numpy in f64";
    "risk-after-trade" risk::after_a_trade:
        "risk after a trade, 16,384 × 20: row visible, all roles in one process",
        first "p99 ≤ 100 ms", final "kernel < 0.1 ms; p99 < 50 ms";
    "market-tick" risk::whole_market_tick:
        "1,000 portfolios (20 of 500 assets) after a whole-market tick, 16,384 scenarios, one core",
        first "measured", final "< 10 ms of kernel time";
    "recompute" recompute::every_portfolio:
        "risk of 10,000 portfolios computed anew by a job, 20 holdings, 16,384 scenarios, all roles in one process",
        first "≥ 1,000/s", final "≥ 2,000/s";
    "idle-memory" process::idle_memory:
        "idle memory, all roles in one process, beside PostgreSQL",
        first "≤ 80 MB", final "≤ 60 MB";
    "start" process::start:
        "start to ready on an existing data folder, all roles in one process",
        first "≤ 3 s", final "≤ 2 s";
}
