//! The market model: one history, three scenario matrices, immutable and shared by all portfolios behind an `Arc`.
//!
//! It is a function of its inputs alone. Common scenarios mean that a change in a figure is a change in the
//! portfolio, not in the dice; a tick changes exposures only and never the model.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::calendar::Calendar;
use super::covariance;
use super::exposure::Column;
use super::figures::{ColumnId, Exclusion, Method};
use super::filtered_historical::{self, Filtered};
use super::inputs::ModelInputs;
use super::monte_carlo::{self, Settings};
use super::pool::Pool;
use super::principal_components::Loadings;
use super::scenarios::Scenarios;
use super::{Error, NUMERAIRE, historical, returns};

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct MarketModel {
    cut: u64,
    hash: String,
    window: usize,
    settings: Settings,
    days_per_year: u32,
    /// The dates of the returns.
    dates: Vec<NaiveDate>,
    columns: Vec<ColumnId>,
    excluded: BTreeMap<ColumnId, Exclusion>,
    historical: Scenarios,
    filtered: Filtered,
    monte_carlo: Scenarios,
    shrinkage: f64,
}

/// A column's returns in the numeraire, or why it has none.
type Outcome = (ColumnId, Result<Vec<f64>, Exclusion>);

impl MarketModel {
    /// From closes and settings, on the threads of `pool`; equal inputs give equal bytes on any number of them.
    pub fn build(inputs: ModelInputs, pool: &Pool) -> Result<Self, Error> {
        let inputs = inputs.checked()?;
        Ok(pool.run(|| Self::of_checked(&inputs)))
    }

    fn of_checked(inputs: &ModelInputs) -> Self {
        let calendar = Calendar::of(&inputs.assets);
        // One date more than returns: the first return needs a close before it.
        let first = calendar.dates.len().saturating_sub(inputs.window + 1);
        let dates = &calendar.dates[first..];
        let (mut columns, mut series, mut excluded) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (id, outcome) in all_columns(inputs, dates) {
            match outcome {
                Ok(returns) => {
                    columns.push(id);
                    series.push(returns);
                }
                Err(reason) => {
                    excluded.insert(id, reason);
                }
            }
        }
        let window = if dates.len() > inputs.window { inputs.window } else { 0 };
        let views: Vec<&[f64]> = series.iter().map(Vec::as_slice).collect();
        let shrunk = covariance::ledoit_wolf(&views);
        Self {
            cut: inputs.cut,
            hash: inputs.hash(),
            window: inputs.window,
            settings: inputs.settings,
            days_per_year: calendar.days_per_year(),
            dates: dates.iter().skip(1).copied().collect(),
            columns,
            excluded,
            historical: historical::scenarios(window, &series),
            filtered: filtered_historical::scenarios(window, &series),
            monte_carlo: monte_carlo::scenarios(&inputs.settings, &Loadings::of(&shrunk.covariance)),
            shrinkage: shrunk.intensity,
        }
    }

    /// Where an exposure to `id` stands, or why it is left out.
    pub fn column(&self, id: &ColumnId) -> Result<Column, Exclusion> {
        if matches!(id, ColumnId::Currency(currency) if currency == NUMERAIRE) {
            return Ok(Column::Numeraire);
        }
        // Columns are in the order of their ids, assets before currencies.
        match self.columns.binary_search(id) {
            Ok(index) => Ok(Column::Risky(index)),
            Err(_) => Err(self.excluded.get(id).cloned().unwrap_or(Exclusion::NoCloses)),
        }
    }

    /// The matrix of `method`.
    pub fn scenarios(&self, method: Method) -> &Scenarios {
        match method {
            Method::Historical => &self.historical,
            Method::FilteredHistorical => &self.filtered.scenarios,
            Method::MonteCarlo => &self.monte_carlo,
        }
    }

    /// Whether a forecast of 0 made some of this column's filtered returns 0.
    pub fn has_zero_volatility(&self, column: Column) -> bool {
        matches!(column, Column::Risky(index) if self.filtered.zero_volatility[index])
    }

    /// The dates of the returns, oldest first; fewer than the window if the history is short.
    pub fn dates(&self) -> &[NaiveDate] {
        &self.dates
    }

    /// The columns in the model, in order.
    pub fn columns(&self) -> &[ColumnId] {
        &self.columns
    }

    /// The columns left out, with the reason.
    pub fn excluded(&self) -> &BTreeMap<ColumnId, Exclusion> {
        &self.excluded
    }

    /// Market position it was made at.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Names its content (see [`ModelInputs`]), not its cut.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Returns asked for.
    pub fn window(&self) -> usize {
        self.window
    }

    /// The simulation's.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// 252, or 365 if only crypto is listed.
    pub fn days_per_year(&self) -> u32 {
        self.days_per_year
    }

    /// Ledoit and Wolf's δ.
    pub fn shrinkage(&self) -> f64 {
        self.shrinkage
    }
}

/// Assets by id, then currencies by code.
fn all_columns(inputs: &ModelInputs, dates: &[NaiveDate]) -> Vec<Outcome> {
    let rates: BTreeMap<&str, _> = inputs
        .rates
        .iter()
        .map(|rate| (rate.currency.as_str(), returns::of_window(inputs.window, dates, &rate.closes)))
        .collect();
    let assets = inputs.assets.iter().map(|asset| {
        let own = returns::of_window(inputs.window, dates, &asset.closes);
        let returns = match (own, rates.get(asset.currency.as_str())) {
            (Err(reason), _) => Err(reason),
            (Ok(own), _) if asset.currency == NUMERAIRE => Ok(own),
            (Ok(own), Some(Ok(rate))) => Ok(returns::folded(&own, rate)),
            (Ok(_), _) => Err(Exclusion::NoRate { currency: asset.currency.clone() }),
        };
        (ColumnId::Asset(asset.asset_id), returns)
    });
    let currencies =
        rates.iter().map(|(code, returns)| (ColumnId::Currency((*code).to_owned()), returns.clone()));
    assets.chain(currencies).collect()
}
