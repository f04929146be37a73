//! The read model `risk`: how much each portfolio could lose, computed again when something relevant happens.
//!
//! | what happened | what is computed | when |
//! | --- | --- | --- |
//! | a fact in a portfolio | that portfolio | at once |
//! | prices moved | the portfolios that hold them | when no price came for half a second, at the latest after two |
//! | closes came | a new market model, then every portfolio | two seconds after the last, at the latest ten after the first |
//!
//! A row is a pure function of what it names: the portfolio's position, the exposures with their prices, the cut and
//! hash of the model, the engine's version. It equals its recomputation, byte for byte. The checkpoint's
//! `price_position` is how far *every* row reflects the market, closes and prices: so a client who waits for the
//! place of a price sees figures that know it.
//!
//! Figures are computed by the engine's own threads; the transaction waits for them outside the async runtime's.

mod exposures;
mod model;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;

use self::exposures::PricedPortfolio;
use self::model::Models;
use super::book::Book;
use super::{Checkpoint, Error, Fact, Poison, ReadModel, Readiness, column};
use crate::analysis::{Figures, MarketModel, Pool, Settings, portfolio_figures};
use crate::domain::ids::{PortfolioId, Position, Shard};
use crate::feed::{Source, Topics};
use crate::risk::Method;

pub use self::model::Engine;

/// A burst of prices is computed when it pauses …
const PRICES_PAUSE: Duration = Duration::from_millis(500);
/// … or when it has gone on for so long.
const PRICES_WAIT_MAX: Duration = Duration::from_secs(2);
/// Portfolios computed and written in one statement, with the usual number of paths; fewer with more paths, since a
/// transaction waits for them.
const ROWS_MAX: usize = 500;

/// The risk of every portfolio of our shards.
pub struct Risk {
    book: Book,
    models: Models,
    pool: Arc<Pool>,
    /// Computed by the next flush, whatever prices do.
    urgent: BTreeSet<PortfolioId>,
    /// Computed when prices pause.
    later: BTreeSet<PortfolioId>,
    prices: Burst,
    /// How far the rows of all our portfolios reflect the market.
    reflected: Position,
}

/// When prices began to move, and when they last did.
#[derive(Debug, Default, Clone, Copy)]
struct Burst {
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Burst {
    fn moved(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// When the burst is to be computed; never while there is none.
    fn due(&self) -> Option<Instant> {
        Some((self.last? + PRICES_PAUSE).min(self.first? + PRICES_WAIT_MAX))
    }
}

impl Risk {
    /// Loads the market and makes a model of it; then follows both.
    ///
    /// # Errors
    /// The database, the feed, or settings that the engine refuses.
    pub async fn open(source: &Source, pool: &PgPool, engine: Engine) -> Result<Self, Error> {
        let book = Book::open(source, pool, Self::NAME).await?;
        Self::of(book, pool, engine).await
    }

    /// As of the rows that there are: for a rebuild.
    ///
    /// # Errors
    /// As [`Risk::open`].
    pub async fn at_rest(pool: &PgPool, engine: Engine) -> Result<Self, Error> {
        let book = Book::at_rest(pool, Self::NAME).await?;
        Self::of(book, pool, engine).await
    }

    async fn of(book: Book, pool: &PgPool, settings: Engine) -> Result<Self, Error> {
        let engine = Arc::new(Pool::new(settings.threads)?);
        let models = Models::open(pool.clone(), settings, Arc::clone(&engine)).await?;
        Ok(Self {
            book,
            models,
            pool: engine,
            urgent: BTreeSet::new(),
            later: BTreeSet::new(),
            prices: Burst::default(),
            reflected: Position(0),
        })
    }

    /// Takes over what the book holds for dirty because of prices.
    fn take_dirty(&mut self) {
        let dirty = self.book.take_dirty();
        if !dirty.is_empty() {
            self.prices.moved(Instant::now());
            self.later.extend(dirty);
        }
    }

    fn prices_due(&self) -> bool {
        self.prices.due().is_some_and(|due| due <= Instant::now())
    }

    /// How far every row reflects the market once the next flush has been.
    fn will_reflect(&self) -> Position {
        if !self.later.is_empty() && !self.prices_due() {
            return self.reflected;
        }
        // A model that lacks closes that we have seen reflects the market up to its own cut only.
        let market = self.book.market().scanned_to();
        let known = if self.models.is_behind() { self.models.cut().min(market) } else { market };
        self.reflected.max(known)
    }
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
        self.urgent.extend(self.book.take_dirty());
        Ok(())
    }

    async fn prepare(&mut self, conn: &mut PgConnection, facts: &[Fact]) -> Result<Readiness, Error> {
        self.take_dirty();
        let readiness = self.book.prepare(conn, facts).await?;
        // What the book has read again is now dirty because of facts.
        self.urgent.extend(self.book.take_dirty());
        Ok(readiness)
    }

    fn apply(&mut self, _fact: &Fact) -> Result<(), Poison> {
        Ok(())
    }

    async fn flush(&mut self, conn: &mut PgConnection) -> Result<(), Error> {
        let reflected = self.will_reflect();
        let mut ids = std::mem::take(&mut self.urgent);
        if self.prices_due() {
            ids.append(&mut self.later);
            self.prices = Burst::default();
        }
        self.later.retain(|id| !ids.contains(id));
        let model = self.models.current();
        let priced: Vec<PricedPortfolio> = ids
            .iter()
            .filter_map(|id| self.book.portfolio(*id))
            .map(|portfolio| PricedPortfolio::of(portfolio, self.book.market()))
            .collect();
        let paths = model.settings().paths.max(Settings::default().paths);
        for chunk in priced.chunks((ROWS_MAX * Settings::default().paths / paths).max(1)) {
            let rows = compute(Arc::clone(&self.pool), Arc::clone(&model), chunk.to_vec()).await?;
            upsert(conn, &model, &rows).await?;
        }
        self.reflected = reflected;
        Ok(())
    }

    fn forget(&mut self, shards: &[Shard]) {
        self.book.forget(shards);
        let kept = |id: &PortfolioId| self.book.portfolio(*id).is_some();
        self.urgent.retain(kept);
        self.later.retain(kept);
    }

    async fn catch_up(&mut self, pool: &PgPool) -> Result<(), Error> {
        self.book.catch_up(pool).await?;
        self.urgent.extend(self.book.take_dirty());
        self.models.wanted(self.book.market().closes_position());
        if self.models.is_behind() && self.models.make_now().await? {
            self.urgent.extend(self.book.ids());
        }
        Ok(())
    }

    async fn woken(&mut self) -> Result<(), Error> {
        loop {
            let due = self.prices.due();
            tokio::select! {
                followed = self.book.follow() => {
                    followed?;
                    self.models.wanted(self.book.market().closes_position());
                    self.take_dirty();
                }
                made = self.models.next() => {
                    made?;
                    self.urgent.extend(self.book.ids());
                    return Ok(());
                }
                () = sleep_until(due) => return Ok(()),
            }
        }
    }

    fn changed(&self) -> BTreeSet<Shard> {
        let shard = |id: &PortfolioId| self.book.portfolio(*id).map(|portfolio| portfolio.shard);
        let mut changed: BTreeSet<Shard> = self.urgent.iter().filter_map(shard).collect();
        if self.prices_due() {
            changed.extend(self.later.iter().filter_map(shard));
        }
        changed
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

/// A row to be.
struct Row {
    priced: PricedPortfolio,
    figures: Figures,
}

/// On the engine's threads; the caller's runtime goes on.
async fn compute(
    pool: Arc<Pool>,
    model: Arc<MarketModel>,
    portfolios: Vec<PricedPortfolio>,
) -> Result<Vec<Row>, Error> {
    let computed = tokio::task::spawn_blocking(move || {
        let figures = pool.map(&portfolios, |portfolio| {
            portfolio_figures(&model, portfolio.base_currency.as_str(), &portfolio.exposures())
        });
        let rows = portfolios.into_iter().zip(figures);
        rows.map(|(priced, figures)| Ok(Row { priced, figures: figures? })).collect::<Result<_, _>>()
    });
    // A panic in the engine is a bug, and must stop the process as any other.
    match computed.await {
        Ok(rows) => rows,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

async fn upsert(conn: &mut PgConnection, model: &MarketModel, rows: &[Row]) -> Result<(), Error> {
    let headline = |row: &Row| row.figures.method(Method::FilteredHistorical).map(|method| method.figures);
    let var_99 = |row: &Row| Some(headline(row)?.var_99?.value);
    sqlx::query_file!(
        "projections/risk/upsert_risks.sql",
        &column(rows, |row| row.priced.portfolio_id.0),
        &column(rows, |row| row.priced.shard.0),
        &column(rows, |row| row.priced.position.0),
        &column(rows, |row| row.priced.price_position.0),
        &column(rows, |_| model.cut() as i64),
        &column(rows, |_| model.hash().to_owned()),
        &column(rows, |row| row.figures.engine_version.to_string()),
        &column(rows, |row| row.priced.base_currency.to_string()),
        &column(rows, |row| row.priced.gross().decimal()),
        &column(rows, |row| row.figures.coverage.unwrap_or(0.0)),
        &column(rows, |row| row.figures.incomplete || row.priced.is_incomplete()),
        &column(rows, |row| Some(headline(row)?.var_95?.value)) as _,
        &column(rows, var_99) as _,
        &column(rows, |row| Some(headline(row)?.es_975?.value)) as _,
        &column(rows, |row| row.priced.share_of_gross(var_99(row)?)) as _,
        &column(rows, |row| row.figures.volatility_annualized.map(band)) as _,
        &column(rows, |row| row.figures.volatility_annualized) as _,
        &column(rows, |row| row.figures.sharpe) as _,
        &column(rows, |row| figures_json(&row.figures)),
        &column(rows, |row| row.priced.to_json().to_string()),
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn figures_json(figures: &Figures) -> String {
    serde_json::to_string(figures).expect("figures are numbers and strings, which always serialise")
}

/// The band of an annual volatility: low below 15 %, high from 25 % on.
fn band(volatility: f64) -> &'static str {
    match volatility {
        v if v < 0.15 => "low",
        v if v < 0.25 => "medium",
        _ => "high",
    }
}
