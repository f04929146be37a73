//! The book: portfolios beside the market, and which of them a change concerns.
//!
//! Valuations and risk are functions of a portfolio's rows in `holdings` and of prices. Neither folds the ledger a second
//! time: an event of a portfolio says that its rows are to be read again, once `holdings` has come as far. A price says,
//! through an inverted index, whose rows are to be computed again. What is `dirty` is computed and written by the next
//! flush, however many changes there were.
//!
//! | what | from | how fresh |
//! | --- | --- | --- |
//! | portfolios of our shards | `holdings`, by the feed of portfolio events | at least the event, maybe later ones |
//! | live prices, rates | `prices`, then shard 32 | the reader's own place |

mod day_rates;
mod market;
mod rows;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use chrono::NaiveDate;
use sqlx::{PgConnection, PgPool};

use super::{Checkpoint, Error, Fact, Readiness, stored};
use crate::domain::currency::Currency;
use crate::domain::ids::{AssetId, PortfolioId, Position, Shard};
use crate::domain::money::{Amount, Quantity, Rate};
use crate::domain::price_table::LiveRate;
use crate::events::Event;
use crate::feed::Source;

pub use day_rates::DayRate;
pub use market::Market;

/// How often `holdings` is asked how far it is, and how often in a row.
const ASK_EVERY: Duration = Duration::from_millis(2);
const ASKS_MAX: u32 = 50;

/// A portfolio as it stands in `holdings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portfolio {
    /// The portfolio.
    pub portfolio_id: PortfolioId,
    /// Its shard.
    pub shard: Shard,
    /// The currency it reports in.
    pub base_currency: Currency,
    /// Of the last event of its stream that is in these figures.
    pub position: Position,
    /// What is held, without what was closed, by asset.
    pub holdings: Vec<PortfolioHolding>,
    /// Tracked cash, without empty balances, by currency.
    pub cash: Vec<(Currency, Amount)>,
}

/// What is held of one asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortfolioHolding {
    /// The asset.
    pub asset_id: AssetId,
    /// Its currency.
    pub currency: Currency,
    /// Units held, not zero; negative when short.
    pub quantity: Quantity,
    /// Their cost.
    pub cost: Amount,
    /// The lots, where the asset's currency is not the base currency.
    pub foreign_lots: Vec<PortfolioLot>,
}

/// What turns a lot's cost into the base currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortfolioLot {
    /// The day it was opened.
    pub opened: NaiveDate,
    /// Its cost in the asset's currency.
    pub cost: Amount,
    /// The rate that the client stated.
    pub fx_rate: Option<Rate>,
}

/// The portfolios of our shards, the market, and what is to be computed again.
#[derive(Debug)]
pub struct Book {
    market: Market,
    portfolios: HashMap<PortfolioId, Portfolio>,
    holders: HashMap<AssetId, BTreeSet<PortfolioId>>,
    rates: BTreeMap<(Currency, Currency), RateUsers>,
    shards: BTreeSet<Shard>,
    dirty: BTreeSet<PortfolioId>,
    /// Market events were read since the last flush, so the checkpoints' price position is behind.
    market_moved: bool,
}

/// A live rate and who needs it.
#[derive(Debug, Default)]
struct RateUsers {
    last: Option<LiveRate>,
    users: BTreeSet<PortfolioId>,
}

impl Book {
    /// Loads the market. Portfolios come with their shards.
    ///
    /// # Errors
    /// The database, or a feed that cannot work.
    pub async fn open(source: &Source, pool: &PgPool, read_model: &'static str) -> Result<Self, Error> {
        Ok(Self::of(Market::open(source, pool, read_model).await?))
    }

    /// Loads the market and lets it be: for a rebuild, which is as of the rows it is made from.
    ///
    /// # Errors
    /// The database.
    pub async fn at_rest(pool: &PgPool, read_model: &'static str) -> Result<Self, Error> {
        Ok(Self::of(Market::load(pool, read_model).await?))
    }

    fn of(market: Market) -> Self {
        Self {
            market,
            portfolios: HashMap::new(),
            holders: HashMap::new(),
            rates: BTreeMap::new(),
            shards: BTreeSet::new(),
            dirty: BTreeSet::new(),
            market_moved: false,
        }
    }

    /// Takes over shards: reads the market as far as their rows have it, loads all their portfolios, and holds all of
    /// them for dirty, since prices may have moved while nobody looked.
    ///
    /// # Errors
    /// The database, or the end of the feed.
    pub async fn assigned(
        &mut self,
        conn: &mut PgConnection,
        checkpoints: &[Checkpoint],
    ) -> Result<(), Error> {
        let shards: Vec<Shard> = checkpoints.iter().map(|mine| mine.shard).collect();
        let stored = checkpoints.iter().map(|mine| mine.price_position).max().unwrap_or_default();
        while self.market.scanned_to() < stored {
            self.follow().await?;
        }
        self.shards.extend(&shards);
        for portfolio in rows::load(conn, &[], &shards).await? {
            self.put(portfolio);
        }
        self.market_moved = true;
        Ok(())
    }

    /// Reads again the portfolios that these facts are about, once `holdings` has them.
    ///
    /// # Errors
    /// The database.
    pub async fn prepare(&mut self, conn: &mut PgConnection, facts: &[Fact]) -> Result<Readiness, Error> {
        let mut ids = BTreeSet::new();
        let mut needed: BTreeMap<Shard, Position> = BTreeMap::new();
        for fact in facts.iter().filter(|fact| matches!(fact.event, Event::Portfolio(_))) {
            if let Ok(id) = stored::stream_id(&fact.envelope) {
                ids.insert(PortfolioId(id));
                needed.insert(fact.envelope.shard, fact.envelope.position);
            }
        }
        if ids.is_empty() {
            return Ok(Readiness::Ready);
        }
        if !holdings_reach(conn, &needed).await? {
            return Ok(Readiness::NotYet);
        }
        let ids: Vec<PortfolioId> = ids.into_iter().collect();
        for portfolio in rows::load(conn, &ids, &[]).await? {
            self.put(portfolio);
        }
        Ok(Readiness::Ready)
    }

    /// Waits for the next batch of market events and notes whom it concerns. Cancel-safe.
    ///
    /// # Errors
    /// The end of the feed.
    pub async fn follow(&mut self) -> Result<(), Error> {
        let moved = self.market.follow().await?;
        self.note(&moved);
        Ok(())
    }

    /// Reads the market up to the head of the log, where no feed brings it, and notes whom it concerns.
    ///
    /// # Errors
    /// The log.
    pub async fn catch_up(&mut self, pool: &PgPool) -> Result<(), Error> {
        let moved = self.market.read_on(pool).await?;
        self.note(&moved);
        Ok(())
    }

    fn note(&mut self, moved: &market::Moved) {
        self.market_moved |= moved.any;
        for asset_id in &moved.assets {
            self.dirty.extend(self.holders.get(asset_id).into_iter().flatten());
        }
        if moved.rates {
            for ((from, to), rate) in &mut self.rates {
                let now = self.market.rate(from, to);
                if now != rate.last {
                    rate.last = now;
                    self.dirty.extend(&rate.users);
                }
            }
        }
        if moved.day_rates {
            self.dirty.extend(self.rates.values().flat_map(|rate| &rate.users));
        }
    }

    /// Whether a flush has something to write.
    pub fn is_dirty(&self) -> bool {
        !self.shards.is_empty() && (self.market_moved || !self.dirty.is_empty())
    }

    /// The shards whose checkpoints the next flush moves: all of them when the market was read further, since a row that
    /// did not change is up to date with it, too.
    pub fn changed(&self) -> BTreeSet<Shard> {
        if self.market_moved {
            return self.shards.clone();
        }
        self.dirty.iter().filter_map(|id| Some(self.portfolios.get(id)?.shard)).collect()
    }

    /// The portfolios of our shards.
    pub fn ids(&self) -> impl Iterator<Item = PortfolioId> {
        self.portfolios.keys().copied()
    }

    /// Hands over the portfolios to compute again, in the order of their ids.
    pub fn take_dirty(&mut self) -> Vec<PortfolioId> {
        self.market_moved = false;
        std::mem::take(&mut self.dirty).into_iter().collect()
    }

    /// A portfolio of our shards.
    pub fn portfolio(&self, id: PortfolioId) -> Option<&Portfolio> {
        self.portfolios.get(&id)
    }

    /// The market as far as it was read.
    pub fn market(&self) -> &Market {
        &self.market
    }

    /// Drops the portfolios of these shards.
    pub fn forget(&mut self, shards: &[Shard]) {
        let gone: Vec<PortfolioId> = self
            .portfolios
            .values()
            .filter(|portfolio| shards.contains(&portfolio.shard))
            .map(|portfolio| portfolio.portfolio_id)
            .collect();
        for id in gone {
            self.remove(id);
        }
        self.shards.retain(|shard| !shards.contains(shard));
    }

    fn put(&mut self, portfolio: Portfolio) {
        let id = portfolio.portfolio_id;
        self.remove(id);
        let base = &portfolio.base_currency;
        let held = portfolio.holdings.iter().map(|holding| &holding.currency);
        for currency in held.chain(portfolio.cash.iter().map(|(currency, _)| currency)) {
            if currency != base {
                let market = &self.market;
                let rate = self.rates.entry((currency.clone(), base.clone())).or_insert_with(|| RateUsers {
                    last: market.rate(currency, base),
                    users: BTreeSet::new(),
                });
                rate.users.insert(id);
            }
        }
        for holding in &portfolio.holdings {
            self.holders.entry(holding.asset_id).or_default().insert(id);
        }
        self.portfolios.insert(id, portfolio);
        self.dirty.insert(id);
    }

    fn remove(&mut self, id: PortfolioId) {
        let Some(portfolio) = self.portfolios.remove(&id) else { return };
        for holding in &portfolio.holdings {
            if let Some(holders) = self.holders.get_mut(&holding.asset_id) {
                holders.remove(&id);
            }
        }
        let base = portfolio.base_currency;
        let held = portfolio.holdings.iter().map(|holding| &holding.currency);
        for currency in held.chain(portfolio.cash.iter().map(|(currency, _)| currency)) {
            if let Some(rate) = self.rates.get_mut(&(currency.clone(), base.clone())) {
                rate.users.remove(&id);
            }
        }
        self.dirty.remove(&id);
    }
}

/// Asks `holdings` until it has come as far, a bounded number of times.
async fn holdings_reach(
    conn: &mut PgConnection,
    needed: &BTreeMap<Shard, Position>,
) -> Result<bool, sqlx::Error> {
    let shards: Vec<Shard> = needed.keys().copied().collect();
    for ask in 0..ASKS_MAX {
        if ask > 0 {
            tokio::time::sleep(ASK_EVERY).await;
        }
        let places = rows::places(conn, &shards).await?;
        if needed.iter().all(|(shard, position)| places.get(shard).is_some_and(|place| place >= position)) {
            return Ok(true);
        }
    }
    Ok(false)
}
