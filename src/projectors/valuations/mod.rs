//! What holdings are worth, live.
//!
//! The join of portfolios and prices is the [`Book`]'s business; here its dirty portfolios are valued and written. A flush
//! follows the first price at once and the next ones not before a pause that grows with how long a flush takes, so that a
//! busy market costs a bounded share of the database, whatever the number of ticks. Events of portfolios never wait for that pause.

mod rows;
mod value;

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;

use super::book::Book;
use super::{Checkpoint, Error, Fact, Poison, ReadModel, Readiness};
use crate::domain::ids::{Position, Shard};
use crate::feed::{Source, Topics};

/// The least pause between flushes that only prices cause.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// How many times longer than a flush the pause after it is.
const PAUSE_PER_FLUSH: u32 = 3;

/// The projector of `valuations`.
#[derive(Debug)]
pub struct Valuations {
    book: Book,
    /// When the next flush that only prices cause may be.
    next_flush: Instant,
}

impl Valuations {
    /// Loads the market from `prices` and follows it.
    ///
    /// # Errors
    /// The database, or a feed that cannot work.
    pub async fn open(source: &Source, pool: &PgPool) -> Result<Self, Error> {
        let book = Book::open(source, pool, Self::NAME).await?;
        Ok(Self { book, next_flush: Instant::now() })
    }

    /// Loads the market from `prices` and lets it be, for a rebuild.
    ///
    /// # Errors
    /// The database.
    pub async fn at_rest(pool: &PgPool) -> Result<Self, Error> {
        let book = Book::at_rest(pool, Self::NAME).await?;
        Ok(Self { book, next_flush: Instant::now() })
    }
}

impl ReadModel for Valuations {
    const NAME: &'static str = "valuations";
    const TOPICS: Topics = Topics::Portfolio;

    async fn assigned(&mut self, conn: &mut PgConnection, checkpoints: &[Checkpoint]) -> Result<(), Error> {
        self.book.assigned(conn, checkpoints).await
    }

    async fn prepare(&mut self, conn: &mut PgConnection, facts: &[Fact]) -> Result<Readiness, Error> {
        self.book.prepare(conn, facts).await
    }

    fn apply(&mut self, _fact: &Fact) -> Result<(), Poison> {
        // The rows of `holdings`, read before, have the event.
        Ok(())
    }

    async fn flush(&mut self, conn: &mut PgConnection) -> Result<(), Error> {
        let started = Instant::now();
        let dirty = self.book.take_dirty();
        let portfolios = dirty.into_iter().filter_map(|id| self.book.portfolio(id));
        let valued: Vec<_> =
            portfolios.map(|portfolio| (portfolio, value::value(portfolio, self.book.market()))).collect();
        rows::write(conn, &valued).await?;
        self.next_flush = Instant::now() + PAUSE_MIN.max(started.elapsed() * PAUSE_PER_FLUSH);
        Ok(())
    }

    fn forget(&mut self, shards: &[Shard]) {
        self.book.forget(shards);
    }

    async fn catch_up(&mut self, pool: &PgPool) -> Result<(), Error> {
        self.book.catch_up(pool).await
    }

    async fn woken(&mut self) -> Result<(), Error> {
        while !self.book.is_dirty() {
            self.book.follow().await?;
        }
        let pause = tokio::time::sleep_until(self.next_flush);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return Ok(()),
                followed = self.book.follow() => followed?,
            }
        }
    }

    fn changed(&self) -> BTreeSet<Shard> {
        self.book.changed()
    }

    fn price_position(&self) -> Position {
        self.book.market().scanned_to()
    }
}
