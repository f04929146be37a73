//! The columns of a model: every asset and currency with its returns in the numeraire, or why it has none.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::figures::{ColumnId, Exclusion};
use super::inputs::ModelInputs;
use super::{NUMERAIRE, returns};

/// A column and its returns over the window.
pub type Outcome = (ColumnId, Result<Vec<f64>, Exclusion>);

/// Assets by id, then currencies by code, from checked inputs, along the model dates of the window.
pub fn of(inputs: &ModelInputs, dates: &[NaiveDate]) -> Vec<Outcome> {
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

#[cfg(test)]
mod tests {
    use super::super::inputs::{AssetCloses, Close, RateCloses};
    use super::*;
    use uuid::Uuid;

    fn days(count: usize) -> Vec<NaiveDate> {
        NaiveDate::from_ymd_opt(2024, 1, 1).unwrap().iter_days().take(count).collect()
    }

    fn asset(id: u128, currency: &str, closes: Vec<Close>) -> AssetCloses {
        let asset_id = Uuid::from_u128(id);
        AssetCloses { asset_id, currency: currency.into(), crypto: false, delisted_on: None, closes }
    }

    fn closes(days: &[NaiveDate], prices: &[f64]) -> Vec<Close> {
        days.iter().copied().zip(prices.iter().copied()).collect()
    }

    #[test]
    fn an_asset_is_folded_with_its_currency_which_is_a_column_too() {
        let days = days(4);
        let inputs = ModelInputs {
            window: 3,
            assets: vec![asset(1, "EUR", closes(&days, &[100.0, 110.0, 110.0, 55.0]))],
            rates: vec![RateCloses { currency: "EUR".into(), closes: closes(&days, &[1.0, 1.2, 0.6, 0.6]) }],
            ..ModelInputs::default()
        };
        let columns = of(&inputs, &days);
        let expected = [[0.32, -0.5, -0.5], [0.2, -0.5, 0.0]];
        for ((_, returns), expected) in columns.iter().zip(expected) {
            for (got, expected) in returns.as_ref().unwrap().iter().zip(expected) {
                assert!((got - expected).abs() < 1e-15, "{got} {expected}");
            }
        }
        assert_eq!(columns[1].0, ColumnId::Currency("EUR".into()));
    }

    #[test]
    fn what_has_no_full_history_is_left_out_with_the_reason() {
        let days = days(101);
        let full = closes(&days, &[1.0; 101]);
        let sparse = full.iter().enumerate().filter(|(i, _)| i % 10 != 4).map(|(_, close)| *close).collect();
        let assets = vec![
            asset(1, "USD", full.clone()),
            asset(2, "USD", full[1..].to_vec()),
            asset(3, "USD", sparse),
            asset(4, "CHF", full.clone()),
            asset(5, "USD", vec![]),
            asset(6, "SEK", full.clone()),
        ];
        let rates = vec![RateCloses { currency: "SEK".into(), closes: full[50..].to_vec() }];
        let inputs = ModelInputs { window: 100, assets, rates, ..ModelInputs::default() };
        let no_rate = |currency: &str| Exclusion::NoRate { currency: currency.into() };
        let reasons: Vec<_> = of(&inputs, &days).into_iter().map(|(_, outcome)| outcome.err()).collect();
        assert_eq!(
            reasons,
            [
                None,
                Some(Exclusion::ShortHistory { returns: 99, fills: 0 }),
                Some(Exclusion::ShortHistory { returns: 100, fills: 10 }),
                Some(no_rate("CHF")),
                Some(Exclusion::NoCloses),
                Some(no_rate("SEK")),
                Some(Exclusion::ShortHistory { returns: 50, fills: 0 }),
            ]
        );
    }
}
