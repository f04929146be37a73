//! Live exchange rates: prices of assets of class `fx`, alone, turned round, or through one other currency.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::PriceTable;
use crate::domain::currency::Currency;
use crate::domain::exact;
use crate::domain::ids::Position;
use crate::domain::money::Rate;

/// How many units of one currency are given for one of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveRate {
    /// Units of the currency asked for, for one unit of the other; rounded half-even to 10 decimals.
    pub rate: Rate,
    /// How it was found.
    pub path: RatePath,
    /// The oldest instant used; none where both currencies are the same.
    pub at: Option<DateTime<Utc>>,
    /// The last event that changed a price used; 0 where both currencies are the same.
    pub position: Position,
}

/// How a rate was found, in the order in which it is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RatePath {
    /// Both currencies are the same.
    Same,
    /// The price of the pair.
    Direct,
    /// One by the price of the pair the other way round.
    Inverse,
    /// The product of two rates, with US dollars between.
    ThroughUsd,
    /// The product of two rates, with euros between.
    ThroughEur,
}

impl PriceTable {
    /// Units of `to` for one unit of `from`; `None` if there is no way from one to the other.
    pub fn rate(&self, from: &Currency, to: &Currency) -> Option<LiveRate> {
        if from == to {
            return Some(LiveRate { rate: Rate::ONE, path: RatePath::Same, at: None, position: Position(0) });
        }
        self.pair(from, to)
            .or_else(|| self.through(&Currency::usd(), RatePath::ThroughUsd, from, to))
            .or_else(|| self.through(&Currency::eur(), RatePath::ThroughEur, from, to))
    }

    fn pair(&self, from: &Currency, to: &Currency) -> Option<LiveRate> {
        self.direct(from, to).or_else(|| {
            let back = self.direct(to, from)?;
            let rate = positive(exact::quotient(Decimal::ONE, back.rate.decimal())?)?;
            Some(LiveRate { rate, path: RatePath::Inverse, ..back })
        })
    }

    fn direct(&self, from: &Currency, to: &Currency) -> Option<LiveRate> {
        let asset = self.assets.get(self.pairs.get(&(from.clone(), to.clone()))?)?;
        let live = asset.live()?;
        let rate = positive(exact::product(live.price.decimal(), asset.quote_unit.decimal())?)?;
        Some(LiveRate { rate, path: RatePath::Direct, at: Some(live.at), position: live.position })
    }

    fn through(&self, via: &Currency, path: RatePath, from: &Currency, to: &Currency) -> Option<LiveRate> {
        if via == from || via == to {
            return None;
        }
        let (first, second) = (self.pair(from, via)?, self.pair(via, to)?);
        let rate = positive(exact::product(first.rate.decimal(), second.rate.decimal())?)?;
        let position = first.position.max(second.position);
        Some(LiveRate { rate, path, at: first.at.min(second.at), position })
    }
}

/// A rate too small for ten decimals is no rate: it would make a holding worth nothing.
fn positive(rate: Decimal) -> Option<Rate> {
    (rate > Decimal::ZERO).then(|| Rate::from_decimal(rate))
}

impl RatePath {
    /// The path as it is stored and answered.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Direct => "direct",
            Self::Inverse => "inverse",
            Self::ThroughUsd => "through_usd",
            Self::ThroughEur => "through_eur",
        }
    }
}
