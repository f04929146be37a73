//! Parked streams, caught up again: after a new version of the program, or without their bad event.
//!
//! It is one transaction beside whatever runs:
//!
//! | step | why |
//! | --- | --- |
//! | lock the shard's checkpoint | no flush comes between; the stream is to stand where the shard stands |
//! | load the state, fold the stream's events from the parked one up to the checkpoint, write the rows | the same code as live |
//! | take the stream off, or park it at the event that still cannot be applied | |
//! | move the checkpoint's revision | the live projector loses its compare-and-set, loads again and goes on with the stream |
//!
//! Read models that are made from others have no fold of their own: their rows are read again. So what is made from
//! `holdings` is computed again for the shard once `holdings` has caught up. In `prices`, what an asset's streams say hangs
//! together, so the whole asset is folded again from its first event.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::checkpoint::{self, Checkpoint};
use super::parking::{self, Parking};
use super::projection::{ReadModel, Readiness};
use super::risk::{Engine, Risk};
use super::stream_events::StreamEvents;
use super::valuations::Valuations;
use super::{Error, activity, directory, holdings, jobs, prices, schema};
use crate::domain::ids::{AssetId, MARKET_SHARD, Position, Shard, StreamId};
use crate::event_store::{self, read};

/// How long another read model may be behind before that is an answer.
const WAITS_WITHIN: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Computing risk takes a moment, in which the transaction stands still.
const PATIENT: &str = "set local idle_in_transaction_session_timeout = '60s'";

/// A stream that holds an event which could not be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedStream {
    /// The stream.
    pub stream_id: StreamId,
    /// The first event whose effect is missing.
    pub position: Position,
    /// Its name.
    pub event_id: String,
    /// Why it could not be applied.
    pub reason: String,
}

/// An event that somebody decided to do without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedEvent {
    /// Its stream.
    pub stream_id: StreamId,
    /// Its place.
    pub position: Position,
    /// Why it could not be applied.
    pub poison: String,
    /// Why it is done without.
    pub reason: String,
    /// When that was decided.
    pub skipped_at: DateTime<Utc>,
}

/// What to do about the bad event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cure<'a> {
    /// Apply it.
    Retry,
    /// Do without it, for this reason.
    Skip(&'a str),
}

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unparked {
    /// It stands where its shard stands.
    CaughtUp {
        /// Events folded.
        events: u64,
    },
    /// It is parked, perhaps further on than before.
    Again(ParkedStream),
}

/// The parked streams of a read model, in the order of their events.
///
/// # Errors
/// The database.
pub async fn list_parked(pool: &PgPool, read_model: &str) -> Result<Vec<ParkedStream>, Error> {
    let rows = schema::live_pool(pool, read_model, 1)?;
    let found = sqlx::query_file!("projections/list_parked_events.sql").fetch_all(&rows).await;
    rows.close().await;
    let parked = found?.into_iter().map(|row| ParkedStream {
        stream_id: StreamId::from(row.stream_id.as_str()),
        position: Position(row.position),
        event_id: row.event_id,
        reason: row.reason,
    });
    Ok(parked.collect())
}

/// The events that a read model does without, in their order.
///
/// # Errors
/// The database.
pub async fn list_skipped(pool: &PgPool, read_model: &str) -> Result<Vec<SkippedEvent>, Error> {
    let rows = schema::live_pool(pool, read_model, 1)?;
    let found = sqlx::query_file!("projections/list_skipped_events.sql").fetch_all(&rows).await;
    rows.close().await;
    let skipped = found?.into_iter().map(|row| SkippedEvent {
        stream_id: StreamId::from(row.stream_id.as_str()),
        position: Position(row.position),
        poison: row.poison,
        reason: row.reason,
        skipped_at: row.skipped_at,
    });
    Ok(skipped.collect())
}

/// Catches a parked stream up, and what is made from it.
///
/// # Errors
/// [`Error::NotParked`], [`Error::ParkedBelow`], [`Error::NewerProgram`]; the database. Nothing has changed then.
pub async fn unpark(
    read_model: &str,
    pool: &PgPool,
    stream: &StreamId,
    cure: Cure<'_>,
    engine: Engine,
) -> Result<Unparked, Error> {
    let job = Job { pool, stream, cure };
    match schema::Schema::named(read_model)?.name {
        "directory" => job.run(async { Ok(directory::Directory::default()) }).await,
        "activity" => job.run(async { Ok(activity::Activity::default()) }).await,
        "prices" => job.run(async { Ok(prices::Prices::default()) }).await,
        "jobs" => job.run(async { Ok(jobs::Jobs::default()) }).await,
        "holdings" => {
            // Also where it had caught up before: what is made from it may not have followed.
            let unparked = job.run(async { Ok(holdings::Holdings::default()) }).await;
            if !matches!(unparked, Ok(_) | Err(Error::NotParked { .. })) {
                return unparked;
            }
            compute_again(pool, stream.shard(), Valuations::at_rest(pool)).await?;
            compute_again(pool, stream.shard(), Risk::at_rest(pool, engine)).await?;
            unparked
        }
        "valuations" => {
            job.needs_holdings("valuations").await?;
            job.run(Valuations::at_rest(pool)).await
        }
        "risk" => {
            job.needs_holdings("risk").await?;
            job.run(Risk::at_rest(pool, engine)).await
        }
        other => Err(Error::UnknownReadModel(other.to_owned())),
    }
}

/// One stream to catch up.
struct Job<'a> {
    pool: &'a PgPool,
    stream: &'a StreamId,
    cure: Cure<'a>,
}

impl Job<'_> {
    /// Refuses while the rows that this read model is made from stand before the bad event themselves.
    async fn needs_holdings(&self, read_model: &'static str) -> Result<(), Error> {
        let below = list_parked(self.pool, "holdings").await?;
        if below.iter().any(|parked| parked.stream_id == *self.stream) {
            let stream = self.stream.clone();
            return Err(Error::ParkedBelow { read_model, needed: "holdings", stream });
        }
        Ok(())
    }

    async fn run<M: ReadModel>(
        &self,
        model: impl Future<Output = Result<M, Error>>,
    ) -> Result<Unparked, Error> {
        let rows = schema::live_pool(self.pool, M::NAME, 2)?;
        let unparked = self.catch_up(&rows, model).await;
        rows.close().await;
        unparked
    }

    async fn catch_up<M: ReadModel>(
        &self,
        rows: &PgPool,
        model: impl Future<Output = Result<M, Error>>,
    ) -> Result<Unparked, Error> {
        let mut tx = rows.begin().await?;
        sqlx::query(PATIENT).execute(&mut *tx).await?;
        let Some(mine) = lock_checkpoint(&mut tx, self.stream.shard()).await? else {
            return Err(self.not_parked::<M>());
        };
        let found = sqlx::query_file!("projections/find_parked_stream.sql", self.stream.as_str());
        let Some(parked) = found.fetch_optional(&mut *tx).await? else { return Err(self.not_parked::<M>()) };
        let bad = read::find(self.pool, Position(parked.position)).await?;
        let Some(bad) = bad.filter(|bad| bad.event_id.to_string() == parked.event_id) else {
            let reason = format!("position {} was event {}", parked.position, parked.event_id);
            return Err(event_store::Error::Fork { reason }.into());
        };
        if let Cure::Skip(reason) = self.cure {
            let insert = sqlx::query_file!(
                "projections/insert_skipped_event.sql",
                parked.position,
                self.stream.as_str(),
                parked.event_id,
                parked.reason,
                reason,
            );
            insert.execute(&mut *tx).await?;
        }
        sqlx::query_file!("projections/delete_parked_stream.sql", self.stream.as_str())
            .execute(&mut *tx)
            .await?;

        prices_reach(self.pool, &mine).await?;
        let to = mine.place.position;
        let mut events = match asset_of(self.stream).filter(|_| M::NAME == prices::Prices::NAME) {
            Some(asset) => self.whole_asset(&mut tx, asset, to).await?,
            None => StreamEvents::new([(self.stream.clone(), bad.version.0 - 1)], to),
        };
        if let Cure::Skip(_) = self.cure {
            events.leave_out(Position(parked.position));
        }
        let mut model = model.await?;
        model.assigned(&mut tx, std::slice::from_ref(&mine)).await?;
        let (folded, parking) = fold(&mut model, &mut tx, self.pool, events).await?;
        parking::write(&mut tx, &parking, |_| true).await?;
        let price_position = mine.price_position.max(model.price_position());
        let moved = checkpoint::advance(&mut tx, vec![Checkpoint { price_position, ..mine }]).await?;
        if moved.is_empty() {
            return Err(Error::Lost { read_model: M::NAME.to_owned() });
        }
        let again = sqlx::query_file!("projections/find_parked_stream.sql", self.stream.as_str());
        let again = again.fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        Ok(match again {
            None => Unparked::CaughtUp { events: folded },
            Some(row) => Unparked::Again(ParkedStream {
                stream_id: self.stream.clone(),
                position: Position(row.position),
                event_id: row.event_id,
                reason: row.reason,
            }),
        })
    }

    /// All events of an asset but those that are done without, and its rows out of the way.
    async fn whole_asset(
        &self,
        conn: &mut PgConnection,
        asset: AssetId,
        to: Position,
    ) -> Result<StreamEvents, Error> {
        sqlx::query_file!("projections/prices/delete_asset.sql", asset.0).execute(&mut *conn).await?;
        let streams = [asset.stream(), asset.price_stream()];
        let mut events = StreamEvents::new(streams.clone().map(|stream| (stream, 0)), to);
        let skipped = sqlx::query_file!("projections/list_skipped_events.sql").fetch_all(&mut *conn).await?;
        for row in skipped.iter().filter(|row| streams.iter().any(|stream| stream.as_str() == row.stream_id))
        {
            events.leave_out(Position(row.position));
        }
        // The asset's other stream may be parked as well, and stays so.
        let parked = parking::load(conn, &[MARKET_SHARD]).await?;
        for (stream, position) in parked.into_iter().filter(|(stream, _)| streams.contains(stream)) {
            events.end_before(&stream, position);
        }
        Ok(events)
    }

    fn not_parked<M: ReadModel>(&self) -> Error {
        Error::NotParked { read_model: M::NAME, stream: self.stream.clone() }
    }
}

/// Folds events and writes the rows. A stream that cannot go on is parked.
async fn fold<M: ReadModel>(
    model: &mut M,
    conn: &mut PgConnection,
    pool: &PgPool,
    mut events: StreamEvents,
) -> Result<(u64, Parking), Error> {
    let (mut folded, mut parking) = (0, Parking::default());
    loop {
        let next = events.next(pool).await?;
        if next.is_empty() {
            // Read models without a fold have something to write all the same.
            model.flush(conn).await?;
            return Ok((folded, parking));
        }
        let facts = parking.admit(M::NAME, next.into_iter().map(Arc::new).collect())?;
        if model.prepare(conn, &facts).await? == Readiness::NotYet {
            let head = facts.last().map_or(Position(0), |fact| fact.envelope.position);
            let needed = "holdings";
            return Err(Error::NeedsFirst {
                read_model: M::NAME.to_owned(),
                needed,
                reached: Position(0),
                head,
            });
        }
        for fact in &facts {
            if parking.is_parked(&fact.envelope) {
                continue;
            }
            match model.apply(fact) {
                Ok(()) => folded += 1,
                Err(poison) => parking.park(&fact.envelope, poison.to_string()),
            }
        }
        model.flush(conn).await?;
    }
}

/// Computes the rows of one shard again of a read model that is made from others.
async fn compute_again<M: ReadModel>(
    pool: &PgPool,
    shard: Shard,
    model: impl Future<Output = Result<M, Error>>,
) -> Result<(), Error> {
    let rows = schema::live_pool(pool, M::NAME, 2)?;
    let computed = async {
        let mut tx = rows.begin().await?;
        sqlx::query(PATIENT).execute(&mut *tx).await?;
        // Nobody has projected it yet: whoever does computes all of it.
        let Some(mine) = lock_checkpoint(&mut tx, shard).await? else { return Ok(()) };
        prices_reach(pool, &mine).await?;
        let mut model = model.await?;
        model.assigned(&mut tx, std::slice::from_ref(&mine)).await?;
        let price_position = mine.price_position.max(model.price_position());
        model.flush(&mut tx).await?;
        let moved = checkpoint::advance(&mut tx, vec![Checkpoint { price_position, ..mine }]).await?;
        if moved.is_empty() {
            return Err(Error::Lost { read_model: M::NAME.to_owned() });
        }
        tx.commit().await?;
        Ok(())
    };
    let computed = computed.await;
    rows.close().await;
    computed
}

async fn lock_checkpoint(conn: &mut PgConnection, shard: Shard) -> Result<Option<Checkpoint>, Error> {
    let locked = sqlx::query_file!("projections/lock_checkpoint.sql", shard.0);
    if locked.fetch_optional(&mut *conn).await?.is_none() {
        return Ok(None);
    }
    Ok(checkpoint::load(conn, &[shard]).await?.pop())
}

/// Waits until the rows of `prices` are as far as the reader of this shard has been.
async fn prices_reach(pool: &PgPool, mine: &Checkpoint) -> Result<(), Error> {
    let deadline = tokio::time::Instant::now() + WAITS_WITHIN;
    let rows = schema::live_pool(pool, prices::Prices::NAME, 1)?;
    let reached = loop {
        let found = checkpoint::load(&mut *rows.acquire().await?, &[MARKET_SHARD]).await?;
        let reached = found.iter().map(|it| it.scanned_to).max().unwrap_or_default();
        if reached >= mine.price_position || tokio::time::Instant::now() >= deadline {
            break reached;
        }
        tokio::time::sleep(ASK_EVERY).await;
    };
    rows.close().await;
    if reached >= mine.price_position {
        return Ok(());
    }
    let read_model = format!("shard {}", mine.shard);
    Err(Error::NeedsFirst { read_model, needed: prices::Prices::NAME, reached, head: mine.price_position })
}

/// The asset whose facts or prices are in a stream.
fn asset_of(stream: &StreamId) -> Option<AssetId> {
    match stream.kind_and_rest() {
        ("asset" | "price", id) => Uuid::parse_str(id).ok().map(AssetId),
        _ => None,
    }
}
