//! The live prices of every asset: a fold over the market's one total order, kept in memory.
//!
//! The prices projector, valuations and risk hold the same table, so "as of which price" is one position. What
//! an asset's [`live`](AssetPrices::live) price is depends on its events alone, never on the clock: time only adds
//! an age when an answer is written. Older closes are not kept here; they stand in the read model.

mod asset_prices;
mod rates;

use std::collections::BTreeMap;

use chrono::{NaiveDate, TimeDelta};

use super::asset::{AssetClass, AssetEvent, base_of_pair};
use super::currency::{Currency, Symbol};
use super::ids::{AssetId, Position};
use super::price::{Close, PriceEvent};

pub use asset_prices::{AssetPrices, LastClose, LastTick, LivePrice, PriceKind, SourcePrices};
pub use rates::{LiveRate, RatePath};

/// How far a source's newest tick may lie behind the asset's newest tick of any source and still be believed for
/// the source's rank. Beyond that, a lower source speaks.
pub const STALE_AFTER: TimeDelta = TimeDelta::minutes(15);

/// The live prices of every asset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PriceTable {
    assets: BTreeMap<AssetId, AssetPrices>,
    /// Assets of class `fx` by the currency priced and the currency it is priced in.
    pairs: BTreeMap<(Currency, Currency), AssetId>,
}

/// What an event changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changed {
    /// The asset is new here, or its live price is another (its value, its time or where it is from).
    pub live: bool,
    /// The closes to write, one a day, by day: the last of the event for each. Closes that the table knows to be
    /// the same are left out; of days before the latest it cannot know, and of volumes it knows nothing.
    pub closes: Vec<Close>,
}

impl PriceTable {
    /// A table without assets.
    pub fn new() -> Self {
        Self::default()
    }

    /// The table as it was stored.
    pub fn restore(assets: impl IntoIterator<Item = AssetPrices>) -> Self {
        let mut table = Self::new();
        for asset in assets {
            table.name_pair(&asset);
            table.assets.insert(asset.asset_id, asset.in_order());
        }
        table
    }

    /// Takes in the event of an asset or symbol at `position`.
    pub fn apply_asset(&mut self, position: Position, event: &AssetEvent) -> Changed {
        let live = match event {
            AssetEvent::AssetListed(listed) => {
                let asset = AssetPrices::listed(position, listed);
                self.name_pair(&asset);
                self.assets.insert(asset.asset_id, asset);
                true
            }
            AssetEvent::AssetRenamed(renamed) => self.rename(renamed.asset_id, position, &renamed.symbol),
            AssetEvent::PriceSourcesRanked(ranked) => {
                self.change(ranked.asset_id, position, |asset| asset.rank(&ranked.sources))
            }
            AssetEvent::SymbolClaimed(_)
            | AssetEvent::AssetDelisted(_)
            | AssetEvent::SplitDeclared(_)
            | AssetEvent::EarningsReported(_) => false,
        };
        Changed { live, closes: Vec::new() }
    }

    /// Takes in the prices at `position`.
    ///
    /// A price that was taken back leaves its source without a tick, or without a close, until the next one comes:
    /// what was there before it is not remembered here.
    pub fn apply_prices(&mut self, position: Position, event: &PriceEvent) -> Changed {
        let closes = match event {
            PriceEvent::ClosesObserved(observed) => {
                let known = self.assets.get(&observed.asset_id).and_then(|a| a.source(&observed.source));
                closes_to_write(&observed.closes, known.and_then(|source| source.close.as_ref()))
            }
            PriceEvent::PricesObserved(_) | PriceEvent::PriceVoided(_) => Vec::new(),
        };
        let live = self.change(event.asset_id(), position, |asset| match event {
            PriceEvent::PricesObserved(observed) => asset.observe_ticks(position, observed),
            PriceEvent::ClosesObserved(observed) => asset.observe_closes(position, observed),
            PriceEvent::PriceVoided(voided) => asset.void(voided),
        });
        Changed { live, closes }
    }

    /// What is known of an asset.
    pub fn asset(&self, asset_id: AssetId) -> Option<&AssetPrices> {
        self.assets.get(&asset_id)
    }

    /// Every asset, by id.
    pub fn assets(&self) -> impl Iterator<Item = &AssetPrices> {
        self.assets.values()
    }

    /// The live price of an asset; `None` if there is none.
    pub fn live(&self, asset_id: AssetId) -> Option<LivePrice> {
        self.assets.get(&asset_id)?.live()
    }

    /// Changes an asset, and its position if its live price is another after that. One order holds listings and
    /// prices, so an asset is known before its prices; what is not known is left alone.
    fn change(
        &mut self,
        asset_id: AssetId,
        position: Position,
        change: impl FnOnce(&mut AssetPrices),
    ) -> bool {
        let Some(asset) = self.assets.get_mut(&asset_id) else {
            return false;
        };
        let before = asset.live();
        change(asset);
        let changed = asset.live() != before;
        if changed {
            asset.position = position;
        }
        changed
    }

    /// A symbol changes a live state only where it names a pair of currencies.
    fn rename(&mut self, asset_id: AssetId, position: Position, symbol: &Symbol) -> bool {
        let Some(asset) = self.assets.get_mut(&asset_id) else {
            return false;
        };
        asset.symbol = symbol.clone();
        if asset.class != AssetClass::Fx {
            return false;
        }
        asset.position = position;
        let renamed = asset.clone();
        self.pairs.retain(|_, named| *named != asset_id);
        self.name_pair(&renamed);
        true
    }

    fn name_pair(&mut self, asset: &AssetPrices) {
        if asset.class == AssetClass::Fx
            && let Some(base) = base_of_pair(&asset.symbol, &asset.currency)
        {
            self.pairs.insert((base, asset.currency.clone()), asset.asset_id);
        }
    }
}

fn closes_to_write(closes: &[Close], known: Option<&LastClose>) -> Vec<Close> {
    let by_day: BTreeMap<NaiveDate, &Close> = closes.iter().map(|close| (close.day, close)).collect();
    let is_known = |close: &Close| {
        close.volume.is_none() && known.is_some_and(|k| k.day == close.day && k.price == close.price)
    };
    by_day.into_values().filter(|close| !is_known(close)).cloned().collect()
}

#[cfg(test)]
mod tests;
