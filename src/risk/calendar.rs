//! Model dates: the days a return is made for.
//!
//! Mondays to Fridays on which at least half of the listed assets (crypto and fx apart) have a close: one exchange's
//! holiday is no gap for the others, one asset's early close is no day. If only crypto is listed, every day.
//! An asset counts as listed from its first close to its delisting, so young assets do not erase old dates.

use chrono::{Datelike, NaiveDate, Weekday};

use super::inputs::AssetCloses;

/// The model dates of a market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    /// Ascending.
    pub dates: Vec<NaiveDate>,
    /// Whether nothing but crypto is listed.
    pub crypto_only: bool,
}

impl Calendar {
    /// Of the closes of `assets`.
    pub fn of(assets: &[AssetCloses]) -> Self {
        let crypto_only = !assets.is_empty() && assets.iter().all(|asset| asset.crypto);
        let dates = if crypto_only { every_day(assets) } else { common_weekdays(assets) };
        Self { dates, crypto_only }
    }

    /// Trading days that make a year.
    pub fn days_per_year(&self) -> u32 {
        if self.crypto_only { 365 } else { 252 }
    }
}

/// From the first close of any asset to the last.
fn every_day(assets: &[AssetCloses]) -> Vec<NaiveDate> {
    let days = || assets.iter().flat_map(|asset| [asset.closes.first(), asset.closes.last()]).flatten();
    let (Some(first), Some(last)) = (days().map(|c| c.0).min(), days().map(|c| c.0).max()) else {
        return Vec::new();
    };
    first.iter_days().take_while(|day| *day <= last).collect()
}

fn common_weekdays(assets: &[AssetCloses]) -> Vec<NaiveDate> {
    let exchange_traded = || assets.iter().filter(|asset| !asset.crypto && !asset.closes.is_empty());
    let mut listed_from: Vec<NaiveDate> = exchange_traded().map(|asset| asset.closes[0].0).collect();
    let mut listed_to: Vec<NaiveDate> = exchange_traded().filter_map(|asset| asset.delisted_on).collect();
    listed_from.sort_unstable();
    listed_to.sort_unstable();

    let mut closed: Vec<NaiveDate> = exchange_traded()
        .flat_map(|asset| {
            asset.closes.iter().map(|c| c.0).filter(|day| asset.delisted_on.is_none_or(|d| *day <= d))
        })
        .filter(|day| !matches!(day.weekday(), Weekday::Sat | Weekday::Sun))
        .collect();
    closed.sort_unstable();
    closed
        .chunk_by(|a, b| a == b)
        .filter(|same| {
            let listed = listed_from.partition_point(|first| *first <= same[0])
                - listed_to.partition_point(|last| *last < same[0]);
            2 * same.len() >= listed
        })
        .map(|same| same[0])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn day(n: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 1, n).unwrap()
    }

    fn asset(crypto: bool, days: &[u32]) -> AssetCloses {
        AssetCloses {
            asset_id: Uuid::nil(),
            currency: "USD".into(),
            crypto,
            delisted_on: None,
            closes: days.iter().map(|n| (day(*n), 1.0)).collect(),
        }
    }

    fn dates(assets: &[AssetCloses]) -> Vec<u32> {
        Calendar::of(assets).dates.iter().map(|date| date.day()).collect()
    }

    /// 6 and 7 January 2024 are a weekend; crypto trades through it, stocks do not.
    #[test]
    fn weekends_are_no_model_dates_beside_stocks() {
        assert_eq!(dates(&[asset(false, &[4, 5, 6, 8]), asset(true, &[4, 5, 6, 7, 8, 9])]), [4, 5, 8]);
    }

    #[test]
    fn half_of_the_listed_assets_make_a_day_and_fewer_do_not() {
        let three = [asset(false, &[2, 3, 4]), asset(false, &[2, 4]), asset(false, &[2, 5])];
        assert_eq!(dates(&three), [2, 4], "the 3rd and 5th have one close of three");
        assert_eq!(dates(&three[..2]), [2, 3, 4], "one of two is half");
    }

    #[test]
    fn an_asset_counts_from_its_first_close_to_its_delisting() {
        let old = asset(false, &[2, 3, 4, 5]);
        let young = || asset(false, &[4, 5]);
        assert_eq!(dates(&[old.clone(), young(), young()]), [2, 3, 4, 5]);
        let gone = || AssetCloses { delisted_on: Some(day(3)), ..asset(false, &[2, 3]) };
        assert_eq!(dates(&[old.clone(), gone(), gone()]), [2, 3, 4, 5]);
        let silent = || asset(false, &[2, 3]);
        assert_eq!(dates(&[old, silent(), silent()]), [2, 3]);
    }

    #[test]
    fn crypto_alone_trades_every_day() {
        let calendar = Calendar::of(&[asset(true, &[5, 9])]);
        assert_eq!((calendar.dates.len(), calendar.days_per_year()), (5, 365));
        assert_eq!(Calendar::of(&[asset(false, &[5])]).days_per_year(), 252);
        assert!(Calendar::of(&[]).dates.is_empty() && Calendar::of(&[asset(true, &[])]).dates.is_empty());
    }
}
