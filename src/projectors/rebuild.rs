//! Making a read model's rows again from the log.
//!
//! The tables are dropped and made anew, and the events of its shards go through the same code as live: what is rebuilt
//! is what would have been projected. It needs the read model alone; projectors wait until it is done and then go on
//! from the checkpoints that it leaves. Interrupted, it leaves tables that are right as far as they go: a projector
//! finishes them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;

use super::checkpoint::Idle;
use super::projection::{Flushed, Projection, ReadModel};
use super::schema::{self, Schema};
use super::{Error, Settings, tables_lock};
use crate::domain::ids::{Position, Shard};
use crate::event_store::{ChunkSize, read};
use crate::feed::{Batch, Topics};
use crate::postgres::SessionLock;

/// How many events are read at once, and about how many bytes.
const SLICE_EVENTS: usize = 10_000;
const SLICE_BYTES: usize = 16 << 20;

/// How far a rebuild is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// All events up to here are in the rows.
    pub position: Position,
    /// The last event of the log, as of the last look.
    pub head: Position,
    /// Events of the log passed per second since the start.
    pub events_per_second: f64,
}

/// Makes the rows of the read model of this name again, up to the head of the log.
///
/// # Errors
/// [`Error::UnknownReadModel`], [`Error::InUse`] while a projector of it runs, [`Error::NeedsFirst`] where it is made
/// from another read model that is not there yet, and whatever stops a projector.
pub async fn rebuild(
    name: &str,
    pool: &PgPool,
    engine: super::risk::Engine,
    progress: impl FnMut(Progress) + Send,
) -> Result<(), Error> {
    match Schema::named(name)?.name {
        "directory" => rebuild_as(super::directory::Directory::default(), pool, progress).await,
        "holdings" => rebuild_as(super::holdings::Holdings::default(), pool, progress).await,
        "activity" => rebuild_as(super::activity::Activity::default(), pool, progress).await,
        "prices" => rebuild_as(super::prices::Prices::default(), pool, progress).await,
        "valuations" => {
            let model = super::valuations::Valuations::at_rest(pool).await?;
            rebuild_from_holdings(model, pool, progress).await
        }
        "risk" => {
            let model = super::risk::Risk::at_rest(pool, engine).await?;
            rebuild_from_holdings(model, pool, progress).await
        }
        other => Err(Error::UnknownReadModel(other.to_owned())),
    }
}

/// Makes the rows of one read model again.
///
/// # Errors
/// As [`rebuild`].
pub async fn rebuild_as<M: ReadModel>(
    model: M,
    pool: &PgPool,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<(), Error> {
    let Some(lock) = SessionLock::try_alone(&pool.connect_options(), &tables_lock(M::NAME)).await? else {
        return Err(Error::InUse { read_model: M::NAME.to_owned() });
    };
    schema::recreate(&mut *pool.acquire().await?, Schema::named(M::NAME)?).await?;

    let rows = schema::pool_in(pool, M::NAME, 2);
    let mut projection = Projection::new(model, rows.clone(), Settings::default().parked_streams_max);
    let shards = M::TOPICS.shards();
    projection.assign(&shards).await?;

    let started = Instant::now();
    let mut position = Position(0);
    let mut chunk = ChunkSize::new(SLICE_EVENTS, SLICE_BYTES);
    loop {
        let slice = read::after(pool, position, chunk.events() as i64).await?;
        chunk.observe(&slice.events);
        position = slice.events.last().map_or(slice.head, |event| event.position);
        let events = slice.events.into_iter().map(Arc::new).collect();
        let scanned_to: Vec<(Shard, Position)> = shards.iter().map(|shard| (*shard, position)).collect();
        fold(&mut projection, Batch { events, scanned_to }).await?;
        let rate = position.0 as f64 / started.elapsed().as_secs_f64().max(1e-9);
        progress(Progress { position, head: slice.head, events_per_second: rate });
        if position >= slice.head {
            break;
        }
    }
    written::<M>(projection.flush(Idle::Write).await?)?;
    rows.close().await;
    lock.release().await;
    Ok(())
}

/// Makes the rows of a read model again that is a function of `holdings` and `prices`: as of where those two stand.
///
/// # Errors
/// As [`rebuild`].
pub async fn rebuild_from_holdings<M: ReadModel>(
    model: M,
    pool: &PgPool,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<(), Error> {
    let Some(lock) = SessionLock::try_alone(&pool.connect_options(), &tables_lock(M::NAME)).await? else {
        return Err(Error::InUse { read_model: M::NAME.to_owned() });
    };
    let head = read::head(pool).await?;
    needs(pool, M::NAME, "holdings", head).await?;
    needs(pool, M::NAME, "prices", head).await?;
    schema::recreate(&mut *pool.acquire().await?, Schema::named(M::NAME)?).await?;

    let rows = schema::pool_in(pool, M::NAME, 2);
    // The places first: rows that are read afterwards are at least as far.
    sqlx::query_file!("projections/copy_holdings_checkpoints.sql").execute(&rows).await?;
    let started = Instant::now();
    let mut projection = Projection::new(model, rows.clone(), Settings::default().parked_streams_max);
    let places = projection.assign(&M::TOPICS.shards()).await?;
    written::<M>(projection.flush(Idle::Write).await?)?;
    let position = places.iter().map(|(_, place)| place.position).max().unwrap_or_default();
    let rate = position.0 as f64 / started.elapsed().as_secs_f64().max(1e-9);
    progress(Progress { position, head, events_per_second: rate });
    rows.close().await;
    lock.release().await;
    Ok(())
}

/// Refuses unless the read model that another is made from has begun in every shard.
async fn needs(pool: &PgPool, name: &'static str, needed: &'static str, head: Position) -> Result<(), Error> {
    let shards = match needed {
        "prices" => Topics::Market.shards(),
        _ => Topics::Portfolio.shards(),
    };
    let rows = schema::pool_in(pool, needed, 1);
    let mine: Vec<i16> = shards.iter().map(|shard| shard.0).collect();
    let found = sqlx::query_file!("projections/load_checkpoints.sql", &mine).fetch_all(&rows).await?;
    rows.close().await;
    let least = found.iter().map(|row| row.scanned_to).min().unwrap_or_default();
    let reached = Position(if found.len() < shards.len() { 0 } else { least });
    if reached == Position(0) && head > Position(0) {
        return Err(Error::NeedsFirst { read_model: name.to_owned(), needed, reached, head });
    }
    Ok(())
}

async fn fold<M: ReadModel>(projection: &mut Projection<M>, batch: Batch) -> Result<(), Error> {
    loop {
        match projection.project(&batch).await? {
            Flushed::NotYet => tokio::time::sleep(Duration::from_millis(50)).await,
            done => return written::<M>(done),
        }
    }
}

fn written<M: ReadModel>(flushed: Flushed) -> Result<(), Error> {
    match flushed {
        Flushed::Written => Ok(()),
        Flushed::Lost | Flushed::NotYet => Err(Error::Lost { read_model: M::NAME.to_owned() }),
    }
}
