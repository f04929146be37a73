//! What decisions about an asset need to know. Folds are total: they cannot fail and never check.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::earnings::Quarter;
use super::event::{Adjustment, AssetClass, AssetEvent, EarningsReported, RankedSource};
use crate::domain::currency::{Currency, Symbol};
use crate::domain::ids::AssetId;
use crate::domain::money::Rate;

/// An asset as its stream tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asset {
    listing: Option<Listing>,
    delisted: Option<NaiveDate>,
    ranking: Vec<RankedSource>,
    /// Every source that was ever ranked, with the adjustment first given: it never changes.
    declared: Vec<RankedSource>,
    earnings: BTreeMap<Quarter, EarningsReported>,
}

/// What an asset is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The asset.
    pub asset_id: AssetId,
    /// Its symbol today.
    pub symbol: Symbol,
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: AssetClass,
    /// The currency it is quoted and paid in.
    pub currency: Currency,
    /// Units of the currency in one unit of the price.
    pub quote_unit: Rate,
}

/// Which asset a symbol names: the state of a stream `symbol:X`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SymbolOwner(Option<AssetId>);

impl Asset {
    /// An asset without events.
    pub fn initial() -> Self {
        Self::default()
    }

    /// Takes in an event of the asset's stream.
    pub fn evolve(&mut self, event: &AssetEvent) {
        match event {
            AssetEvent::SymbolClaimed(_) => {}
            AssetEvent::AssetListed(listed) => {
                self.listing = Some(Listing {
                    asset_id: listed.asset_id,
                    symbol: listed.symbol.clone(),
                    name: listed.name.clone(),
                    class: listed.class,
                    currency: listed.currency.clone(),
                    quote_unit: listed.quote_unit,
                });
            }
            AssetEvent::AssetRenamed(renamed) => {
                if let Some(listing) = &mut self.listing {
                    listing.symbol = renamed.symbol.clone();
                }
            }
            AssetEvent::AssetDelisted(delisted) => self.delisted = Some(delisted.date),
            // Splits concern the ledgers that hold the asset, not what may be done to the asset.
            AssetEvent::SplitDeclared(_) => {}
            AssetEvent::PriceSourcesRanked(ranked) => {
                self.ranking.clone_from(&ranked.sources);
                for source in &ranked.sources {
                    if self.adjustment(&source.source).is_none() {
                        self.declared.push(source.clone());
                    }
                }
            }
            AssetEvent::EarningsReported(reported) => {
                self.earnings.insert(reported.quarter, reported.clone());
            }
        }
    }

    /// What it is; `None` while there is no such asset.
    pub fn listing(&self) -> Option<&Listing> {
        self.listing.as_ref()
    }

    /// The last day of trading, if it is delisted.
    pub fn delisted(&self) -> Option<NaiveDate> {
        self.delisted
    }

    /// The ranked sources, the most believed first.
    pub fn ranking(&self) -> &[RankedSource] {
        &self.ranking
    }

    /// What is believed of a quarter, if it was reported.
    pub fn earnings(&self, quarter: Quarter) -> Option<&EarningsReported> {
        self.earnings.get(&quarter)
    }

    /// The adjustment that was declared for a source, if one was.
    pub fn adjustment(&self, source: &str) -> Option<Adjustment> {
        self.declared.iter().find(|declared| declared.source == source).map(|declared| declared.adjustment)
    }
}

impl SymbolOwner {
    /// A symbol that nobody has claimed.
    pub fn initial() -> Self {
        Self::default()
    }

    /// Takes in an event of the symbol's stream.
    pub fn evolve(&mut self, event: &AssetEvent) {
        if let AssetEvent::SymbolClaimed(claimed) = event {
            self.0 = Some(claimed.asset_id);
        }
    }

    /// The asset it names.
    pub fn asset_id(self) -> Option<AssetId> {
        self.0
    }
}
