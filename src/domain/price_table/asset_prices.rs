//! One asset's live prices: the latest tick and close of each source, and which of them is believed.

use std::cmp::Ordering;
use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};

use super::STALE_AFTER;
use crate::domain::asset::{AssetClass, AssetListed, RankedSource};
use crate::domain::currency::{Currency, Symbol};
use crate::domain::ids::{AssetId, Position};
use crate::domain::money::{Price, Rate};
use crate::domain::price::{ClosesObserved, PriceVoided, PricesObserved};

/// One asset in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetPrices {
    /// The asset.
    pub asset_id: AssetId,
    /// Its symbol today.
    pub symbol: Symbol,
    /// Its class.
    pub class: AssetClass,
    /// The currency it is quoted and paid in.
    pub currency: Currency,
    /// Units of the currency in one unit of the price.
    pub quote_unit: Rate,
    /// The ranked sources, the most believed first.
    pub ranking: Vec<RankedSource>,
    /// The sources used so far: the ranked in their order, then the others in order of first use.
    pub sources: Vec<SourcePrices>,
    /// The last event that changed the live price; at first the listing.
    pub position: Position,
}

/// The latest prices of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePrices {
    /// The source.
    pub source: Arc<str>,
    /// The event that used it first.
    pub first_used: Position,
    /// The tick with the greatest instant; of equal ones the last to come.
    pub tick: Option<LastTick>,
    /// The close of the greatest day; of equal ones the last to come.
    pub close: Option<LastClose>,
}

/// A source's newest tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastTick {
    /// When.
    pub at: DateTime<Utc>,
    /// Price of one unit, in quote units.
    pub price: Price,
    /// The event that brought it.
    pub position: Position,
}

/// A source's newest close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastClose {
    /// The exchange's calendar day.
    pub day: NaiveDate,
    /// Price of one unit, in quote units.
    pub price: Price,
    /// The event that brought it.
    pub position: Position,
}

/// The price that is believed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePrice {
    /// Price of one unit, in quote units.
    pub price: Price,
    /// When; a close lies at the end of its day, UTC.
    pub at: DateTime<Utc>,
    /// What it is.
    pub kind: PriceKind,
    /// Where it is from.
    pub source: Arc<str>,
    /// The last event that changed this asset's live price.
    pub position: Position,
}

/// A tick or a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriceKind {
    /// A price at an instant.
    Tick,
    /// The closing price of a day.
    Close,
}

impl AssetPrices {
    /// The price that is believed: the newest tick of the best source that is not stale, or a later close.
    pub fn live(&self) -> Option<LivePrice> {
        match (self.live_tick(), self.live_close()) {
            (Some(tick), Some(close)) if close.at <= tick.at => Some(tick),
            (Some(tick), None) => Some(tick),
            (_, close) => close,
        }
    }

    /// The prices of one source.
    pub fn source(&self, source: &str) -> Option<&SourcePrices> {
        self.sources.iter().find(|used| *used.source == *source)
    }

    /// The best source's tick that is at most [`STALE_AFTER`] behind the newest of any source.
    fn live_tick(&self) -> Option<LivePrice> {
        let newest = self.sources.iter().filter_map(|source| source.tick).map(|tick| tick.at).max()?;
        let fresh = |tick: &LastTick| newest.signed_duration_since(tick.at) <= STALE_AFTER;
        self.sources.iter().find_map(|source| {
            let tick = source.tick.filter(fresh)?;
            Some(self.believe(source, PriceKind::Tick, tick.at, tick.price))
        })
    }

    /// The best source's close of the newest day of any source.
    fn live_close(&self) -> Option<LivePrice> {
        let newest = self.sources.iter().filter_map(|source| source.close).map(|close| close.day).max()?;
        self.sources.iter().find_map(|source| {
            let close = source.close.filter(|close| close.day == newest)?;
            Some(self.believe(source, PriceKind::Close, end_of_day(close.day), close.price))
        })
    }

    fn believe(&self, source: &SourcePrices, kind: PriceKind, at: DateTime<Utc>, price: Price) -> LivePrice {
        LivePrice { price, at, kind, source: Arc::clone(&source.source), position: self.position }
    }

    pub(super) fn listed(position: Position, listed: &AssetListed) -> Self {
        Self {
            asset_id: listed.asset_id,
            symbol: listed.symbol.clone(),
            class: listed.class,
            currency: listed.currency.clone(),
            quote_unit: listed.quote_unit,
            ranking: Vec::new(),
            sources: Vec::new(),
            position,
        }
    }

    pub(super) fn rank(&mut self, ranking: &[RankedSource]) {
        self.ranking = ranking.to_vec();
        self.sort_sources();
    }

    /// With its sources in the order in which they are believed.
    pub(super) fn in_order(mut self) -> Self {
        self.sort_sources();
        self
    }

    pub(super) fn observe_ticks(&mut self, position: Position, observed: &PricesObserved) {
        let source = self.use_source(position, &observed.source);
        for tick in &observed.ticks {
            // An equal price at the same instant is the same tick sent again.
            let is_news = source.tick.is_none_or(|last| match tick.at.cmp(&last.at) {
                Ordering::Less => false,
                Ordering::Equal => tick.price != last.price,
                Ordering::Greater => true,
            });
            if is_news {
                source.tick = Some(LastTick { at: tick.at, price: tick.price, position });
            }
        }
    }

    pub(super) fn observe_closes(&mut self, position: Position, observed: &ClosesObserved) {
        let source = self.use_source(position, &observed.source);
        for close in &observed.closes {
            let is_news = source.close.is_none_or(|last| match close.day.cmp(&last.day) {
                Ordering::Less => false,
                Ordering::Equal => close.price != last.price,
                Ordering::Greater => true,
            });
            if is_news {
                source.close = Some(LastClose { day: close.day, price: close.price, position });
            }
        }
    }

    pub(super) fn void(&mut self, voided: &PriceVoided) {
        let Some(source) = self.sources.iter_mut().find(|used| *used.source == *voided.source) else {
            return;
        };
        source.tick = source.tick.filter(|tick| Some(tick.at) != voided.at);
        source.close = source.close.filter(|close| Some(close.day) != voided.day);
    }

    fn use_source(&mut self, position: Position, source: &str) -> &mut SourcePrices {
        let index = self.sources.iter().position(|used| *used.source == *source).unwrap_or_else(|| {
            let first = SourcePrices { source: source.into(), first_used: position, tick: None, close: None };
            let key = self.belief(&first);
            let index = self.sources.partition_point(|used| self.belief(used) <= key);
            self.sources.insert(index, first);
            index
        });
        &mut self.sources[index]
    }

    fn sort_sources(&mut self) {
        let mut sources = std::mem::take(&mut self.sources);
        sources.sort_by_key(|source| self.belief(source));
        self.sources = sources;
    }

    /// Sorts the most believed first: by rank, then by first use.
    fn belief(&self, source: &SourcePrices) -> (usize, Position) {
        let rank = self.ranking.iter().position(|ranked| *ranked.source == *source.source);
        (rank.unwrap_or(usize::MAX), source.first_used)
    }
}

impl PriceKind {
    /// The kind as it is stored and answered.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::Close => "close",
        }
    }
}

/// Midnight after the day, UTC.
fn end_of_day(day: NaiveDate) -> DateTime<Utc> {
    day.checked_add_days(Days::new(1)).unwrap_or(day).and_time(NaiveTime::MIN).and_utc()
}
