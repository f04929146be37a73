//! Reading one's own writes: waiting until the rows have what a command wrote.
//!
//! A command's answer carries its place, `epoch:position`. A read that names it waits, in every read model it uses, for the
//! shards of that command's events only: other shards may lag without anybody waiting for them. For a price it is the
//! checkpoints' `price_position` that counts where prices are joined.
//!
//! A process asks for checkpoints once for all of its waiters, every few milliseconds, and only while somebody waits. That
//! only wakes: what an answer is of is read again in the statement that reads its rows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Error, log};
use crate::domain::ids::{
    Epoch, JOB_SHARD_FIRST, MARKET_SHARD, PORTFOLIO_SHARDS, PortfolioId, Position, Shard,
};
use crate::event_store::read;

/// How often checkpoints are asked for while somebody waits.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// How long the log and the checkpoints may take for what they are asked, even by somebody who would not wait.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// Read models that join prices: their own feed is of portfolios.
const JOINED: [&str; 2] = ["valuations", "risk"];

/// Whether rows have what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// They have.
    Reached,
    /// Not within the time given.
    NotYet {
        /// How far they are, where they are least far.
        reached: Position,
    },
    /// The place is of a history that this log is not, or is no longer.
    DeadEpoch,
}

/// Wakes readers who wait for rows. Cheap to clone; clones share one poll.
#[derive(Debug, Clone)]
pub struct Freshness {
    pool: PgPool,
    poll: Arc<Mutex<Option<Arc<watch::Sender<Checkpoints>>>>>,
}

/// Every checkpoint: how far scanned, and how far prices were read.
#[derive(Debug, Clone, Default)]
struct Checkpoints(Arc<HashMap<(String, Shard), (Position, Position)>>);

/// What has to have come far enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// Events of a shard.
    Events(&'static str, Shard),
    /// Prices, in the rows of a shard.
    Prices(&'static str, Shard),
}

impl Freshness {
    /// For readers of this database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, poll: Arc::default() }
    }

    /// Waits until these read models have every event of the command that wrote the event at this place, at the latest
    /// until the deadline. A read of one portfolio names it, so that a price is waited for in its shard alone.
    ///
    /// # Errors
    /// The log, also where it did not answer in time. A read model that cannot be asked is one that has not come far enough.
    pub async fn wait_for(
        &self,
        epoch: Epoch,
        position: Position,
        read_models: &[&'static str],
        portfolio: Option<PortfolioId>,
        deadline: Instant,
    ) -> Result<Visibility, Error> {
        let at_last = deadline.max(Instant::now()) + ANSWERED_WITHIN;
        let seen = self.see(epoch, position, read_models, portfolio, deadline);
        tokio::time::timeout_at(at_last, seen)
            .await
            .unwrap_or(Err(Error::Database(sqlx::Error::PoolTimedOut)))
    }

    async fn see(
        &self,
        epoch: Epoch,
        position: Position,
        read_models: &[&'static str],
        portfolio: Option<PortfolioId>,
        deadline: Instant,
    ) -> Result<Visibility, Error> {
        if position == Position(0) {
            return Ok(Visibility::Reached);
        }
        if !self.is_alive(epoch, position).await? {
            return Ok(Visibility::DeadEpoch);
        }
        // A place ahead of the log may be one that another reader of it has heard of first.
        let shards = loop {
            let shards = log::command_shards(&self.pool, position).await?;
            if !shards.is_empty() {
                break shards;
            }
            if Instant::now() >= deadline {
                return Ok(Visibility::NotYet { reached: read::head(&self.pool).await? });
            }
            tokio::time::sleep(ASK_EVERY * 4).await;
        };
        let wants = wants(&shards, read_models, portfolio.map(|id| id.stream().shard()));
        Ok(self.wait(&wants, position, deadline).await)
    }

    /// Whether a place of this epoch is in this log.
    async fn is_alive(&self, epoch: Epoch, position: Position) -> Result<bool, Error> {
        let row = sqlx::query_file!("projections/find_epoch.sql", epoch.0, position.0)
            .fetch_one(&self.pool)
            .await?;
        Ok(row.is_known && !row.is_over)
    }

    async fn wait(&self, wants: &[Want], position: Position, deadline: Instant) -> Visibility {
        // Most often the rows have it already, and nobody need wait.
        let at_first = self.load().await.map_or(Position(0), |now| now.least(wants));
        if at_first >= position {
            return Visibility::Reached;
        }
        let mut checkpoints = self.subscribe();
        loop {
            // The poll may not have had its first answer yet.
            let reached = checkpoints.borrow_and_update().least(wants).max(at_first);
            if reached >= position {
                return Visibility::Reached;
            }
            let woken = tokio::time::timeout_at(deadline, checkpoints.changed()).await;
            if !matches!(woken, Ok(Ok(()))) {
                return Visibility::NotYet { reached };
            }
        }
    }

    /// Joins the waiters; the first of them starts the poll.
    fn subscribe(&self) -> watch::Receiver<Checkpoints> {
        let mut poll = self.poll.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*poll {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(Checkpoints::default());
        let sender = Arc::new(sender);
        *poll = Some(Arc::clone(&sender));
        tokio::spawn(self.clone().poll(sender));
        receiver
    }

    /// Asks until nobody waits any more.
    async fn poll(self, sender: Arc<watch::Sender<Checkpoints>>) {
        loop {
            match self.load().await {
                Ok(checkpoints) => drop(sender.send(checkpoints)),
                Err(error) => tracing::debug!(%error, "checkpoints cannot be asked for"),
            }
            tokio::time::sleep(ASK_EVERY).await;
            // Nobody can join between the look and the end: joining takes the same lock.
            let mut poll = self.poll.lock().unwrap_or_else(PoisonError::into_inner);
            if sender.receiver_count() == 0 {
                *poll = None;
                return;
            }
        }
    }

    async fn load(&self) -> Result<Checkpoints, sqlx::Error> {
        let rows = sqlx::query_file!("projections/list_checkpoints.sql").fetch_all(&self.pool).await?;
        let places = rows.into_iter().map(|row| {
            let place = (Position(row.scanned_to), Position(row.price_position));
            ((row.read_model, Shard(row.shard)), place)
        });
        Ok(Checkpoints(Arc::new(places.collect())))
    }
}

impl Checkpoints {
    /// How far all that is wanted has come.
    fn least(&self, wants: &[Want]) -> Position {
        let reached = |want: &Want| {
            let (Want::Events(read_model, shard) | Want::Prices(read_model, shard)) = want;
            let place = self.0.get(&((*read_model).to_owned(), *shard)).copied();
            let (scanned_to, price_position) = place.unwrap_or_default();
            if matches!(want, Want::Events(..)) { scanned_to } else { price_position }
        };
        wants.iter().map(reached).min().unwrap_or(Position(i64::MAX))
    }
}

/// Which checkpoints a read of these read models has to wait for.
fn wants(shards: &[Shard], read_models: &[&'static str], portfolio: Option<Shard>) -> Vec<Want> {
    let mut wants = Vec::new();
    for read_model in read_models {
        let follows_jobs = *read_model == "jobs";
        let follows_market = matches!(*read_model, "directory" | "prices");
        let follows_portfolios = !matches!(*read_model, "prices" | "jobs");
        for shard in shards {
            if shard.0 >= JOB_SHARD_FIRST {
                if follows_jobs {
                    wants.push(Want::Events(read_model, *shard));
                }
                continue;
            }
            match (*shard == MARKET_SHARD, JOINED.contains(read_model)) {
                (true, true) => match portfolio {
                    Some(shard) => wants.push(Want::Prices(read_model, shard)),
                    None => wants.extend((0..PORTFOLIO_SHARDS).map(|it| Want::Prices(read_model, Shard(it)))),
                },
                (true, false) if follows_market => wants.push(Want::Events(read_model, *shard)),
                (false, _) if follows_portfolios => wants.push(Want::Events(read_model, *shard)),
                _ => {}
            }
        }
    }
    wants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trade_is_waited_for_in_its_shard_only() {
        assert_eq!(wants(&[Shard(7)], &["holdings"], None), [Want::Events("holdings", Shard(7))]);
        assert_eq!(wants(&[Shard(7)], &["prices"], None), []);
    }

    #[test]
    fn a_job_is_waited_for_where_jobs_are() {
        let jobs = Shard(JOB_SHARD_FIRST);
        assert_eq!(wants(&[jobs], &["jobs"], None), [Want::Events("jobs", jobs)]);
        assert_eq!(wants(&[jobs], &["holdings", "directory", "valuations"], None), []);
        assert_eq!(wants(&[Shard(7), MARKET_SHARD], &["jobs"], None), []);
    }

    #[test]
    fn a_price_is_waited_for_where_it_is_joined() {
        let of_one = wants(&[MARKET_SHARD], &["valuations", "holdings"], Some(Shard(3)));
        assert_eq!(of_one, [Want::Prices("valuations", Shard(3))]);
        assert_eq!(wants(&[MARKET_SHARD], &["risk"], None).len(), 32);
        assert_eq!(wants(&[MARKET_SHARD], &["prices"], None), [Want::Events("prices", MARKET_SHARD)]);
    }

    #[test]
    fn what_was_never_projected_has_reached_nothing() {
        let none = Checkpoints::default();
        assert_eq!(none.least(&[Want::Events("holdings", Shard(1))]), Position(0));
    }
}
