//! Loads what a market model is a function of: closes and the cut, from one snapshot of the read model `prices`.

use std::collections::BTreeMap;

use sqlx::PgPool;

use super::{AssetCloses, ModelInputs, RateCloses, Settings};
use crate::domain::currency::{Currency, Symbol};
use crate::risk::NUMERAIRE;

/// Calendar days loaded for each return of the window, and some more for holidays: a function of the window alone,
/// since the model's hash covers every close that was loaded.
fn span_days(window: usize) -> i32 {
    i32::try_from(window * 8 / 5 + 60).unwrap_or(i32::MAX)
}

/// Loads closes as the rows of `prices` have them. The cut is the last market event that is in these rows.
///
/// # Errors
/// The database.
pub async fn load_inputs(
    pool: &PgPool,
    window: usize,
    settings: Settings,
) -> Result<ModelInputs, sqlx::Error> {
    let mut snapshot = pool.begin_with("begin isolation level repeatable read read only").await?;
    let cut = sqlx::query_file_scalar!("projections/prices/find_model_cut.sql")
        .fetch_optional(&mut *snapshot)
        .await?
        .unwrap_or(0);
    let rows = sqlx::query_file!("projections/prices/list_model_closes.sql", span_days(window))
        .fetch_all(&mut *snapshot)
        .await?;
    snapshot.commit().await?;

    let mut assets: Vec<AssetCloses> = Vec::new();
    let mut pairs: BTreeMap<(String, String), Vec<_>> = BTreeMap::new();
    for row in rows {
        let close = row.day.zip(row.close);
        if row.class == "fx" {
            pairs.entry((row.symbol, row.currency)).or_default().extend(close);
            continue;
        }
        if assets.last().is_none_or(|last| last.asset_id != row.asset_id) {
            assets.push(AssetCloses {
                asset_id: row.asset_id,
                currency: row.currency,
                crypto: row.class == "crypto",
                delisted_on: None,
                closes: Vec::new(),
            });
        }
        if let Some(asset) = assets.last_mut() {
            asset.closes.extend(close);
        }
    }
    Ok(ModelInputs { cut: cut as u64, window, settings, assets, rates: rates(pairs) })
}

/// US dollars for one unit of each currency that has a pair with the dollar; the direct pair before the inverse.
fn rates(pairs: BTreeMap<(String, String), Vec<(chrono::NaiveDate, f64)>>) -> Vec<RateCloses> {
    let mut rates: BTreeMap<String, Vec<(chrono::NaiveDate, f64)>> = BTreeMap::new();
    for inverse in [false, true] {
        for ((symbol, quoted_in), closes) in &pairs {
            let Some((base, quoted_in)) = pair(symbol, quoted_in) else { continue };
            let currency = match (base.as_str() == NUMERAIRE, quoted_in.as_str() == NUMERAIRE) {
                (false, true) if !inverse => base,
                (true, false) if inverse => quoted_in,
                _ => continue,
            };
            let in_dollars = |close: f64| if inverse { 1.0 / close } else { close };
            rates
                .entry(currency.to_string())
                .or_insert_with(|| closes.iter().map(|(day, close)| (*day, in_dollars(*close))).collect());
        }
    }
    rates.into_iter().map(|(currency, closes)| RateCloses { currency, closes }).collect()
}

/// The two currencies of a pair such as `EURUSD`, which ends in the one it is quoted in.
fn pair(symbol: &str, quoted_in: &str) -> Option<(Currency, Currency)> {
    let symbol: Symbol = symbol.parse().ok()?;
    let base = symbol.as_str().strip_suffix(quoted_in)?.parse().ok()?;
    Some((base, quoted_in.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;

    #[test]
    fn rates_are_dollars_for_one_unit_and_the_direct_pair_wins() {
        let day = NaiveDate::from_ymd_opt(2026, 1, 5).unwrap();
        let pairs = BTreeMap::from([
            (("USDJPY".to_owned(), "JPY".to_owned()), vec![(day, 160.0)]),
            (("EURUSD".to_owned(), "USD".to_owned()), vec![(day, 1.25)]),
            (("USDEUR".to_owned(), "EUR".to_owned()), vec![(day, 0.5)]),
            (("EURGBP".to_owned(), "GBP".to_owned()), vec![(day, 0.9)]),
        ]);
        let rates = rates(pairs);
        let expected = [
            RateCloses { currency: "EUR".into(), closes: vec![(day, 1.25)] },
            RateCloses { currency: "JPY".into(), closes: vec![(day, 0.00625)] },
        ];
        assert_eq!(rates, expected);
    }
}
