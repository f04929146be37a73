//! Assets, symbols and prices as events tell them, and which price and rate is live.
//!
//! | question | answer |
//! | --- | --- |
//! | newest tick of a source | greatest instant; of equal instants the last price that differs |
//! | close of a day | the last price that differs; of a day that one event names twice, its last |
//! | live price | newest tick of the best-ranked source at most 15 minutes behind the newest of any; or the best-ranked source's close of the newest day, if that day ends later |
//! | rate | direct, inverse, through USD, through EUR; each step rounded; one that rounds to nothing is none |
//! | rate of a day | the same from closes: the last on or before it, at most 7 days old, of the best source that has one |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};

use super::earnings::{Earnings, quarter};
use super::held::Held;
use super::payload::{Payload, Unreadable};
use super::reference::require_id;
use super::units::Units;
use crate::events::Envelope;

/// How far a source may lie behind before it is passed over.
const STALE_AFTER: TimeDelta = TimeDelta::minutes(15);

/// Everything about assets.
#[derive(Debug, Clone, Default)]
pub struct Market {
    /// By id. Shared between the markets of several moments as long as nothing changes.
    pub assets: BTreeMap<String, Arc<Asset>>,
    /// Those that are a rate of exchange.
    pub pairs: BTreeSet<String>,
    /// Every symbol ever claimed: asset and position of the claim.
    pub symbols: BTreeMap<String, (String, i64)>,
}

/// An asset and its prices.
#[derive(Debug, Clone)]
pub struct Asset {
    /// Today's.
    pub symbol: String,
    /// What it is called.
    pub name: String,
    /// As in the payload: `equity`, `fx`, …
    pub class: String,
    /// What it is quoted in.
    pub currency: String,
    /// Units of the currency in one unit of the price.
    pub quote_unit: Units,
    /// If told.
    pub isin: Option<String>,
    /// If told.
    pub exchange: Option<String>,
    /// When the log took the listing.
    pub listed_at: DateTime<Utc>,
    /// Last day of trading.
    pub delisted_on: Option<String>,
    /// What it was worth at last.
    pub final_price: Option<Units>,
    /// Of the asset's stream.
    pub version: i64,
    /// Of the asset's stream.
    pub position: i64,
    /// Ranked sources, the most believed first, and how each series is adjusted.
    pub ranking: Vec<(String, String)>,
    /// By name.
    pub sources: BTreeMap<String, Source>,
    /// Prices that wait for a word, or have had it; by id.
    pub held: BTreeMap<String, Held>,
    /// The last report of each quarter, by `YYYY-Qn`.
    pub earnings: BTreeMap<String, Earnings>,
    /// The last event that changed the live price; at first the listing.
    pub live_position: i64,
    /// The listing.
    pub listed_position: i64,
    /// The last event of any kind.
    pub touched: i64,
}

/// The prices of one source.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The first event that named it.
    pub first_used: i64,
    /// The newest; none from when it was taken back until the next one comes.
    pub tick: Option<Tick>,
    /// The day of the newest close; none from when that was taken back until the next one comes.
    pub close_day: Option<String>,
    /// Every close, by day, `YYYY-MM-DD`.
    pub closes: BTreeMap<String, Close>,
}

/// A price at an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// When.
    pub at: DateTime<Utc>,
    /// In quote units.
    pub price: Units,
    /// If told.
    pub volume: Option<Units>,
    /// Of the event.
    pub position: i64,
}

/// The price at the end of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// In quote units.
    pub price: Units,
    /// If told.
    pub volume: Option<Units>,
    /// Of the event.
    pub position: i64,
}

/// The price that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// In quote units.
    pub price: Units,
    /// When; a close lies at the end of its day, UTC.
    pub at: DateTime<Utc>,
    /// The day, of a close.
    pub day: Option<String>,
    /// Whose.
    pub source: String,
}

/// Units of one currency for one of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// The rate.
    pub rate: Units,
    /// `same`, `direct`, `inverse`, `through_usd` or `through_eur`.
    pub path: &'static str,
    /// The last event that it leans on; 0 for none.
    pub position: i64,
}

impl Market {
    /// Takes in the next event of an asset, a symbol or prices.
    ///
    /// # Errors
    /// [`Unreadable`]: it cannot be what the log holds at this place.
    pub(super) fn take(&mut self, event: &Envelope, payload: &Payload) -> Result<(), Unreadable> {
        let stream = event.stream_id.as_str();
        if let Some(symbol) = stream.strip_prefix("symbol:") {
            require_id(payload, "symbol", symbol)?;
            let claim = (payload.text("asset_id")?, event.position.0);
            return match self.symbols.insert(symbol.to_owned(), claim) {
                None => Ok(()),
                Some((owner, _)) => Err(Unreadable(format!("claims a symbol that names {owner}"))),
            };
        }
        if let Some(id) = stream.strip_prefix("held-") {
            require_id(payload, "held_id", id)?;
            let asset_id = payload.text("asset_id")?;
            let asset = self.assets.get_mut(&asset_id);
            let asset = asset.ok_or_else(|| Unreadable(format!("is about the unknown asset {asset_id}")))?;
            return Held::take(&mut Arc::make_mut(asset).held, id, event, payload);
        }
        let id = stream.strip_prefix("asset-").or_else(|| stream.strip_prefix("price-"));
        let id = id.ok_or_else(|| Unreadable(format!("stands in an unknown kind of stream, {stream}")))?;
        require_id(payload, "asset_id", id)?;
        if &*event.event_type == "AssetListed" {
            let listed = Asset::listed(event, payload)?;
            if listed.class == "fx" {
                self.pairs.insert(id.to_owned());
            }
            return match self.assets.insert(id.to_owned(), Arc::new(listed)) {
                None => Ok(()),
                Some(_) => Err(Unreadable("lists an asset again".to_owned())),
            };
        }
        let asset = self.assets.get_mut(id);
        let asset = asset.ok_or_else(|| Unreadable(format!("is about the unknown asset {id}")))?;
        let asset = Arc::make_mut(asset);
        asset.touched = event.position.0;
        let before = asset.live();
        asset.take(event, payload)?;
        if asset.live() != before || (&*event.event_type == "AssetRenamed" && asset.class == "fx") {
            asset.live_position = event.position.0;
        }
        Ok(())
    }

    /// Units of `to` for one of `from`, live.
    pub fn rate(&self, from: &str, to: &str) -> Option<Rate> {
        self.way(from, to, |asset| Some((asset.live()?.price, asset.live_position)))
    }

    /// Units of `to` for one of `from` on a past day.
    pub fn rate_of_day(&self, from: &str, to: &str, day: &str) -> Option<Rate> {
        self.way(from, to, |asset| asset.close_for(day))
    }

    /// What live prices of these assets and live rates are made from, without the closes of past days. What has not changed
    /// since it was asked for last is shared.
    pub fn prices_of(&self, assets: &BTreeSet<String>, known: &mut BTreeMap<String, Arc<Asset>>) -> Self {
        let mut slim = |id: &String| {
            let asset = self.assets.get(id)?;
            let shared = known.get(id).filter(|known| known.touched == asset.touched);
            let slim = match shared {
                Some(known) => Arc::clone(known),
                None => Arc::new(asset.with_newest_closes()),
            };
            known.insert(id.clone(), Arc::clone(&slim));
            Some((id.clone(), slim))
        };
        let assets = assets.union(&self.pairs).filter_map(&mut slim).collect();
        Self { assets, pairs: self.pairs.clone(), symbols: BTreeMap::new() }
    }

    /// Finds a way from one currency to another, by a price of each pair and the position it is from.
    fn way(&self, from: &str, to: &str, price: impl Fn(&Asset) -> Option<(Units, i64)>) -> Option<Rate> {
        let quoted = |from: &str, to: &str| {
            let symbol = format!("{from}{to}");
            let names_pair = |asset: &&Arc<Asset>| asset.currency == to && asset.symbol == symbol;
            let pair = self.pairs.iter().filter_map(|id| self.assets.get(id)).find(names_pair)?;
            let (price, position) = price(pair)?;
            Some((price.times(pair.quote_unit).filter(|rate| !rate.is_zero())?, position))
        };
        let pair = |from: &str, to: &str| match quoted(from, to) {
            Some((rate, position)) => Some(Rate { rate, path: "direct", position }),
            None => {
                let (back, position) = quoted(to, from)?;
                let rate = Units::ONE.over(back).filter(|rate| !rate.is_zero())?;
                Some(Rate { rate, path: "inverse", position })
            }
        };
        let through = |via: &str, path| {
            if via == from || via == to {
                return None;
            }
            let (first, second) = (pair(from, via)?, pair(via, to)?);
            let rate = first.rate.times(second.rate).filter(|rate| !rate.is_zero())?;
            Some(Rate { rate, path, position: first.position.max(second.position) })
        };
        if from == to {
            return Some(Rate { rate: Units::ONE, path: "same", position: 0 });
        }
        pair(from, to).or_else(|| through("USD", "through_usd")).or_else(|| through("EUR", "through_eur"))
    }
}

impl Asset {
    /// The price that is believed now.
    pub fn live(&self) -> Option<Live> {
        let (tick, close) = (self.live_tick(), self.live_close());
        match (&tick, &close) {
            (Some(tick), Some(close)) if close.at > tick.at => Some(close.clone()),
            (None, _) => close,
            _ => tick,
        }
    }

    /// Sources in the order in which they are believed: ranked ones, then those of first use.
    pub fn believed(&self) -> Vec<&str> {
        let mut names: Vec<&String> = self.sources.keys().collect();
        names.sort_by_key(|name| {
            let rank = self.ranking.iter().position(|(ranked, _)| ranked == *name);
            (rank.is_none(), rank, self.sources[*name].first_used)
        });
        names.into_iter().map(String::as_str).collect()
    }

    fn live_tick(&self) -> Option<Live> {
        let newest =
            self.sources.values().filter_map(|source| source.tick.as_ref()).map(|tick| tick.at).max()?;
        self.believed().into_iter().find_map(|name| {
            let tick = self.sources[name].tick.as_ref()?;
            let is_fresh = newest.signed_duration_since(tick.at) <= STALE_AFTER;
            is_fresh.then(|| Live { price: tick.price, at: tick.at, day: None, source: name.to_owned() })
        })
    }

    fn live_close(&self) -> Option<Live> {
        let newest = self.sources.values().filter_map(|source| source.close_day.as_ref()).max()?;
        self.believed().into_iter().find_map(|name| {
            let (day, close) = self.sources[name].newest_close()?;
            if day != newest {
                return None;
            }
            let at = end_of(newest)?;
            Some(Live { price: close.price, at, day: Some(newest.clone()), source: name.to_owned() })
        })
    }

    fn with_newest_closes(&self) -> Self {
        let slim = |(name, source): (&String, &Source)| {
            let newest = source.newest_close().map(|(day, close)| (day.clone(), close.clone()));
            let (tick, close_day) = (source.tick.clone(), source.close_day.clone());
            let closes = newest.into_iter().collect();
            (name.clone(), Source { first_used: source.first_used, tick, close_day, closes })
        };
        Self {
            symbol: self.symbol.clone(),
            name: self.name.clone(),
            class: self.class.clone(),
            currency: self.currency.clone(),
            isin: self.isin.clone(),
            exchange: self.exchange.clone(),
            delisted_on: self.delisted_on.clone(),
            ranking: self.ranking.clone(),
            sources: self.sources.iter().map(slim).collect(),
            held: BTreeMap::new(),
            earnings: BTreeMap::new(),
            ..*self
        }
    }

    /// The close that speaks for a day, and its position.
    fn close_for(&self, day: &str) -> Option<(Units, i64)> {
        let last: NaiveDate = day.parse().ok()?;
        let first = last.checked_sub_days(Days::new(7))?.to_string();
        self.believed().into_iter().find_map(|name| {
            let days = self.sources[name].closes.range(first.clone()..=day.to_owned());
            days.last().map(|(_, close)| (close.price, close.position))
        })
    }

    fn listed(event: &Envelope, payload: &Payload) -> Result<Self, Unreadable> {
        Ok(Self {
            symbol: payload.text("symbol")?,
            name: payload.text("name")?,
            class: payload.text("class")?,
            currency: payload.text("currency")?,
            quote_unit: payload.units("quote_unit")?,
            isin: payload.optional_text("isin")?,
            exchange: payload.optional_text("exchange")?,
            listed_at: event.recorded_at,
            delisted_on: None,
            final_price: None,
            version: event.version.0,
            position: event.position.0,
            ranking: Vec::new(),
            sources: BTreeMap::new(),
            held: BTreeMap::new(),
            earnings: BTreeMap::new(),
            live_position: event.position.0,
            listed_position: event.position.0,
            touched: event.position.0,
        })
    }

    fn take(&mut self, event: &Envelope, payload: &Payload) -> Result<(), Unreadable> {
        let position = event.position.0;
        if event.stream_id.as_str().starts_with("asset-") {
            self.version = event.version.0;
            self.position = position;
        }
        match &*event.event_type {
            "AssetRenamed" => self.symbol = payload.text("symbol")?,
            "AssetDelisted" => {
                self.delisted_on = Some(payload.text("date")?);
                self.final_price = payload.optional_units("final_price")?.or(self.final_price);
            }
            "SplitDeclared" => {}
            "EarningsReported" => {
                self.earnings.insert(quarter(payload)?, Earnings::reported(event, payload)?);
            }
            "PriceSourcesRanked" => {
                let named = |ranked: &Payload| Ok((ranked.text("source")?, ranked.text("adjustment")?));
                self.ranking = payload.list("sources")?.iter().map(named).collect::<Result<_, _>>()?;
            }
            "PricesObserved" => {
                self.require_currency(payload)?;
                let source = self.source(position, payload.text("source")?);
                for tick in payload.list("ticks")? {
                    source.see_tick(Tick {
                        at: tick.instant("at")?,
                        price: tick.units("price")?,
                        volume: tick.optional_units("volume")?,
                        position,
                    });
                }
            }
            "ClosesObserved" => {
                self.require_currency(payload)?;
                let mut last_of_day = BTreeMap::new();
                for close in payload.list("closes")? {
                    let (price, volume) = (close.units("price")?, close.optional_units("volume")?);
                    last_of_day.insert(close.text("day")?, Close { price, volume, position });
                }
                let source = self.source(position, payload.text("source")?);
                for (day, close) in last_of_day {
                    source.see_close(day, close);
                }
            }
            "PriceVoided" => {
                if let Some(source) = self.sources.get_mut(&payload.text("source")?) {
                    let (at, day) = (payload.optional_instant("at")?, payload.optional_text("day")?);
                    source.tick = source.tick.take().filter(|tick| Some(tick.at) != at);
                    source.close_day = source.close_day.take().filter(|known| Some(known) != day.as_ref());
                    source.closes.retain(|known, _| Some(known) != day.as_ref());
                }
            }
            other => return Err(Unreadable(format!("{other} does not belong into {}", event.stream_id))),
        }
        Ok(())
    }

    fn source(&mut self, position: i64, name: String) -> &mut Source {
        self.sources.entry(name).or_insert_with(|| Source { first_used: position, ..Source::default() })
    }

    fn require_currency(&self, payload: &Payload) -> Result<(), Unreadable> {
        let currency = payload.text("currency")?;
        if currency == self.currency {
            return Ok(());
        }
        Err(Unreadable(format!("is in {currency}, and the asset in {}", self.currency)))
    }
}

impl Live {
    /// `tick` or `close`.
    pub fn kind(&self) -> &'static str {
        if self.day.is_some() { "close" } else { "tick" }
    }
}

impl Source {
    /// The newest close and its day.
    pub fn newest_close(&self) -> Option<(&String, &Close)> {
        self.closes.get_key_value(self.close_day.as_ref()?)
    }

    fn see_tick(&mut self, new: Tick) {
        let is_known = self
            .tick
            .as_ref()
            .is_some_and(|known| new.at < known.at || (new.at == known.at && new.price == known.price));
        if !is_known {
            self.tick = Some(new);
        }
    }

    fn see_close(&mut self, day: String, new: Close) {
        if self.close_day.as_ref().is_none_or(|newest| *newest < day) {
            self.close_day = Some(day.clone());
        }
        match self.closes.get_mut(&day) {
            // The same price; only its volume may be news.
            Some(known) if known.price == new.price => {
                if new.volume.is_some() {
                    known.volume = new.volume;
                }
            }
            _ => {
                self.closes.insert(day, new);
            }
        }
    }
}

/// Midnight after the day, UTC.
fn end_of(day: &str) -> Option<DateTime<Utc>> {
    let day: NaiveDate = day.parse().ok()?;
    Some(day.checked_add_days(Days::new(1))?.and_time(NaiveTime::MIN).and_utc())
}
