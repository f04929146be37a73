//! The answer: what was computed, by which method from what, how sure it is, and what is missing and why.
//!
//! Its JSON is deterministic: fields in this order, floats in their shortest exact form. No NaN and no infinity
//! gets in; what cannot be had is null with a reason. To compare two answers to the bit compare their JSON bytes.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A figure with its 95 % interval, in base currency; loss is positive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Lower bound; null where it does not exist.
    pub low: Option<f64>,
    /// Upper bound; null where it does not exist.
    pub high: Option<f64>,
    /// Scenarios in the tail.
    pub k: usize,
}

/// The figures of the tail; null where the scenarios are too few for the level.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct TailFigures {
    /// One-day value at risk at 95 %.
    pub var_95: Option<Estimate>,
    /// One-day value at risk at 99 %.
    pub var_99: Option<Estimate>,
    /// One-day expected shortfall at 97.5 %.
    pub es_975: Option<Estimate>,
}

impl TailFigures {
    /// Whether every figure is there.
    pub fn is_complete(&self) -> bool {
        self.var_95.is_some() && self.var_99.is_some() && self.es_975.is_some()
    }
}

/// How the scenarios were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Past days at tonight's volatility: the headline.
    FilteredHistorical,
    /// Past days as they were.
    Historical,
    /// Correlated Student t.
    MonteCarlo,
}

impl Method {
    /// In the order they are reported, the headline first.
    pub const ALL: [Self; 3] = [Self::FilteredHistorical, Self::Historical, Self::MonteCarlo];
}

/// Why a figure is null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The portfolio holds nothing.
    NoExposure,
    /// Nothing that it holds is in the model.
    NothingCovered,
    /// The model has no rate of the base currency.
    NoBaseRate,
    /// In some scenario the base currency would be worth nothing, or less.
    BaseWorthless,
    /// The scenarios are too few for at least one level.
    TooFewScenarios,
}

/// The figures of one method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodFigures {
    /// Which.
    pub method: Method,
    /// Returns of history behind it.
    pub window: usize,
    /// n.
    pub scenarios: usize,
    /// Monte Carlo: key of its random numbers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seed: Option<u64>,
    /// Monte Carlo: ν.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub degrees_of_freedom: Option<f64>,
    /// The figures.
    #[serde(flatten)]
    pub figures: TailFigures,
    /// Why one of them is null.
    pub missing: Option<Missing>,
}

/// What a portfolio can be exposed to. Assets come before currencies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnId {
    /// An asset.
    Asset(Uuid),
    /// Cash in a currency.
    Currency(String),
}

/// Why a column is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Exclusion {
    /// Fewer returns than the window, or more than 5 % of them carried over.
    ShortHistory {
        /// Returns there are within the window.
        returns: usize,
        /// How many of them had no close of their own.
        fills: usize,
    },
    /// The currency it is quoted in, or that it is, has no usable rate to the numeraire.
    NoRate {
        /// That currency.
        currency: String,
    },
    /// No close is known.
    NoCloses,
}

/// A column the portfolio is exposed to that no figure covers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Excluded {
    /// Which.
    pub column: ColumnId,
    /// Exposure in base currency.
    pub exposure: f64,
    /// Why.
    #[serde(flatten)]
    pub why: Exclusion,
}

/// What the figures are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Today's holdings over the model's window (not what was held in the past).
    Holdings,
}

/// A portfolio's risk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// What the figures are of.
    pub basis: Basis,
    /// Currency of every amount.
    pub base_currency: String,
    /// Trading days ahead.
    pub horizon_days: u32,
    /// Net value of what is covered.
    pub value: f64,
    /// Covered share of gross exposure; null if there is none.
    pub coverage: Option<f64>,
    /// Coverage below 0.95: a limit on these figures is undetermined.
    pub incomplete: bool,
    /// The method to quote.
    pub headline: Method,
    /// One entry per method, the headline first.
    pub methods: Vec<MethodFigures>,
    /// Standard deviation of a year's return, as a fraction; null without positive value or history.
    pub volatility_annualized: Option<f64>,
    /// Sharpe ratio; null where the volatility is null or 0.
    pub sharpe: Option<f64>,
    /// Risk-free rate a year in the Sharpe ratio.
    pub risk_free: f64,
    /// Days that a year is counted as: 252, or 365 if the model knows only crypto.
    pub days_per_year: u32,
    /// What is left out, with the reason.
    pub excluded: Vec<Excluded>,
    /// Held columns that had a day with a forecast volatility of 0, whose filtered return is then 0.
    pub zero_volatility: Vec<ColumnId>,
    /// Names what the model was made of.
    pub model_hash: String,
    /// Market position the model was made at.
    pub cut: u64,
    /// Version of these numerics.
    pub engine_version: u32,
}

impl Figures {
    /// The figures of one method.
    pub fn method(&self, method: Method) -> Option<&MethodFigures> {
        self.methods.iter().find(|figures| figures.method == method)
    }
}
