//! Exchange rates of past days: what a lot's cost was worth in base when it was opened.
//!
//! The rate of a day is the last close on or before it, at most 7 days old, of the most believed source that has one;
//! direct, inverse, through US dollars, through euros, in this order. An equal close sent again changes nothing, also
//! not its position: the rows of `prices` keep the same rule, so a table loaded from them equals one that followed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{Days, NaiveDate};
use rust_decimal::Decimal;

use crate::domain::asset::{AssetClass, base_of_pair};
use crate::domain::currency::Currency;
use crate::domain::exact;
use crate::domain::ids::{AssetId, Position};
use crate::domain::money::{Price, Rate};
use crate::domain::price::{Close, PriceVoided};
use crate::domain::price_table::PriceTable;

/// How many days a close speaks for.
const DAYS_MAX: u64 = 7;

/// Closes of currency pairs, by source and day.
#[derive(Debug, Default)]
pub(super) struct DayRates {
    closes: HashMap<AssetId, HashMap<Arc<str>, BTreeMap<NaiveDate, DayClose>>>,
    pairs: HashMap<(Currency, Currency), AssetId>,
}

#[derive(Debug, Clone, Copy)]
struct DayClose {
    price: Price,
    position: Position,
}

/// A rate and the last event that it was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayRate {
    /// Units of the currency asked for, for one unit of the other.
    pub rate: Rate,
    /// The last event used.
    pub position: Position,
}

impl DayRates {
    /// Learns which assets are pairs; to be called whenever one is listed or renamed.
    pub(super) fn name_pairs(&mut self, table: &PriceTable) {
        let pairs = table.assets().filter(|asset| asset.class == AssetClass::Fx);
        self.pairs = pairs
            .filter_map(|asset| {
                let base = base_of_pair(&asset.symbol, &asset.currency)?;
                Some(((base, asset.currency.clone()), asset.asset_id))
            })
            .collect();
    }

    /// Takes in a close; whether it is news.
    pub(super) fn observe(
        &mut self,
        asset_id: AssetId,
        source: &str,
        close: &Close,
        position: Position,
    ) -> bool {
        let days = self.closes.entry(asset_id).or_default().entry(source.into()).or_default();
        let is_news = days.get(&close.day).is_none_or(|known| known.price != close.price);
        if is_news {
            days.insert(close.day, DayClose { price: close.price, position });
        }
        is_news
    }

    /// Takes a close back; whether there was one.
    pub(super) fn void(&mut self, voided: &PriceVoided) -> bool {
        let Some(day) = voided.day else { return false };
        let sources = self.closes.get_mut(&voided.asset_id);
        let days = sources.and_then(|sources| sources.get_mut(voided.source.as_str()));
        days.is_some_and(|days| days.remove(&day).is_some())
    }

    /// Units of `to` for one unit of `from` on a day; `None` if there is no way from one to the other.
    pub(super) fn rate(
        &self,
        table: &PriceTable,
        from: &Currency,
        to: &Currency,
        day: NaiveDate,
    ) -> Option<DayRate> {
        if from == to {
            return Some(DayRate { rate: Rate::ONE, position: Position(0) });
        }
        let through = |via: Currency| {
            if via == *from || via == *to {
                return None;
            }
            let (first, second) = (self.pair(table, from, &via, day)?, self.pair(table, &via, to, day)?);
            let rate = positive(exact::product(first.rate.decimal(), second.rate.decimal())?)?;
            Some(DayRate { rate, position: first.position.max(second.position) })
        };
        self.pair(table, from, to, day)
            .or_else(|| through(Currency::usd()))
            .or_else(|| through(Currency::eur()))
    }

    fn pair(&self, table: &PriceTable, from: &Currency, to: &Currency, day: NaiveDate) -> Option<DayRate> {
        self.direct(table, from, to, day).or_else(|| {
            let back = self.direct(table, to, from, day)?;
            let rate = positive(exact::quotient(Decimal::ONE, back.rate.decimal())?)?;
            Some(DayRate { rate, ..back })
        })
    }

    fn direct(&self, table: &PriceTable, from: &Currency, to: &Currency, day: NaiveDate) -> Option<DayRate> {
        let asset = table.asset(*self.pairs.get(&(from.clone(), to.clone()))?)?;
        let closes = self.closes.get(&asset.asset_id)?;
        let first = day.checked_sub_days(Days::new(DAYS_MAX)).unwrap_or(NaiveDate::MIN);
        let close = asset.sources.iter().find_map(|source| {
            let (_, close) = closes.get(&source.source)?.range(first..=day).next_back()?;
            Some(*close)
        })?;
        let rate = positive(exact::product(close.price.decimal(), asset.quote_unit.decimal())?)?;
        Some(DayRate { rate, position: close.position })
    }
}

/// A rate too small for ten decimals is no rate.
fn positive(rate: Decimal) -> Option<Rate> {
    (rate > Decimal::ZERO).then(|| Rate::from_decimal(rate))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::asset::{AssetEvent, AssetListed};
    use crate::domain::price::{ClosesObserved, PriceEvent};

    fn day(day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 1, day).unwrap()
    }

    fn currency(code: &str) -> Currency {
        code.parse().unwrap()
    }

    /// EURUSD closed at 1.25 on the 10th.
    fn table() -> (PriceTable, DayRates) {
        let asset_id = AssetId(Uuid::from_u128(1));
        let mut table = PriceTable::new();
        let listed = AssetListed {
            asset_id,
            symbol: "EURUSD".parse().unwrap(),
            name: "Euro".into(),
            class: AssetClass::Fx,
            currency: Currency::usd(),
            quote_unit: Rate::ONE,
            isin: None,
            exchange: None,
        };
        table.apply_asset(Position(1), &AssetEvent::AssetListed(listed));
        let close = Close { day: day(10), price: "1.25".parse().unwrap(), volume: None };
        let observed = ClosesObserved {
            asset_id,
            source: "ecb".into(),
            currency: Currency::usd(),
            closes: vec![close.clone()],
        };
        table.apply_prices(Position(2), &PriceEvent::ClosesObserved(observed));
        let mut rates = DayRates::default();
        rates.name_pairs(&table);
        assert!(rates.observe(asset_id, "ecb", &close, Position(2)));
        assert!(!rates.observe(asset_id, "ecb", &close, Position(3)), "an equal close is no news");
        (table, rates)
    }

    #[test]
    fn a_close_speaks_for_its_day_and_seven_more_and_never_for_an_earlier_one() {
        let (table, rates) = table();
        let on =
            |d| rates.rate(&table, &currency("EUR"), &currency("USD"), day(d)).map(|it| it.rate.to_string());
        assert_eq!(on(9), None);
        assert_eq!(on(10).as_deref(), Some("1.25"));
        assert_eq!(on(17).as_deref(), Some("1.25"));
        assert_eq!(on(18), None);
    }

    #[test]
    fn the_other_way_round_is_one_by_the_rate() {
        let (table, rates) = table();
        let back = rates.rate(&table, &currency("USD"), &currency("EUR"), day(11)).unwrap();
        assert_eq!((back.rate.to_string().as_str(), back.position), ("0.8", Position(2)));
    }
}
