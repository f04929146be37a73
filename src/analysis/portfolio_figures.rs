//! From a portfolio's exposures and a market model to its figures, with what is left out and why.

use crate::risk::exposure::is_money;
use crate::risk::figures::{Basis, Excluded};
use crate::risk::{
    Column, ColumnId, ENGINE_VERSION, Error, ExposureVector, Figures, MarketModel, Method, MethodFigures,
    Missing, TailFigures, engine, sharpe, volatility,
};

/// Below this share of gross exposure the figures do not speak for the portfolio.
const COVERAGE_NEEDED: f64 = 0.95;
/// Risk-free rate a year, printed beside the Sharpe ratio.
const RISK_FREE: f64 = 0.0;

/// An amount at risk: quantity × price × rate of a holding, or cash, negative if short or owed.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposure {
    /// The asset, or the currency of the cash.
    pub column: ColumnId,
    /// Market value in the portfolio's base currency.
    pub value_base: f64,
}

/// The risk of `exposures` (in any order) in `base_currency` under `model`. A pure function: equal arguments give
/// equal bytes. Refused only if an exposure is no finite amount; whatever cannot be had is null with its reason.
pub fn portfolio_figures(
    model: &MarketModel,
    base_currency: &str,
    exposures: &[Exposure],
) -> Result<Figures, Error> {
    let Split { covered, excluded, gross_excluded, zero_volatility } = split(model, exposures)?;
    let base = model.column(&ColumnId::Currency(base_currency.to_owned()));
    let vector = ExposureVector::new(*base.as_ref().unwrap_or(&Column::Numeraire), &covered)?;
    let gross = vector.gross() + gross_excluded;
    let coverage = (gross > 0.0).then(|| vector.gross() / gross);
    let missing = match (&base, coverage) {
        (_, None) => Some(Missing::NoExposure),
        (_, Some(0.0)) => Some(Missing::NothingCovered),
        (Err(_), _) => Some(Missing::NoBaseRate),
        _ => None,
    };
    let (volatility_annualized, sharpe) = match missing {
        None => volatility_and_sharpe(model, &vector),
        Some(_) => (None, None),
    };
    Ok(Figures {
        basis: Basis::Holdings,
        base_currency: base_currency.to_owned(),
        horizon_days: 1,
        value: vector.value(),
        coverage,
        incomplete: coverage.is_some_and(|share| share < COVERAGE_NEEDED),
        headline: Method::FilteredHistorical,
        methods: Method::ALL.map(|method| method_figures(model, method, &vector, missing)).to_vec(),
        volatility_annualized,
        sharpe,
        risk_free: RISK_FREE,
        days_per_year: model.days_per_year(),
        excluded,
        zero_volatility,
        model_hash: model.hash().to_owned(),
        cut: model.cut(),
        engine_version: ENGINE_VERSION,
    })
}

struct Split {
    covered: Vec<(Column, f64)>,
    excluded: Vec<Excluded>,
    gross_excluded: f64,
    zero_volatility: Vec<ColumnId>,
}

/// What the model covers and what it leaves out, both in the order of the columns.
fn split(model: &MarketModel, exposures: &[Exposure]) -> Result<Split, Error> {
    let mut sorted: Vec<&Exposure> = exposures.iter().filter(|exposure| exposure.value_base != 0.0).collect();
    sorted.sort_by(|a, b| a.column.cmp(&b.column).then(a.value_base.total_cmp(&b.value_base)));
    let mut split =
        Split { covered: Vec::new(), excluded: Vec::new(), gross_excluded: 0.0, zero_volatility: Vec::new() };
    for same in sorted.chunk_by(|a, b| a.column == b.column) {
        let id = &same[0].column;
        let amount = same.iter().fold(0.0, |sum, exposure| sum + exposure.value_base);
        if !same.iter().all(|exposure| is_money(exposure.value_base)) || !is_money(amount) {
            return Err(Error::Exposure { column: format!("{id:?}") });
        }
        match model.column(id) {
            Ok(column) => {
                split.covered.push((column, amount));
                if model.has_zero_volatility(column) {
                    split.zero_volatility.push(id.clone());
                }
            }
            Err(why) => {
                split.gross_excluded += amount.abs();
                split.excluded.push(Excluded { column: id.clone(), exposure: amount, why });
            }
        }
    }
    Ok(split)
}

fn method_figures(
    model: &MarketModel,
    method: Method,
    vector: &ExposureVector,
    missing: Option<Missing>,
) -> MethodFigures {
    let scenarios = model.scenarios(method);
    let missing = match missing {
        None if !scenarios.can_report_in(vector.base()) => Some(Missing::BaseWorthless),
        other => other,
    };
    let figures = match missing {
        None => engine::tail_figures(scenarios, vector),
        Some(_) => TailFigures::default(),
    };
    let simulated = method == Method::MonteCarlo;
    MethodFigures {
        method,
        window: model.window(),
        scenarios: scenarios.len(),
        seed: simulated.then_some(model.settings().seed),
        degrees_of_freedom: simulated.then_some(model.settings().degrees_of_freedom),
        figures,
        missing: missing.or_else(|| (!figures.is_complete()).then_some(Missing::TooFewScenarios)),
    }
}

/// Of the returns today's holdings would have had; none if they are worth nothing, for then there is no return.
fn volatility_and_sharpe(model: &MarketModel, vector: &ExposureVector) -> (Option<f64>, Option<f64>) {
    let history = model.scenarios(Method::Historical);
    if vector.value() <= 0.0 || !history.can_report_in(vector.base()) {
        return (None, None);
    }
    let returns: Vec<f64> = history.profits(vector).iter().map(|profit| profit / vector.value()).collect();
    let days = f64::from(model.days_per_year());
    let finite = |figure: Option<f64>| figure.filter(|x| x.is_finite());
    (finite(volatility::annualized(&returns, days)), finite(sharpe::ratio(&returns, RISK_FREE, days)))
}
