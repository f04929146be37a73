//! The market as a reader holds it: live prices of every asset, and closes of currency pairs.
//!
//! Loaded from the rows of `prices` and their checkpoint in one snapshot, then following shard 32 by a feed of its own:
//! no group, no checkpoint, every process reads all of it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use sqlx::PgPool;

use super::day_rates::{DayRate, DayRates};
use crate::domain::asset::{AssetClass, AssetEvent};
use crate::domain::currency::Currency;
use crate::domain::ids::{AssetId, Epoch, MARKET_SHARD, Position};
use crate::domain::money::Price;
use crate::domain::price::{Close, PriceEvent};
use crate::domain::price_table::{LiveRate, PriceTable};
use crate::event_store::{Place, read};
use crate::events::{Envelope, Event};
use crate::feed::{Feed, FeedItem, Mode, Source, Subscription, Topics};
use crate::projectors::{Error, prices, schema};

/// How many market events a batch takes at most.
const BATCH_EVENTS_MAX: usize = 1_000;

/// Live prices and rates of past days, as of one market position.
#[derive(Debug)]
pub struct Market {
    table: PriceTable,
    day_rates: DayRates,
    /// None where the market is only looked at, for a rebuild.
    feed: Option<Feed>,
    /// The feed waits to be told where to go on.
    assigned: bool,
    place: Place,
    scanned_to: Position,
    closes_position: Position,
    read_model: &'static str,
}

/// What a batch of market events changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// Assets whose live price is another.
    pub assets: BTreeSet<AssetId>,
    /// A live exchange rate may be another.
    pub rates: bool,
    /// A rate of a past day is another.
    pub day_rates: bool,
    /// There was an event at all.
    pub any: bool,
}

impl Market {
    /// Loads the market as `prices` has it, and follows it from there.
    pub(super) async fn open(
        source: &Source,
        pool: &PgPool,
        read_model: &'static str,
    ) -> Result<Self, Error> {
        let subscription = Subscription {
            name: format!("market.{read_model}"),
            topics: Topics::Market,
            mode: Mode::Manual,
            batch_events_max: BATCH_EVENTS_MAX,
        };
        let feed = Feed::open(source, subscription).await;
        let feed = feed.map_err(|source| Error::Feed { read_model, source })?;
        Ok(Self { feed: Some(feed), ..Self::load(pool, read_model).await? })
    }

    /// Loads the market as `prices` has it: table and checkpoint of one snapshot.
    pub(super) async fn load(pool: &PgPool, read_model: &'static str) -> Result<Self, Error> {
        let rows = schema::live_pool(pool, "prices", 1)?;
        let mut snapshot = rows.begin_with("begin isolation level repeatable read read only").await?;
        let checkpoint = sqlx::query_file!("projections/prices/load_market_checkpoint.sql")
            .fetch_optional(&mut *snapshot)
            .await?;
        let table = prices::load_table(&mut snapshot).await?;
        let mut day_rates = DayRates::default();
        day_rates.name_pairs(&table);
        let closes =
            sqlx::query_file!("projections/prices/load_fx_closes.sql").fetch_all(&mut *snapshot).await?;
        for row in closes {
            let close = Close { day: row.day, price: Price::from_decimal(row.price), volume: None };
            day_rates.observe(AssetId(row.asset_id), &row.source, &close, Position(row.position));
        }
        snapshot.commit().await?;
        rows.close().await;

        let scanned_to = Position(checkpoint.as_ref().map_or(0, |row| row.scanned_to));
        let place = checkpoint.map_or_else(
            || Place::origin(Epoch(1)),
            |row| Place {
                epoch: Epoch(row.epoch),
                position: Position(row.position),
                event_id: row.event_id.as_deref().and_then(|id| id.parse().ok()),
                recorded_at: row.recorded_at,
            },
        );
        let closes_position = place.position;
        Ok(Self {
            table,
            day_rates,
            feed: None,
            assigned: false,
            place,
            scanned_to,
            closes_position,
            read_model,
        })
    }

    /// Live prices and live rates.
    pub fn table(&self) -> &PriceTable {
        &self.table
    }

    /// Units of `to` for one unit of `from` now.
    pub fn rate(&self, from: &Currency, to: &Currency) -> Option<LiveRate> {
        self.table.rate(from, to)
    }

    /// Units of `to` for one unit of `from` on a past day.
    pub fn rate_of_day(&self, from: &Currency, to: &Currency, day: NaiveDate) -> Option<DayRate> {
        self.day_rates.rate(&self.table, from, to, day)
    }

    /// The last market event that was read.
    pub fn position(&self) -> Position {
        self.place.position
    }

    /// How far the market was read.
    pub fn scanned_to(&self) -> Position {
        self.scanned_to
    }

    /// The last event after which a market model of the closes may be another.
    pub fn closes_position(&self) -> Position {
        self.closes_position
    }

    /// Waits for the next batch of market events and takes it in. Cancel-safe: what is not taken in comes again.
    pub(super) async fn follow(&mut self) -> Result<Moved, Error> {
        let read_model = self.read_model;
        let halt = |source| Error::Feed { read_model, source };
        let Some(feed) = &mut self.feed else { return std::future::pending().await };
        if self.assigned {
            feed.resume(vec![(MARKET_SHARD, self.place.clone())]).await.map_err(halt)?;
            self.assigned = false;
        }
        match feed.next().await.map_err(halt)? {
            FeedItem::Assigned(_) => {
                self.assigned = true;
                Ok(Moved::default())
            }
            FeedItem::Revoked(_) => Ok(Moved::default()),
            FeedItem::Batch(batch) => {
                let mut moved = Moved::default();
                for event in &batch.events {
                    self.take(event, &mut moved);
                }
                for (_, position) in &batch.scanned_to {
                    self.scanned_to = self.scanned_to.max(*position);
                }
                Ok(moved)
            }
        }
    }

    /// Reads the rest of the log.
    pub(super) async fn read_on(&mut self, pool: &PgPool) -> Result<Moved, Error> {
        let mut moved = Moved::default();
        loop {
            let limit = BATCH_EVENTS_MAX as i64;
            let slice = read::shard_after(pool, MARKET_SHARD, self.place.position, limit).await?;
            for event in &slice.events {
                self.take(event, &mut moved);
            }
            if slice.events.len() < BATCH_EVENTS_MAX {
                self.scanned_to = self.scanned_to.max(slice.head);
                return Ok(moved);
            }
        }
    }

    fn take(&mut self, envelope: &Envelope, moved: &mut Moved) {
        if envelope.position <= self.place.position {
            return;
        }
        self.place = Place::from(envelope);
        self.scanned_to = self.scanned_to.max(envelope.position);
        moved.any = true;
        if !matches!(&*envelope.event_type, "PricesObserved" | "SymbolClaimed" | "EarningsReported") {
            self.closes_position = envelope.position;
        }
        match envelope.event() {
            Ok(Event::Asset(event)) => {
                if self.table.apply_asset(envelope.position, &event).live {
                    self.day_rates.name_pairs(&self.table);
                    moved.assets.extend(event_asset(envelope));
                    moved.rates = true;
                }
                // Which source is believed for a past day may be another now.
                moved.day_rates |= matches!(event, AssetEvent::PriceSourcesRanked(_));
            }
            Ok(Event::Price(event)) => self.take_prices(envelope.position, &event, moved),
            Ok(
                Event::Investor(_) | Event::Portfolio(_) | Event::Held(_) | Event::Job(_) | Event::Shard(_),
            ) => {}
            // `prices` parks the stream; to be without its price says the same here.
            Err(malformed) => tracing::error!(
                position = %envelope.position, stream = %envelope.stream_id, %malformed, "price cannot be read"
            ),
        }
    }

    fn take_prices(&mut self, position: Position, event: &PriceEvent, moved: &mut Moved) {
        let asset_id = event.asset_id();
        let is_pair = self.table.asset(asset_id).is_some_and(|asset| asset.class == AssetClass::Fx);
        if self.table.apply_prices(position, event).live {
            moved.assets.insert(asset_id);
            moved.rates |= is_pair;
        }
        if !is_pair {
            return;
        }
        moved.day_rates |= match event {
            PriceEvent::ClosesObserved(observed) => {
                // Of a day that an event names twice the last one counts, as in the rows.
                let by_day: BTreeMap<NaiveDate, &Close> =
                    observed.closes.iter().map(|close| (close.day, close)).collect();
                let mut news = false;
                for close in by_day.into_values() {
                    news |= self.day_rates.observe(asset_id, &observed.source, close, position);
                }
                news
            }
            PriceEvent::PriceVoided(voided) => self.day_rates.void(voided),
            PriceEvent::PricesObserved(_) => false,
        };
    }
}

/// The asset in the stream's name.
fn event_asset(envelope: &Envelope) -> Option<AssetId> {
    crate::projectors::stored::stream_id(envelope).ok().map(AssetId)
}
