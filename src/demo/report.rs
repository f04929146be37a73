//! What the demo did and what it found, as one JSON document. Answers of the API stand in it as they came.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::styles::Settings;
use crate::closes;

/// The whole demo.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where it was played.
    pub base_url: String,
    /// What makes its commands its own.
    pub run: String,
    /// What its history is a function of.
    pub seed: u64,
    /// How long all of it took.
    pub seconds: f64,
    /// How long each step took.
    pub steps: Vec<Step>,
    /// What came of it.
    pub portfolios: Vec<PortfolioReport>,
    /// Where the prices are from.
    pub prices: Prices,
}

/// One step.
#[derive(Debug, Serialize)]
pub struct Step {
    /// What was done.
    pub what: &'static str,
    /// How many of it.
    pub count: u64,
    /// How long it took.
    pub seconds: f64,
    /// How many a second.
    pub per_second: f64,
}

/// A portfolio at the end of the demo: every answer reflects its last command, and the last price where prices matter.
#[derive(Debug, Serialize)]
pub struct PortfolioReport {
    /// Its id.
    pub portfolio_id: String,
    /// Its name.
    pub name: String,
    /// Name of the investor.
    pub investor: String,
    /// How it is kept.
    pub settings: Settings,
    /// Facts in its history.
    pub facts: usize,
    /// Answer of `/holdings`.
    pub holdings: Value,
    /// Answer of `/valuation`.
    pub valuation: Value,
    /// Answer of `/risk`.
    pub risk: Value,
}

/// Where the prices are from.
#[derive(Debug, Serialize)]
pub struct Prices {
    /// In a line.
    pub credit: &'static str,
    /// The notice that goes with every copy of them.
    pub licence: &'static str,
}

impl Prices {
    pub(super) const SHIPPED: Self = Self { credit: closes::CREDIT, licence: closes::LICENCE };
}

impl Step {
    pub(super) fn new(what: &'static str, count: u64, took: Duration) -> Self {
        let seconds = took.as_secs_f64();
        Self { what, count, seconds, per_second: if seconds > 0.0 { count as f64 / seconds } else { 0.0 } }
    }
}
