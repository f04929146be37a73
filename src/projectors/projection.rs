//! One read model on its way: batch in, one transaction out.
//!
//! A batch goes through five steps, of which only the first and the last two touch the database:
//!
//! | step | what | on failure |
//! | --- | --- | --- |
//! | admit | decode; leave out what is known or parked | a newer program's event halts |
//! | prepare | load what the batch needs and memory lacks, one statement a table | transient |
//! | apply | pure fold | the stream is parked |
//! | advance | checkpoints, where they are still ours | lost |
//! | flush | rows, one statement a table | transient |
//!
//! After a transient failure or a lost shard the caller drops everything and loads it again, so memory may run ahead of
//! the rows in between but is never wrong for long. An unknown outcome of a commit is settled the same way: the
//! checkpoint tells.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::checkpoint::{self, Checkpoint, Checkpoints, Idle};
use super::copy::Written;
use super::parking::{self, Parking, Poison};
use super::{Error, error};
use crate::domain::ids::{Position, Shard};
use crate::event_store::Place;
use crate::events::{Envelope, Event};
use crate::feed::{Batch, Topics};

/// From so many folded events on, a flush is two transactions at once: PostgreSQL works on both, and less would not repay
/// the second commit.
const HALVED_FROM: usize = 1_000;

/// An event and the fact inside.
#[derive(Debug, Clone)]
pub struct Fact {
    /// What is known about it.
    pub envelope: Arc<Envelope>,
    /// What it says.
    pub event: Event,
}

/// Whether a batch can be folded now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// All it needs is in memory.
    Ready,
    /// It is made from another read model that has not come as far. Ask again.
    NotYet,
}

/// What a read model is: a fold, what it loads, and what it writes.
///
/// An [`Error::Database`] is taken for transient: everything is dropped and loaded again. Any other error halts.
///
/// Statements run on a connection whose `search_path` is the read model's schema. Memory holds only what stands in rows,
/// besides the changes since the last flush.
pub trait ReadModel: Send + Sync + 'static {
    /// The name: of the folder in `projections/`, the schema, the files, the consumer group.
    const NAME: &'static str;
    /// What it reads.
    const TOPICS: Topics;

    /// Takes over shards that it may now write. Called before their first event, and again after every failure.
    fn assigned(
        &mut self,
        _conn: &mut PgConnection,
        _checkpoints: &[Checkpoint],
    ) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// Loads what these facts need and memory lacks: one statement a table, whatever the number of facts.
    fn prepare(
        &mut self,
        _conn: &mut PgConnection,
        _facts: &[Fact],
    ) -> impl Future<Output = Result<Readiness, Error>> + Send {
        async { Ok(Readiness::Ready) }
    }

    /// Folds a fact into memory; all of it or, if it cannot be applied, nothing. Facts that do not concern it it ignores.
    ///
    /// # Errors
    /// [`Poison`]: the stream is parked.
    fn apply(&mut self, fact: &Fact) -> Result<(), Poison>;

    /// Writes what has changed since the last flush: one statement a table.
    fn flush(&mut self, conn: &mut PgConnection) -> impl Future<Output = Result<(), Error>> + Send;

    /// Makes ready to write what changed shard by shard: [`ReadModel::write`] for every shard, then [`ReadModel::written`].
    /// Returns whether it can.
    fn ready_by_shard(&mut self) -> bool {
        false
    }

    /// Writes what has changed in these shards.
    fn write(
        &self,
        _conn: &mut PgConnection,
        _shards: &[Shard],
    ) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// Everything that had changed is written.
    fn written(&mut self) {}

    /// Drops all state of these shards, written or not.
    fn forget(&mut self, shards: &[Shard]);

    /// Reads what it joins up to the head of the log, where no feed brings it: for a rebuild.
    fn catch_up(&mut self, _pool: &PgPool) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// Returns when rows changed for another reason than an event of the feed. It must be safe to cancel.
    fn woken(&mut self) -> impl Future<Output = Result<(), Error>> + Send {
        std::future::pending()
    }

    /// The shards whose rows changed for such a reason since the last flush.
    fn changed(&self) -> BTreeSet<Shard> {
        BTreeSet::new()
    }

    /// The reader's place in the market shard, where prices are joined.
    fn price_position(&self) -> Position {
        Position(0)
    }
}

/// A read model that follows from the log alone, so that a rebuild can fold whole shards in memory.
pub trait FromLog: ReadModel {
    /// A read model that loads nothing: memory has every stream that it meets from its first event on.
    fn from_nothing() -> Self;

    /// About how many bytes memory takes: what a rebuild bounds.
    fn held_bytes(&self) -> usize;

    /// Writes all of memory by COPY into tables that hold nothing of these streams, and forgets it. What is said to be
    /// written are the sums to compare the tables with.
    fn copy(&mut self, conn: &mut PgConnection) -> impl Future<Output = Result<Vec<Written>, Error>> + Send;
}

/// What became of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Rows and checkpoints are committed, or nothing had changed.
    Written,
    /// Another process has written a shard since: nothing was written.
    Lost,
    /// The batch waits for another read model; nothing of it was folded.
    NotYet,
}

/// A read model with its place, its parked streams and its connections.
pub(super) struct Projection<M> {
    pub(super) model: M,
    pool: PgPool,
    checkpoints: Checkpoints,
    parking: Parking,
    parked_streams_max: usize,
    /// Events folded since the last flush.
    unwritten: usize,
}

impl<M: ReadModel> Projection<M> {
    /// A projection of no shard yet. The pool's `search_path` is the read model's schema.
    pub(super) fn new(model: M, pool: PgPool, parked_streams_max: usize) -> Self {
        let (checkpoints, parking) = (Checkpoints::default(), Parking::default());
        Self { model, pool, checkpoints, parking, parked_streams_max, unwritten: 0 }
    }

    /// Loads the shards' state and says where their feed goes on.
    pub(super) async fn assign(&mut self, shards: &[Shard]) -> Result<Vec<(Shard, Place)>, Error> {
        self.revoke(shards);
        self.load(shards).await.map_err(Self::classify)
    }

    async fn load(&mut self, shards: &[Shard]) -> Result<Vec<(Shard, Place)>, Error> {
        let mut conn = self.pool.acquire().await?;
        let checkpoints = checkpoint::load(&mut conn, shards).await?;
        let parked = parking::load(&mut conn, shards).await?;
        self.model.assigned(&mut conn, &checkpoints).await?;
        let places = checkpoints.iter().map(|mine| (mine.shard, mine.place.clone())).collect();
        self.checkpoints.insert(checkpoints);
        self.parking.insert(parked);
        Ok(places)
    }

    /// Drops the shards' state.
    pub(super) fn revoke(&mut self, shards: &[Shard]) {
        self.checkpoints.remove(shards);
        self.parking.remove(shards);
        self.model.forget(shards);
    }

    /// The shards that are ours.
    pub(super) fn shards(&self) -> Vec<Shard> {
        self.checkpoints.shards()
    }

    /// Where they stand.
    pub(super) fn checkpoints(&self) -> impl Iterator<Item = &Checkpoint> {
        self.checkpoints.iter()
    }

    /// How many streams are parked.
    pub(super) fn parked(&self) -> usize {
        self.parking.len()
    }

    /// Folds a batch and commits it with its checkpoints.
    pub(super) async fn project(&mut self, batch: &Batch) -> Result<Flushed, Error> {
        let new: Vec<_> =
            batch.events.iter().filter(|event| self.checkpoints.is_new(event)).cloned().collect();
        let count = new.len() as u64;
        let facts = self.parking.admit(M::NAME, new.clone())?;
        if self.prepare(&facts).await.map_err(Self::classify)? == Readiness::NotYet {
            return Ok(Flushed::NotYet);
        }
        for fact in &facts {
            self.apply(fact);
        }
        self.not_too_many_parked()?;
        new.iter().for_each(|event| self.checkpoints.fold(event));
        self.unwritten += new.len();
        self.checkpoints.scan(&batch.scanned_to);
        let flushed = self.flush(Idle::Leave).await?;
        if flushed == Flushed::Written {
            ::metrics::counter!("insight_projector_events_total", "read_model" => M::NAME).increment(count);
        }
        Ok(flushed)
    }

    /// Folds events of whole shards into memory that began with nothing.
    pub(super) fn gather(&mut self, events: Vec<Arc<Envelope>>) -> Result<(), Error> {
        for fact in self.parking.admit(M::NAME, events)? {
            self.apply(&fact);
        }
        self.not_too_many_parked()
    }

    fn not_too_many_parked(&self) -> Result<(), Error> {
        let (parked, max) = (self.parking.len(), self.parked_streams_max);
        if parked > max {
            return Err(Error::TooManyParked { read_model: M::NAME, parked, max });
        }
        Ok(())
    }

    async fn prepare(&mut self, facts: &[Fact]) -> Result<Readiness, Error> {
        if facts.is_empty() {
            return Ok(Readiness::Ready);
        }
        let mut conn = self.pool.acquire().await?;
        self.model.prepare(&mut conn, facts).await
    }

    fn apply(&mut self, fact: &Fact) {
        let envelope = &fact.envelope;
        // An earlier event of the batch may have parked the stream.
        if self.parking.is_parked(envelope) {
            return;
        }
        match self.model.apply(fact) {
            Ok(()) => tracing::trace!(
                position = %envelope.position, stream = %envelope.stream_id,
                correlation_id = %envelope.correlation_id, "applied"
            ),
            Err(poison) => self.parking.park(envelope, poison.to_string()),
        }
    }

    /// Commits what has changed, if anything has.
    pub(super) async fn flush(&mut self, idle: Idle) -> Result<Flushed, Error> {
        let due = self.checkpoints.due(&self.model.changed(), idle, self.model.price_position());
        if due.is_empty() {
            return Ok(Flushed::Written);
        }
        let started = Instant::now();
        let flushed = self.commit(due).await.map_err(Self::classify)?;
        ::metrics::histogram!("insight_projector_flush_seconds", "read_model" => M::NAME)
            .record(started.elapsed().as_secs_f64());
        Ok(flushed)
    }

    async fn commit(&mut self, due: Vec<Checkpoint>) -> Result<Flushed, Error> {
        let unwritten = std::mem::take(&mut self.unwritten);
        if unwritten >= HALVED_FROM && due.len() > 1 && self.model.ready_by_shard() {
            return self.commit_halves(due).await;
        }
        let wanted = due.len();
        let mut tx = self.pool.begin().await?;
        let written = checkpoint::advance(&mut tx, due).await?;
        if written.len() < wanted {
            tx.rollback().await?;
            return Ok(Flushed::Lost);
        }
        parking::write(&mut tx, &self.parking, |_| true).await?;
        self.model.flush(&mut tx).await?;
        tx.commit().await?;
        self.checkpoints.written(written);
        self.parking.written();
        Ok(Flushed::Written)
    }

    /// Commits much in two transactions at once, each with the rows and checkpoints of its own shards. Should one fail, the
    /// other stands, and what is in memory is dropped and loaded again, as after any failure.
    async fn commit_halves(&mut self, due: Vec<Checkpoint>) -> Result<Flushed, Error> {
        let (even, odd) = due.into_iter().partition(|mine| mine.shard.0 % 2 == 0);
        let (even, odd) = tokio::join!(self.commit_half(even), self.commit_half(odd));
        let (Some(mut written), Some(odd)) = (even?, odd?) else { return Ok(Flushed::Lost) };
        written.extend(odd);
        self.checkpoints.written(written);
        self.parking.written();
        self.model.written();
        Ok(Flushed::Written)
    }

    /// None where another process has written one of the shards.
    async fn commit_half(&self, due: Vec<Checkpoint>) -> Result<Option<Vec<Checkpoint>>, Error> {
        let shards: Vec<Shard> = due.iter().map(|mine| mine.shard).collect();
        let mut tx = self.pool.begin().await?;
        let written = checkpoint::advance(&mut tx, due).await?;
        if written.len() < shards.len() {
            tx.rollback().await?;
            return Ok(None);
        }
        parking::write(&mut tx, &self.parking, |shard| shards.contains(&shard)).await?;
        self.model.write(&mut tx, &shards).await?;
        tx.commit().await?;
        Ok(Some(written))
    }

    /// Commits what was gathered, with checkpoints of shards that have none yet and with the sums of what was written.
    pub(super) async fn copy(&mut self, begun: &[Checkpoint], sums: &str) -> Result<(), Error>
    where
        M: FromLog,
    {
        self.copy_all(begun, sums).await.map_err(Self::classify)
    }

    async fn copy_all(&mut self, begun: &[Checkpoint], sums: &str) -> Result<(), Error>
    where
        M: FromLog,
    {
        let mut tx = self.pool.begin().await?;
        parking::write(&mut tx, &self.parking, |_| true).await?;
        for written in self.model.copy(&mut tx).await? {
            sqlx::query(AssertSqlSafe(sums))
                .bind(written.table)
                .bind(written.columns)
                .bind(written.sum.rows as i64)
                .bind(written.sum.checksum as i64)
                .execute(&mut *tx)
                .await?;
        }
        checkpoint::begin(&mut tx, begun).await?;
        tx.commit().await?;
        self.parking.written();
        Ok(())
    }

    /// By which the shards are known to be ours.
    pub(super) fn revisions(&self) -> Vec<(Shard, i64)> {
        self.checkpoints.iter().map(|mine| (mine.shard, mine.revision)).collect()
    }

    /// Tells a failure that would come again from one that passes.
    fn classify(error: Error) -> Error {
        match error {
            Error::Database(source) if error::is_about_values(&source) => {
                Error::Rows { read_model: M::NAME, source }
            }
            other => other,
        }
    }
}
