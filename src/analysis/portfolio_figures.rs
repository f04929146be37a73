//! From a portfolio's exposures and a market model to its figures, with what is left out and why.

use super::coverage::{Coverage, Exposure};
use crate::risk::figures::Basis;
use crate::risk::{
    Column, ColumnId, ENGINE_VERSION, Error, ExposureVector, Figures, MarketModel, Method, MethodFigures,
    Missing, TailFigures, engine, sharpe, volatility,
};

/// Below this share of gross exposure the figures do not speak for the portfolio.
const COVERAGE_NEEDED: f64 = 0.95;
/// Risk-free rate a year, printed beside the Sharpe ratio.
const RISK_FREE: f64 = 0.0;

/// The risk of `exposures` (in any order) in `base_currency` under `model`. A pure function: equal arguments give
/// equal bytes. Refused only if an exposure is no finite amount; whatever cannot be had is null with its reason.
pub fn portfolio_figures(
    model: &MarketModel,
    base_currency: &str,
    exposures: &[Exposure],
) -> Result<Figures, Error> {
    let Coverage { covered, excluded, gross_excluded, zero_volatility } = Coverage::of(model, exposures)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::risk::figures::Exclusion;
    use crate::risk::{AssetCloses, Estimate, ModelInputs, Pool, RateCloses, Settings};
    use chrono::NaiveDate;
    use uuid::Uuid;

    const DAYS: usize = 501;

    fn walk(id: usize, days: usize) -> Vec<(NaiveDate, f64)> {
        let start = NaiveDate::from_ymd_opt(2020, 1, 1).unwrap();
        let weekdays =
            start.iter_days().filter(|day| chrono::Datelike::weekday(day).num_days_from_monday() < 5);
        let mut price = 100.0;
        let returns = (0..).map(|i: usize| ((i * 7_919 + id * 104_729) % 1_009) as f64 / 1_009.0 - 0.5);
        let closes = weekdays.zip(returns).map(|(day, r)| {
            price *= 1.0 + 0.03 * r;
            (day, price)
        });
        // A short walk is young: it ends on the same day as the others.
        closes.take(DAYS).skip(DAYS - days).collect()
    }

    fn asset(id: u128, currency: &str, days: usize) -> AssetCloses {
        let (asset_id, closes) = (Uuid::from_u128(id), walk(id as usize, days));
        AssetCloses { asset_id, currency: currency.into(), crypto: false, delisted_on: None, closes }
    }

    fn inputs() -> ModelInputs {
        ModelInputs {
            cut: 7,
            window: 500,
            settings: Settings { seed: 1, paths: 2_048, ..Settings::default() },
            assets: vec![
                asset(1, "USD", DAYS),
                asset(2, "EUR", DAYS),
                asset(3, "USD", 100),
                asset(4, "USD", DAYS),
            ],
            rates: vec![RateCloses { currency: "EUR".into(), closes: walk(50, DAYS) }],
        }
    }

    fn model() -> MarketModel {
        MarketModel::build(inputs(), &Pool::new(2).unwrap()).unwrap()
    }

    fn holding(id: u128, value_base: f64) -> Exposure {
        Exposure { column: ColumnId::Asset(Uuid::from_u128(id)), value_base }
    }

    fn cash(currency: &str, value_base: f64) -> Exposure {
        Exposure { column: ColumnId::Currency(currency.into()), value_base }
    }

    fn book() -> Vec<Exposure> {
        vec![
            holding(1, 5_000.0),
            holding(2, 3_000.0),
            holding(4, -1_000.0),
            cash("EUR", 500.0),
            cash("USD", 250.0),
        ]
    }

    #[test]
    fn every_method_answers_with_its_intervals() {
        let figures = portfolio_figures(&model(), "USD", &book()).unwrap();
        assert_eq!(figures.methods.iter().map(|m| m.scenarios).collect::<Vec<_>>(), [250, 500, 2_048]);
        for method in &figures.methods {
            let (var_95, var_99) = (method.figures.var_95.unwrap(), method.figures.var_99.unwrap());
            assert!(var_95.value > 0.0 && var_99.value > var_95.value, "{method:?}");
            assert!(method.figures.es_975.unwrap().low.is_some());
            assert_eq!(method.seed.is_some(), method.method == Method::MonteCarlo);
            assert_eq!(method.missing, None);
        }
        assert_eq!((figures.value, figures.coverage, figures.incomplete), (7_750.0, Some(1.0), false));
        assert!(figures.volatility_annualized.unwrap() > 0.0 && figures.sharpe.is_some());
        assert_eq!((figures.cut, figures.engine_version, figures.days_per_year), (7, ENGINE_VERSION, 252));
    }

    #[test]
    fn the_same_bytes_on_any_number_of_threads_and_in_any_order() {
        let bytes = |threads: usize, reverse: bool| {
            let pool = Pool::new(threads).unwrap();
            let model = MarketModel::build(inputs(), &pool).unwrap();
            let books: Vec<Vec<Exposure>> = (1..40)
                .map(|n| {
                    let mut book = book();
                    book.iter_mut().for_each(|e| e.value_base *= f64::from(n) / 7.0);
                    if reverse {
                        book.reverse();
                    }
                    book
                })
                .collect();
            let all = pool.map(&books, |book| portfolio_figures(&model, "EUR", book).unwrap());
            serde_json::to_string(&all).unwrap()
        };
        let one = bytes(1, false);
        assert_eq!(bytes(2, true), one);
        assert_eq!(bytes(8, false), one);
        assert!(!one.contains("-0.0,") && !one.contains("NaN"));
    }

    #[test]
    fn what_is_left_out_is_named_and_lowers_the_coverage() {
        let exposures = [holding(1, 900.0), holding(3, -100.0)];
        let figures = portfolio_figures(&model(), "USD", &exposures).unwrap();
        assert_eq!((figures.coverage, figures.incomplete), (Some(0.9), true));
        assert_eq!(figures.excluded[0].exposure, -100.0);
        assert_eq!(figures.excluded[0].why, Exclusion::ShortHistory { returns: 99, fills: 0 });
        assert_eq!(figures.value, 900.0);
        let json = serde_json::to_value(&figures.excluded[0]).unwrap();
        assert_eq!(json["reason"], "short_history");
        assert_eq!(json["column"]["asset"], Uuid::from_u128(3).to_string());
    }

    #[test]
    fn base_cash_is_riskless_and_other_cash_is_not() {
        let model = model();
        let var = |base: &str, cash_in: &str| {
            let figures = portfolio_figures(&model, base, &[cash(cash_in, 1_000.0)]).unwrap();
            figures.method(Method::Historical).unwrap().figures.var_95.unwrap()
        };
        for currency in ["USD", "EUR"] {
            assert_eq!(
                var(currency, currency),
                Estimate { value: 0.0, low: Some(0.0), high: Some(0.0), k: 25 }
            );
        }
        assert!(var("USD", "EUR").value > 0.0 && var("EUR", "USD").value > 0.0);
    }

    #[test]
    fn nothing_is_invented() {
        let model = model();
        let why = |base: &str, exposures: &[Exposure]| {
            let figures = portfolio_figures(&model, base, exposures).unwrap();
            assert!(figures.methods.iter().all(|m| m.figures == TailFigures::default()));
            assert_eq!((figures.volatility_annualized, figures.sharpe), (None, None));
            figures.methods[0].missing.unwrap()
        };
        assert_eq!(why("USD", &[]), Missing::NoExposure);
        assert_eq!(why("USD", &[holding(1, 0.0)]), Missing::NoExposure);
        assert_eq!(why("USD", &[holding(3, 10.0)]), Missing::NothingCovered);
        assert_eq!(why("JPY", &[holding(1, 10.0)]), Missing::NoBaseRate);
    }

    #[test]
    fn a_portfolio_worth_nothing_has_risk_but_no_volatility() {
        let figures = portfolio_figures(&model(), "USD", &[holding(1, 10.0), holding(4, -10.0)]).unwrap();
        assert!(figures.methods[1].figures.var_95.is_some());
        assert_eq!(figures.volatility_annualized, None);
    }

    #[test]
    fn a_price_that_never_moves_is_named() {
        let mut still = asset(4, "USD", DAYS);
        still.closes.iter_mut().for_each(|close| close.1 = 10.0);
        let mut inputs = inputs();
        inputs.assets[3] = still;
        let model = MarketModel::build(inputs, &Pool::new(1).unwrap()).unwrap();
        let figures = portfolio_figures(&model, "USD", &[holding(4, 10.0)]).unwrap();
        assert_eq!(figures.zero_volatility, [ColumnId::Asset(Uuid::from_u128(4))]);
        for method in &figures.methods {
            assert_eq!(method.figures.var_99.unwrap().value, 0.0);
        }
        assert_eq!((figures.volatility_annualized, figures.sharpe), (Some(0.0), None));
    }

    #[test]
    fn the_answer_survives_json() {
        let figures = portfolio_figures(&model(), "USD", &[holding(3, 10.0), cash("USD", 90.0)]).unwrap();
        let json = serde_json::to_string(&figures).unwrap();
        assert_eq!(serde_json::from_str::<Figures>(&json).unwrap(), figures);
    }

    #[test]
    fn exposures_that_are_no_money_are_refused() {
        for amount in [f64::NAN, f64::INFINITY, 1e300] {
            for id in [1, 3] {
                let refused = portfolio_figures(&model(), "USD", &[holding(id, amount)]);
                assert!(matches!(refused, Err(Error::Exposure { .. })), "{amount} in asset {id}");
            }
        }
    }
}
