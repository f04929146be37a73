//! What is held: lots, cost, gains and cash, and the entries they follow from.
//!
//! Memory holds the ledgers of the portfolios that were busy lately; rows are what memory was at the last flush. A fact
//! at the end of a portfolio's order is applied to its ledger. One that is dated before another, or a change of the
//! accounting, makes the ledger stale: it is derived anew from all entries, once a batch however many such facts there
//! are. A flush compares each touched holding's lots with those last written and stores the difference.

mod copying;
mod rows;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::PgConnection;

use super::copy::Written;
use super::{Error, Fact, FromLog, Poison, ReadModel, Readiness, stored};
use crate::domain::currency::Currency;
use crate::domain::ids::{AssetId, PortfolioId, Shard};
use crate::domain::portfolio::entry::Entry;
use crate::domain::portfolio::event::{CashMode, PortfolioEvent, PortfolioOpened};
use crate::domain::portfolio::ledger::{Accounting, Ledger};
use crate::domain::portfolio::lots::Lot;
use crate::events::{Envelope, Event};
use crate::feed::Topics;

/// How many ledgers stay in memory between batches.
const LEDGERS_MAX: usize = 10_000;

/// The projector of `holdings`.
#[derive(Debug, Default)]
pub struct Holdings {
    portfolios: HashMap<PortfolioId, Portfolio>,
    /// What the next flush writes.
    touched: BTreeSet<PortfolioId>,
    new_entries: Vec<(PortfolioId, Entry)>,
    /// Nothing is loaded, and every portfolio keeps all of its entries.
    from_nothing: bool,
    entries_held: usize,
}

/// A portfolio's ledger, and what of it is not in the rows.
#[derive(Debug)]
struct Portfolio {
    shard: Shard,
    base_currency: Currency,
    cash_mode: CashMode,
    allow_short: bool,
    accounting: Accounting,
    ledger: Ledger,
    version: i64,
    position: i64,
    /// All facts, where the ledger is or may have to be derived anew.
    entries: Option<Vec<Entry>>,
    /// The ledger does not follow from the entries any more.
    stale: bool,
    /// The lots of each touched holding as they stand in the rows.
    lots_before: BTreeMap<AssetId, Vec<Lot>>,
    cash_touched: bool,
}

impl ReadModel for Holdings {
    const NAME: &'static str = "holdings";
    const TOPICS: Topics = Topics::Portfolio;

    async fn prepare(&mut self, conn: &mut PgConnection, facts: &[Fact]) -> Result<Readiness, Error> {
        let absent: Vec<PortfolioId> = self.absent(facts);
        self.portfolios.extend(rows::load(conn, &absent).await?);
        let to_derive = self.to_derive(facts);
        for (id, entries) in rows::load_entries(conn, &to_derive).await? {
            if let Some(portfolio) = self.portfolios.get_mut(&id) {
                portfolio.entries = Some(entries);
            }
        }
        Ok(Readiness::Ready)
    }

    fn apply(&mut self, fact: &Fact) -> Result<(), Poison> {
        let Event::Portfolio(event) = &fact.event else { return Ok(()) };
        let envelope = &*fact.envelope;
        let id = PortfolioId(stored::stream_id(envelope)?);
        if let PortfolioEvent::PortfolioOpened(opened) = event {
            self.portfolios.insert(id, Portfolio::opened(envelope.shard, opened));
        }
        let Some(portfolio) = self.portfolios.get_mut(&id) else {
            return Err(Poison(format!("portfolio {id} was never opened")));
        };
        portfolio.apply(envelope, event);
        if let Some(entry) = Entry::from_event(envelope.position, event) {
            portfolio.book(&entry);
            if self.from_nothing {
                self.entries_held += 1;
            } else {
                self.new_entries.push((id, entry));
            }
        }
        self.touched.insert(id);
        Ok(())
    }

    async fn flush(&mut self, conn: &mut PgConnection) -> Result<(), Error> {
        self.ready_by_shard();
        self.write_where(conn, |_| true).await?;
        self.written();
        Ok(())
    }

    fn ready_by_shard(&mut self) -> bool {
        for id in &self.touched {
            if let Some(portfolio) = self.portfolios.get_mut(id) {
                portfolio.derive_if_stale();
            }
        }
        true
    }

    async fn write(&self, conn: &mut PgConnection, shards: &[Shard]) -> Result<(), Error> {
        self.write_where(conn, |shard| shards.contains(&shard)).await
    }

    fn written(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        self.new_entries.clear();
        for id in &touched {
            if let Some(portfolio) = self.portfolios.get_mut(id) {
                portfolio.written();
            }
        }
        if self.portfolios.len() > LEDGERS_MAX {
            self.portfolios.retain(|id, _| touched.contains(id));
        }
    }

    fn forget(&mut self, shards: &[Shard]) {
        self.portfolios.retain(|_, portfolio| !shards.contains(&portfolio.shard));
        self.touched.retain(|id| self.portfolios.contains_key(id));
        self.new_entries.retain(|(id, _)| self.portfolios.contains_key(id));
    }
}

impl Holdings {
    async fn write_where(&self, conn: &mut PgConnection, of: impl Fn(Shard) -> bool) -> Result<(), Error> {
        let changed = self.touched.iter().filter_map(|id| Some((*id, self.portfolios.get(id)?)));
        let changed: Vec<(PortfolioId, &Portfolio)> = changed.filter(|(_, it)| of(it.shard)).collect();
        let is_new = |(id, _): &&(PortfolioId, Entry)| self.portfolios.get(id).is_some_and(|it| of(it.shard));
        let mut entries: Vec<(PortfolioId, &Entry)> =
            self.new_entries.iter().filter(is_new).map(|(id, entry)| (*id, entry)).collect();
        // In the order of the index, so that neighbours meet the same pages.
        entries.sort_by_key(|(id, entry)| (*id, entry.position));
        Ok(rows::write(conn, &changed, &entries).await?)
    }
}

impl FromLog for Holdings {
    fn from_nothing() -> Self {
        Self { from_nothing: true, ..Self::default() }
    }

    fn held_bytes(&self) -> usize {
        // A fact, and at most the lot and the share of a holding that it opens.
        self.entries_held * (size_of::<Entry>() + size_of::<Lot>() + 64)
    }

    async fn copy(&mut self, conn: &mut PgConnection) -> Result<Vec<Written>, Error> {
        self.touched.clear();
        self.entries_held = 0;
        let mut portfolios: Vec<(PortfolioId, Portfolio)> = self.portfolios.drain().collect();
        portfolios.sort_unstable_by_key(|(id, _)| *id);
        portfolios.iter_mut().for_each(|(_, portfolio)| portfolio.derive_if_stale());
        Ok(copying::copy(conn, &portfolios).await?)
    }
}

impl Holdings {
    /// The portfolios that these facts are about and that memory lacks.
    fn absent(&self, facts: &[Fact]) -> Vec<PortfolioId> {
        let ids: BTreeSet<PortfolioId> = facts.iter().filter_map(portfolio_of).collect();
        ids.into_iter().filter(|id| !self.portfolios.contains_key(id)).collect()
    }

    /// The portfolios that these facts make stale and whose entries memory lacks.
    fn to_derive(&self, facts: &[Fact]) -> Vec<PortfolioId> {
        let mut last = HashMap::new();
        let mut stale = BTreeSet::new();
        for fact in facts {
            let (Some(id), Event::Portfolio(event)) = (portfolio_of(fact), &fact.event) else { continue };
            // A portfolio opened in this batch begins with all of its entries, none.
            let Some(portfolio) = self.portfolios.get(&id) else { continue };
            let last = last.entry(id).or_insert_with(|| portfolio.ledger.last());
            let place = Entry::place_of(fact.envelope.position, event);
            let backdated = place.is_some_and(|place| last.is_some_and(|last| place < last));
            *last = (*last).max(place);
            let accounts_anew = match event {
                PortfolioEvent::AccountingChanged(it) => {
                    portfolio.accounting.changed(it) != portfolio.accounting
                }
                _ => false,
            };
            if (backdated || accounts_anew) && portfolio.entries.is_none() {
                stale.insert(id);
            }
        }
        stale.into_iter().collect()
    }
}

fn portfolio_of(fact: &Fact) -> Option<PortfolioId> {
    match fact.event {
        Event::Portfolio(_) => stored::stream_id(&fact.envelope).ok().map(PortfolioId),
        _ => None,
    }
}

impl Portfolio {
    fn opened(shard: Shard, event: &PortfolioOpened) -> Self {
        let accounting = Accounting::opened(event);
        Self {
            shard,
            base_currency: event.base_currency.clone(),
            cash_mode: event.cash,
            allow_short: event.allow_short,
            accounting,
            ledger: Ledger::new(accounting),
            version: 0,
            position: 0,
            entries: Some(Vec::new()),
            stale: false,
            lots_before: BTreeMap::new(),
            cash_touched: false,
        }
    }

    /// What every fact does: it moves the version, and may change the accounting.
    fn apply(&mut self, envelope: &Envelope, event: &PortfolioEvent) {
        self.version = envelope.version.0;
        self.position = envelope.position.0;
        if let PortfolioEvent::AccountingChanged(change) = event {
            let accounting = self.accounting.changed(change);
            if accounting != self.accounting {
                self.accounting = accounting;
                self.make_stale();
            }
        }
    }

    /// Books an entry at the end of the ledger, or leaves it to the derivation.
    fn book(&mut self, entry: &Entry) {
        if let Some(entries) = &mut self.entries {
            entries.push(entry.clone());
        }
        if !self.stale && self.ledger.is_in_order(entry) {
            if let Some(asset_id) = entry.asset_id {
                self.keep_lots(asset_id);
            }
            self.cash_touched |= entry.cash.is_some();
            self.ledger.apply(entry);
        } else {
            self.make_stale();
            if let Some(asset_id) = entry.asset_id {
                self.keep_lots(asset_id);
            }
        }
    }

    fn make_stale(&mut self) {
        if !self.stale {
            self.stale = true;
            self.cash_touched = true;
            let held: Vec<AssetId> = self.ledger.holdings().map(|holding| holding.asset_id).collect();
            held.into_iter().for_each(|asset_id| self.keep_lots(asset_id));
        }
    }

    /// Remembers the lots as they stand in the rows, before they change.
    fn keep_lots(&mut self, asset_id: AssetId) {
        let lots = || self.ledger.holding(asset_id).map(|holding| holding.lots.clone()).unwrap_or_default();
        self.lots_before.entry(asset_id).or_insert_with(lots);
    }

    fn derive_if_stale(&mut self) {
        if self.stale {
            let entries = self.entries.as_deref();
            let entries =
                entries.expect("prepare loads the entries of every ledger that a batch makes stale");
            self.ledger = Ledger::derive(self.accounting, entries);
            self.stale = false;
        }
    }

    /// Notes that memory and rows are the same.
    fn written(&mut self) {
        self.lots_before.clear();
        self.cash_touched = false;
        self.entries = None;
    }
}
