//! Making a read model's rows again from the log, beside the ones that are being read.
//!
//! | step | what | killed here, the next run |
//! | --- | --- | --- |
//! | begin | `NAME_next` with its tables, without keys and indexes | begins |
//! | load | shard by shard: fold all of it in memory, write what a few seconds brought by COPY, with its checkpoints, in one transaction | goes on with the shards that are not written |
//! | check | count and sum up what stands in the tables, and compare with what was written; then keys and indexes | does it again, table by table |
//! | catch up | fold what the log has gained, as a projector does | goes on from the checkpoints |
//! | promote | one transaction puts `NAME_next` in the place of `NAME`, which becomes `NAME_old` | tries again |
//!
//! What a shard is folded by is the projector's own fold: what is rebuilt is what would have been projected. Where the
//! rebuild stands is in `NAME_next` and nowhere else. Tables of another shape or another history are dropped, and the
//! rebuild begins again.
//!
//! Memory is bounded: a worker (one a core, at most four) holds what it folded of whole shards, at most 128 MiB, and the
//! rows of a message on top. What a shard has beyond that is folded when catching up, which holds what a projector holds.
//!
//! `valuations` and `risk` are functions of `holdings` and `prices`: they are not loaded from the log but computed from the
//! live rows of those, by groups of shards, and then caught up and promoted like the others. What is written that way is not
//! read back.
//!
//! Commits do not wait for the disk, but for the last one, which makes everything before it durable too.

mod beside;
mod catch_up;
mod chase;
mod finish;
mod load;
mod log;
mod pace;
mod promote;
mod served;
pub(crate) mod steps;

use std::time::{Duration, Instant};

use sqlx::PgPool;

use self::beside::{Begun, Beside};
use self::catch_up::{Bounds, Follower};
use self::chase::Chase;
use self::pace::Pace;
use super::projection::{FromLog, ReadModel};
use super::schema::{self, Schema};
use super::{Error, risk};
use crate::domain::ids::Position;
use crate::event_store::read;
use crate::feed::Topics;
use crate::postgres::SessionLock;

/// How a read model is rebuilt.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// At most so many events a second, so that others have the database too.
    pub throttle: Option<u32>,
    /// How much folded state a worker holds before it writes, in bytes.
    pub piece_bytes: usize,
    /// How many workers load.
    pub workers: usize,
    /// How long promotion is tried while others keep the live rows busy.
    pub promote_within: Duration,
    /// How many streams may be parked before it stops, as a projector does.
    pub parked_streams_max: usize,
    /// How risk is computed.
    pub engine: risk::Engine,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            throttle: None,
            piece_bytes: 128 << 20,
            workers: cores.min(4),
            promote_within: Duration::from_secs(120),
            parked_streams_max: super::Settings::default().parked_streams_max,
            engine: risk::Engine::default(),
        }
    }
}

/// What a rebuild says while it works.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// How far it is.
    Progress(Progress),
    /// Something that happens once.
    Note(String),
}

/// How far a rebuild is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// As much of the log is folded as there is up to here.
    pub position: Position,
    /// The last event of the log, as of the last look.
    pub head: Position,
    /// Events of the log passed per second since the start.
    pub events_per_second: f64,
}

/// Hears the news.
pub type Hear<'h> = &'h mut (dyn FnMut(News) + Send);

/// What became of a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promoted {
    /// How long flushes of the live read model were held up.
    pub writers_waited: Duration,
    /// How long reads of it were held up.
    pub readers_waited: Duration,
}

/// Makes the rows of the read model of this name again, up to the head of the log, and puts them in the place of the live
/// ones. Projectors and readers go on meanwhile and afterwards.
///
/// # Errors
/// [`Error::UnknownReadModel`], [`Error::Rebuilding`] while another process does, [`Error::NeedsFirst`] where it is made
/// from another read model that is not there yet, [`Error::CannotPromote`], and whatever stops a projector.
pub async fn rebuild(
    name: &str,
    pool: &PgPool,
    engine: risk::Engine,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<(), Error> {
    let options = Options { engine, ..Options::default() };
    let mut hear = |news| {
        if let News::Progress(it) = news {
            progress(it);
        }
    };
    rebuild_with(name, pool, &options, &mut hear).await.map(drop)
}

/// The same with options, and with more to hear.
///
/// # Errors
/// As [`rebuild`].
pub async fn rebuild_with(
    name: &str,
    pool: &PgPool,
    options: &Options,
    hear: Hear<'_>,
) -> Result<Promoted, Error> {
    let schema = Schema::named(name)?;
    let lock = lock(pool, schema).await?;
    let begun = Begun::open(pool, schema, hear).await?;
    let rebuilt = match schema.name {
        "directory" => from_log::<super::directory::Directory>(begun, pool, options, hear).await,
        "holdings" => from_log::<super::holdings::Holdings>(begun, pool, options, hear).await,
        "activity" => from_log::<super::activity::Activity>(begun, pool, options, hear).await,
        "prices" => from_log::<super::prices::Prices>(begun, pool, options, hear).await,
        "jobs" => from_log::<super::jobs::Jobs>(begun, pool, options, hear).await,
        _ => from_others(begun, pool, options, hear).await,
    };
    lock.release().await;
    rebuilt
}

/// Puts what the last rebuild replaced back in its place, caught up first; what was live becomes what was replaced.
///
/// # Errors
/// [`Error::NothingOld`], [`Error::OldUnfit`], and as [`rebuild`].
pub async fn roll_back(
    name: &str,
    pool: &PgPool,
    options: &Options,
    hear: Hear<'_>,
) -> Result<Promoted, Error> {
    let schema = Schema::named(name)?;
    let lock = lock(pool, schema).await?;
    let old = Beside::of_old(pool, schema).await?;
    let rebuilt = match schema.name {
        "directory" => follow(super::directory::Directory::default(), old, pool, options, hear).await,
        "holdings" => follow(super::holdings::Holdings::default(), old, pool, options, hear).await,
        "activity" => follow(super::activity::Activity::default(), old, pool, options, hear).await,
        "prices" => follow(super::prices::Prices::default(), old, pool, options, hear).await,
        "jobs" => follow(super::jobs::Jobs::default(), old, pool, options, hear).await,
        _ => follow_others(old, pool, options, hear).await,
    };
    lock.release().await;
    rebuilt
}

/// Whether somebody may still need what is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropping {
    /// What an older program seems to serve is kept.
    Unserved,
    /// Whoever serves it.
    Everything,
}

/// Drops what rebuilds have replaced, also what older programs served; returns the schemas' names.
///
/// # Errors
/// [`Error::UnknownReadModel`], [`Error::Rebuilding`], [`Error::StillServed`], [`Error::Database`].
pub async fn drop_old(name: &str, pool: &PgPool, dropping: Dropping) -> Result<Vec<String>, Error> {
    let schema = Schema::named(name)?;
    let lock = lock(pool, schema).await?;
    let mut dropped = Vec::new();
    let mut tx = pool.begin().await?;
    schema::lock(&mut tx).await?;
    for name in schema.of_older_programs().into_iter().chain([schema.old()]) {
        if schema::found_shape(&mut tx, &name).await?.is_none() {
            continue;
        }
        if dropping == Dropping::Unserved
            && name != schema.old()
            && let Some(sign) = served::sign_of_life(&mut tx, &name).await?
        {
            return Err(Error::StillServed { schema: name, sign });
        }
        schema::drop_schema(&mut tx, &name).await?;
        dropped.push(name);
    }
    tx.commit().await?;
    lock.release().await;
    Ok(dropped)
}

/// One process rebuilds a read model.
async fn lock(pool: &PgPool, schema: Schema) -> Result<SessionLock, Error> {
    let name = format!("rebuild.{}", schema.live());
    let lock = SessionLock::try_alone(&pool.connect_options(), &name).await?;
    lock.ok_or_else(|| Error::Rebuilding { read_model: schema.name.to_owned() })
}

async fn from_log<M: FromLog + Default>(
    begun: Begun,
    pool: &PgPool,
    options: &Options,
    hear: Hear<'_>,
) -> Result<Promoted, Error> {
    let next = match begun {
        Begun::Loading(next) => {
            let next = std::sync::Arc::new(next);
            load::load::<M>(&next, pool, options, hear).await?;
            finish::finish(&next, hear).await?;
            std::sync::Arc::into_inner(next).expect("every worker has ended")
        }
        Begun::Loaded(next) => next,
    };
    follow(M::default(), next, pool, options, hear).await
}

async fn from_others(
    begun: Begun,
    pool: &PgPool,
    options: &Options,
    hear: Hear<'_>,
) -> Result<Promoted, Error> {
    let next = match begun {
        Begun::Loading(next) => {
            // Computed rows are few: they are written by their own statements, into tables with their keys.
            finish::finish(&next, hear).await?;
            next
        }
        Begun::Loaded(next) => next,
    };
    let head = read::head(pool).await?;
    needs(pool, next.schema.name, "holdings", head).await?;
    needs(pool, next.schema.name, "prices", head).await?;
    follow_others(next, pool, options, hear).await
}

async fn follow_others(
    beside: Beside,
    pool: &PgPool,
    options: &Options,
    hear: Hear<'_>,
) -> Result<Promoted, Error> {
    match beside.schema.name {
        "valuations" => {
            let model = super::valuations::Valuations::at_rest(pool).await?;
            follow(model, beside, pool, options, hear).await
        }
        "risk" => {
            let model = risk::Risk::at_rest(pool, options.engine).await?;
            follow(model, beside, pool, options, hear).await
        }
        other => Err(Error::UnknownReadModel(other.to_owned())),
    }
}

/// Catches up with the log and takes the live one's place.
async fn follow<M: ReadModel>(
    model: M,
    beside: Beside,
    pool: &PgPool,
    options: &Options,
    hear: Hear<'_>,
) -> Result<Promoted, Error> {
    let bounds = Bounds::of(beside.schema);
    let mut follower = Follower::begin(model, &beside, pool, bounds, options, hear).await?;
    let (pace, started) = (Pace::of(options.throttle), Instant::now());
    let (mut folded, mut chase) = (0, Chase::begin());
    loop {
        let round = follower.round().await?;
        folded += round.events;
        pace.passed(round.events).await;
        let rate = folded as f64 / started.elapsed().as_secs_f64().max(1e-9);
        hear(News::Progress(Progress {
            position: round.position,
            head: round.head,
            events_per_second: rate,
        }));
        if round.is_close {
            break;
        }
        let behind = round.head.0 - round.position.0;
        if let Some(before) = chase.gains_nothing(behind, Instant::now()) {
            let cause =
                if options.throttle.is_some() { "--throttle allows" } else { "this rebuild can follow" };
            hear(News::Note(format!(
                "{behind} events behind the log, and {before} half a minute ago: the log grows faster than {cause}, and \
                 this does not end before it grows slower"
            )));
        }
    }
    let promoted = promote::promote(&mut follower, &beside, pool, options, hear).await;
    beside.close().await;
    promoted
}

/// Refuses unless the read model that another is made from has begun in every shard.
async fn needs(pool: &PgPool, name: &'static str, needed: &'static str, head: Position) -> Result<(), Error> {
    let shards = match needed {
        "prices" => Topics::Market.shards(),
        _ => Topics::Portfolio.shards(),
    };
    let rows = schema::live_pool(pool, needed, 1)?;
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
