//! How the demo's investors invest: six ways that differ in settings and in habits.

use serde::Serialize;

use crate::domain::portfolio::event::{CashMode, CostBasis};

/// Portfolios that each investor has.
pub const PORTFOLIOS_PER_INVESTOR: usize = 2;

/// The settings of a portfolio and the habits of the one who runs it.
#[derive(Debug, PartialEq, Eq)]
pub struct Style {
    /// What the portfolio is called.
    pub name: &'static str,
    /// How it is kept.
    pub settings: Settings,
    /// Assets it chooses from.
    pub assets: usize,
    /// Assets it holds at most; beyond that one is sold.
    pub holdings_max: usize,
    /// Months between buys.
    pub every_months: usize,
    /// Dollars for each time it buys, in the first year.
    pub budget: u32,
    /// Assets it buys each time.
    pub picks: usize,
    /// Which ones.
    pub taste: Taste,
    /// Every January, holdings are sold down to this share of the portfolio.
    pub share_percent_max: Option<u64>,
    /// Every so manieth trade is entered two months late, dated as it was made.
    pub late_every: Option<usize>,
}

/// What a portfolio is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Which lots a sale takes.
    pub cost_basis: CostBasis,
    /// Whether fees are part of cost.
    pub fees_in_cost: bool,
    /// Whether a cash ledger is kept.
    pub cash: CashMode,
}

/// What one likes to buy. What is sold to make room is the opposite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taste {
    /// What there is least of.
    Lightest,
    /// What rose most in a year.
    Strongest,
    /// What fell most in a year.
    Weakest,
}

/// The style of the portfolio with this number.
pub fn style(portfolio: usize) -> &'static Style {
    &STYLES[portfolio % STYLES.len()]
}

const STYLES: [Style; 6] = [
    Style {
        name: "Retirement savings",
        settings: Settings { cost_basis: CostBasis::Fifo, fees_in_cost: false, cash: CashMode::Tracked },
        assets: 12,
        holdings_max: 12,
        every_months: 1,
        budget: 1_500,
        picks: 2,
        taste: Taste::Lightest,
        share_percent_max: Some(15),
        late_every: None,
    },
    Style {
        name: "Quarterly core",
        settings: Settings { cost_basis: CostBasis::Average, fees_in_cost: true, cash: CashMode::Untracked },
        assets: 8,
        holdings_max: 8,
        every_months: 3,
        budget: 6_000,
        picks: 3,
        taste: Taste::Lightest,
        share_percent_max: Some(25),
        late_every: Some(40),
    },
    Style {
        name: "Momentum",
        settings: Settings { cost_basis: CostBasis::Hifo, fees_in_cost: true, cash: CashMode::Tracked },
        assets: usize::MAX,
        holdings_max: 6,
        every_months: 3,
        budget: 5_000,
        picks: 2,
        taste: Taste::Strongest,
        share_percent_max: Some(40),
        late_every: Some(30),
    },
    Style {
        name: "Blue chips",
        settings: Settings { cost_basis: CostBasis::Fifo, fees_in_cost: true, cash: CashMode::Untracked },
        assets: 10,
        holdings_max: 10,
        every_months: 6,
        budget: 10_000,
        picks: 2,
        taste: Taste::Lightest,
        share_percent_max: None,
        late_every: Some(12),
    },
    Style {
        name: "Contrarian",
        settings: Settings { cost_basis: CostBasis::Lifo, fees_in_cost: false, cash: CashMode::Tracked },
        assets: 15,
        holdings_max: 7,
        every_months: 3,
        budget: 4_000,
        picks: 2,
        taste: Taste::Weakest,
        share_percent_max: Some(30),
        late_every: None,
    },
    Style {
        name: "Broad market",
        settings: Settings { cost_basis: CostBasis::Lifo, fees_in_cost: true, cash: CashMode::Untracked },
        assets: usize::MAX,
        holdings_max: usize::MAX,
        every_months: 1,
        budget: 2_500,
        picks: 2,
        taste: Taste::Lightest,
        share_percent_max: Some(8),
        late_every: Some(50),
    },
];
