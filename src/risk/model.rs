//! The market model: one history, three scenario matrices, immutable and shared by all portfolios behind an `Arc`.
//!
//! It is a function of its inputs alone. Common scenarios mean that a change in a figure is a change in the
//! portfolio, not in the dice; a tick changes exposures only and never the model.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::calendar::Calendar;
use super::columns;
use super::covariance;
use super::exposure::Column;
use super::figures::{ColumnId, Exclusion, Method};
use super::filtered_historical::{self, Filtered};
use super::inputs::ModelInputs;
use super::monte_carlo::{self, Settings};
use super::pool::Pool;
use super::principal_components::Loadings;
use super::scenarios::Scenarios;
use super::{Error, NUMERAIRE, historical};

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
        let (mut ids, mut series, mut excluded) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (id, outcome) in columns::of(inputs, dates) {
            match outcome {
                Ok(returns) => {
                    ids.push(id);
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
            columns: ids,
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

#[cfg(test)]
mod tests {
    use super::super::inputs::{AssetCloses, Close, RateCloses};
    use super::*;
    use chrono::{Datelike, Days, Weekday};
    use uuid::Uuid;

    /// Weekdays from Tuesday 2 January 2024 on.
    fn weekdays(count: usize) -> Vec<NaiveDate> {
        let start = NaiveDate::from_ymd_opt(2024, 1, 2).unwrap();
        let all = start.iter_days().filter(|day| !matches!(day.weekday(), Weekday::Sat | Weekday::Sun));
        all.take(count).collect()
    }

    /// A walk that differs by `id`.
    fn walk(id: usize, days: &[NaiveDate]) -> Vec<Close> {
        let mut price = 100.0;
        let step = |i: usize| ((i * 7_919 + id * 104_729) % 1_009) as f64 / 1_009.0 - 0.5;
        let closes = days.iter().enumerate().map(|(i, day)| {
            price *= 1.0 + 0.04 * step(i);
            (*day, price)
        });
        closes.collect()
    }

    fn asset(id: u128, currency: &str, closes: Vec<Close>) -> AssetCloses {
        let asset_id = Uuid::from_u128(id);
        AssetCloses { asset_id, currency: currency.into(), crypto: false, delisted_on: None, closes }
    }

    fn inputs(window: usize, assets: Vec<AssetCloses>, rates: Vec<RateCloses>) -> ModelInputs {
        let settings = Settings { paths: 1_024, ..Settings::default() };
        ModelInputs { cut: 42, window, settings, assets, rates }
    }

    fn build(inputs: ModelInputs) -> MarketModel {
        MarketModel::build(inputs, &Pool::new(1).unwrap()).unwrap()
    }

    #[test]
    fn crypto_beside_stocks_moves_on_mondays() {
        let days = weekdays(12);
        let calendar_days: Vec<NaiveDate> = days[0].iter_days().take_while(|day| *day <= days[11]).collect();
        let crypto = AssetCloses { crypto: true, ..asset(2, "USD", walk(2, &calendar_days)) };
        let model = build(inputs(11, vec![asset(1, "USD", walk(1, &days)), crypto.clone()], vec![]));
        let monday = model.dates().iter().position(|day| day.weekday() == Weekday::Mon).unwrap();
        let close = |day: NaiveDate| crypto.closes.iter().find(|close| close.0 == day).unwrap().1;
        let (to, from) = (model.dates()[monday], model.dates()[monday] - Days::new(3));
        let got = model.scenarios(Method::Historical).returns(0, 1)[monday];
        assert_eq!(got, close(to) / close(from) - 1.0);
    }

    #[test]
    fn too_short_a_market_has_no_scenario_of_history() {
        let model = build(inputs(100, vec![asset(1, "USD", walk(1, &weekdays(50)))], vec![]));
        assert!(model.columns().is_empty());
        assert!(model.scenarios(Method::Historical).is_empty());
        assert!(model.scenarios(Method::FilteredHistorical).is_empty());
    }

    #[test]
    fn any_number_of_threads_and_any_order_of_loading_gives_the_same_bytes() {
        let days = weekdays(301);
        let closes = |id: u128| asset(id, if id == 5 { "EUR" } else { "USD" }, walk(id as usize, &days));
        let rates = vec![RateCloses { currency: "EUR".into(), closes: walk(99, &days) }];
        let one = build(inputs(300, (1..=12).map(closes).collect(), rates.clone()));
        for threads in [2, 8] {
            let reversed = inputs(300, (1..=12).rev().map(closes).collect(), rates.clone());
            let other = MarketModel::build(reversed, &Pool::new(threads).unwrap()).unwrap();
            // Not `==`, for which −0 is 0.
            assert_eq!(bits(&other), bits(&one), "{threads} threads");
            assert_eq!(other, one);
        }
        assert!(one.shrinkage() > 0.0 && one.shrinkage() <= 1.0);
    }

    fn bits(model: &MarketModel) -> Vec<u64> {
        let all = Method::ALL.map(|method| model.scenarios(method));
        let columns = all.iter().flat_map(|r| {
            (0..r.batches()).flat_map(move |batch| (0..r.columns()).flat_map(move |c| r.returns(batch, c)))
        });
        columns.map(|r| r.to_bits()).collect()
    }
}
