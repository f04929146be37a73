//! The read model `risk`: how much each portfolio could lose, computed again when something relevant happens.
//!
//! | what happened | what is computed | when |
//! | --- | --- | --- |
//! | a fact in a portfolio | that portfolio | at once |
//! | prices moved | the portfolios that hold them | when no price came for half a second, at the latest after two |
//! | closes came | a new market model, then every portfolio | two seconds after the last, at the latest ten after the first |
//! | someone asks for it | every portfolio of the shard | at once, piece by piece, before what else waits |
//!
//! A row is a pure function of what it names: the portfolio's position, the exposures with their prices, the cut and
//! hash of the model, the engine's version. It equals its recomputation, byte for byte. The checkpoint's
//! `price_position` is how far *every* row reflects the market, closes and prices: so a client who waits for the
//! place of a price sees figures that know it.
//!
//! The checkpoint passes a request when it is taken: no fact stands behind a hundred thousand portfolios. Which of them have been
//! computed since, rows say themselves. Nothing of a request is lost with the process: who takes a shard over computes all of it.
//!
//! Figures are computed by the engine's own threads; the transaction waits for them outside the async runtime's.

mod backlog;
mod exposures;
mod model;
mod requests;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;

use self::backlog::{Backlog, Key};
use self::exposures::PricedPortfolio;
use self::model::Models;
use self::rows::{compute, upsert};
use super::book::Book;
use super::{Checkpoint, Error, Fact, Poison, ReadModel, Readiness};
use crate::analysis::{Pool, Settings};
use crate::domain::ids::{Position, Shard};
use crate::domain::job::ShardEvent;
use crate::events::Event;
use crate::feed::{Source, Topics};

pub use self::model::Engine;

/// Portfolios computed and written in one statement, with the usual number of paths; fewer with more paths, since a
/// transaction waits for them. Of those that can wait, so many in one transaction.
const ROWS_MAX: usize = 500;

/// The risk of every portfolio of our shards.
pub struct Risk {
    book: Book,
    models: Models,
    pool: Arc<Pool>,
    backlog: Backlog,
    /// The last request to compute everything anew, of each shard that had one.
    requested: BTreeMap<Shard, Position>,
    /// How far the rows of all our portfolios reflect the market.
    reflected: Position,
    /// How far they will, when the pass that is on has ended.
    promised: Position,
}

impl Risk {
    /// Loads the market and makes a model of it; then follows both.
    ///
    /// # Errors
    /// The database, the feed, or settings that the engine refuses.
    pub async fn open(source: &Source, pool: &PgPool, engine: Engine) -> Result<Self, Error> {
        let book = Book::open(source, pool, Self::NAME).await?;
        let piece = rows_max(engine.simulation);
        Self::of(book, pool, engine, piece).await
    }

    /// As of the rows that there are: for a rebuild.
    ///
    /// # Errors
    /// As [`Risk::open`].
    pub async fn at_rest(pool: &PgPool, engine: Engine) -> Result<Self, Error> {
        let book = Book::at_rest(pool, Self::NAME).await?;
        // Checkpoints are there before the rows: a flush writes all of them.
        Self::of(book, pool, engine, usize::MAX).await
    }

    async fn of(book: Book, pool: &PgPool, settings: Engine, piece: usize) -> Result<Self, Error> {
        let engine = Arc::new(Pool::new(settings.threads)?);
        let models = Models::open(pool.clone(), settings, Arc::clone(&engine)).await?;
        Ok(Self {
            book,
            models,
            pool: engine,
            backlog: Backlog::new(piece),
            requested: BTreeMap::new(),
            reflected: Position(0),
            promised: Position(0),
        })
    }

    /// Takes over what the book holds for dirty because of prices.
    fn take_dirty(&mut self) {
        let dirty = self.dirty();
        self.backlog.prices_moved(dirty, Instant::now());
    }

    fn dirty(&mut self) -> Vec<Key> {
        let dirty = self.book.take_dirty();
        dirty.into_iter().filter_map(|id| Some((self.book.portfolio(id)?.shard, id))).collect()
    }

    /// Everything of these shards, or of all that are ours.
    fn all(&self, of: impl Fn(Shard) -> bool) -> Vec<Key> {
        let keys = self.book.ids().filter_map(|id| Some((self.book.portfolio(id)?.shard, id)));
        keys.filter(|(shard, _)| of(*shard)).collect()
    }

    /// Notes the requests among these facts.
    fn take_requests(&mut self, facts: &[Fact]) {
        for fact in facts {
            let Event::Shard(ShardEvent::RiskRecomputeRequested(_)) = fact.event else { continue };
            let (shard, position) = (fact.envelope.shard, fact.envelope.position);
            // A batch that has to wait comes here again.
            if self.requested.get(&shard).is_none_or(|last| *last < position) {
                self.requested.insert(shard, position);
                let all = self.all(|it| it == shard);
                tracing::debug!(%shard, %position, portfolios = all.len(), "computing everything anew");
                self.backlog.owe(all);
            }
        }
    }

    /// How far rows reflect the market that are computed now. A model that lacks closes that we have seen reflects it up to
    /// its own cut only.
    fn known(&self) -> Position {
        let market = self.book.market().scanned_to();
        if self.models.is_behind() { self.models.cut().min(market) } else { market }
    }

    /// How far every row reflects the market once the next flush has been.
    fn will_reflect(&self) -> Position {
        match (self.backlog.ends_pass(), self.backlog.has_later()) {
            (false, _) => self.reflected,
            (true, true) => self.reflected.max(self.promised),
            (true, false) => self.reflected.max(self.known()),
        }
    }

    /// A pass over everything that prices have moved.
    fn begin_prices(&mut self) {
        self.backlog.take_prices();
        self.promised = self.known();
    }

    /// A pass over everything.
    fn begin_all(&mut self) {
        let all = self.all(|_| true);
        self.backlog.wait_all(all);
        self.promised = self.known();
    }
}

/// How many portfolios a statement takes.
fn rows_max(settings: Settings) -> usize {
    let usual = Settings::default().paths;
    (ROWS_MAX * usual / settings.paths.max(usual)).max(1)
}

impl ReadModel for Risk {
    const NAME: &'static str = "risk";
    const TOPICS: Topics = Topics::Portfolio;

    async fn assigned(&mut self, conn: &mut PgConnection, checkpoints: &[Checkpoint]) -> Result<(), Error> {
        self.book.assigned(conn, checkpoints).await?;
        let shown = checkpoints.iter().map(|mine| mine.price_position).max().unwrap_or_default();
        // Rows never go back: a model that knows less than theirs is not used. A model ends at a market event, and rows
        // may have been shown to be up to date beyond the last one.
        self.models.reach(shown.min(self.book.market().position())).await?;
        let dirty = self.dirty();
        self.backlog.wait(dirty);
        // Until all of them are computed, rows are not known to reflect more than those of the new shards do.
        let least = checkpoints.iter().map(|mine| mine.price_position).min();
        self.reflected = least.map_or(self.reflected, |least| self.reflected.min(least));
        self.promised = self.promised.min(self.known());
        self.requested.extend(requests::load(conn, checkpoints).await?);
        Ok(())
    }

    async fn prepare(&mut self, conn: &mut PgConnection, facts: &[Fact]) -> Result<Readiness, Error> {
        self.take_dirty();
        self.take_requests(facts);
        let readiness = self.book.prepare(conn, facts).await?;
        // What the book has read again is now dirty because of facts.
        let dirty = self.dirty();
        self.backlog.now(dirty);
        Ok(readiness)
    }

    fn apply(&mut self, _fact: &Fact) -> Result<(), Poison> {
        Ok(())
    }

    async fn flush(&mut self, conn: &mut PgConnection) -> Result<(), Error> {
        let reflected = self.will_reflect();
        let keys = self.backlog.next();
        let model = self.models.current();
        let priced: Vec<(PricedPortfolio, Position)> = keys
            .iter()
            .filter_map(|(shard, id)| Some((shard, self.book.portfolio(*id)?)))
            .map(|(shard, portfolio)| {
                let requested = self.requested.get(shard).copied().unwrap_or_default();
                (PricedPortfolio::of(portfolio, self.book.market()), requested)
            })
            .collect();
        for chunk in priced.chunks(rows_max(*model.settings())) {
            let rows = compute(Arc::clone(&self.pool), Arc::clone(&model), chunk.to_vec()).await?;
            upsert(conn, &model, &rows).await?;
        }
        self.backlog.done(&keys);
        self.reflected = reflected;
        Ok(())
    }

    fn forget(&mut self, shards: &[Shard]) {
        self.book.forget(shards);
        self.backlog.forget(shards);
        self.requested.retain(|shard, _| !shards.contains(shard));
    }

    async fn catch_up(&mut self, pool: &PgPool) -> Result<(), Error> {
        self.book.catch_up(pool).await?;
        let dirty = self.dirty();
        self.backlog.wait(dirty);
        self.models.wanted(self.book.market().closes_position());
        if self.models.is_behind() && self.models.make_now().await? {
            self.begin_all();
        }
        Ok(())
    }

    async fn woken(&mut self) -> Result<(), Error> {
        loop {
            let due = self.backlog.prices_due();
            let is_idle = self.backlog.is_idle();
            tokio::select! {
                followed = self.book.follow() => {
                    followed?;
                    self.models.wanted(self.book.market().closes_position());
                    self.take_dirty();
                }
                made = self.models.next(), if is_idle => {
                    made?;
                    self.begin_all();
                    return Ok(());
                }
                () = sleep_until(due), if is_idle => {
                    self.begin_prices();
                    return Ok(());
                }
                () = std::future::ready(()), if !is_idle => return Ok(()),
            }
        }
    }

    fn changed(&self) -> BTreeSet<Shard> {
        self.backlog.next().into_iter().map(|(shard, _)| shard).collect()
    }

    fn price_position(&self) -> Position {
        self.will_reflect()
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
