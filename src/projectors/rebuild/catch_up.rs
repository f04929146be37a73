//! Folding what the log has gained since the tables were loaded, round by round, as a projector does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgPool};

use super::beside::Beside;
use super::pace::Pace;
use super::{Hear, News, Options, Progress};
use crate::domain::ids::{Position, Shard};
use crate::event_store::{ChunkSize, read};
use crate::feed::Batch;
use crate::projectors::checkpoint::Idle;
use crate::projectors::projection::{Flushed, Projection, ReadModel};
use crate::projectors::schema::{self, Schema};
use crate::projectors::{Error, ahead};

/// How many events are read at once, and about how many bytes.
const SLICE_EVENTS: usize = 20_000;
const SLICE_BYTES: usize = 32 << 20;
/// A round that brought no more has come close enough to the head for the last one to be short.
const CLOSE_EVENTS: usize = 1_000;
/// How many shards are computed at once where a read model is made from others; one by one if it is to keep a pace.
const GROUP_SHARDS: usize = 4;
/// How often `holdings` is asked whether it has come far enough.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// … and for how long, before the rebuild gives up and says so.
const ASKED_WITHIN: Duration = Duration::from_secs(10);

/// How far a read model may go in each shard.
#[derive(Debug)]
pub(super) enum Bounds {
    /// To the head of the log.
    Log,
    /// As far as `holdings` is, or the live rows are, which had it from there.
    Holdings { live: String },
}

impl Bounds {
    pub(super) fn of(schema: Schema) -> Self {
        match schema.name {
            "valuations" | "risk" => Self::Holdings { live: schema.live() },
            _ => Self::Log,
        }
    }
}

/// A projection that follows the log by itself.
pub(super) struct Follower<M> {
    pub(super) projection: Projection<M>,
    pool: PgPool,
    bounds: Bounds,
    chunk: ChunkSize,
}

/// What a round brought.
#[derive(Debug)]
pub(super) struct Round {
    /// Events folded.
    pub(super) events: usize,
    /// Nothing at or below it is missing.
    pub(super) position: Position,
    /// The last event of the log.
    pub(super) head: Position,
    /// The rest is short.
    pub(super) is_close: bool,
}

impl<M: ReadModel> Follower<M> {
    /// Loads what a projector would load.
    pub(super) async fn begin(
        mut model: M,
        beside: &Beside,
        pool: &PgPool,
        bounds: Bounds,
        options: &Options,
        hear: Hear<'_>,
    ) -> Result<Self, Error> {
        model.catch_up(pool).await?;
        let mut projection = Projection::new(model, beside.rows.clone(), options.parked_streams_max);
        let shards = M::TOPICS.shards();
        if matches!(bounds, Bounds::Log) {
            projection.assign(&shards).await?;
        } else {
            park_unreadable(pool, beside).await?;
            let (pace, started) = (Pace::of(options.throttle), Instant::now());
            let head = read::head(pool).await?;
            let together = if options.throttle.is_some() { 1 } else { GROUP_SHARDS };
            let mut done = 0;
            for group in shards.chunks(together) {
                let mine: Vec<i16> = group.iter().map(|shard| shard.0).collect();
                // The places first: rows that are read afterwards are at least as far.
                sqlx::query_file!("projections/copy_holdings_checkpoints.sql", &mine)
                    .execute(&beside.rows)
                    .await?;
                projection.assign(group).await?;
                written::<M>(projection.flush(Idle::Write).await?)?;
                done += group.len();
                let position = Position(head.0 * done as i64 / shards.len() as i64);
                let events_per_second = position.0 as f64 / started.elapsed().as_secs_f64().max(1e-9);
                hear(News::Progress(Progress { position, head, events_per_second }));
                pace.passed(events_of_holdings(pool, &mine).await?).await;
            }
        }
        Ok(Self { projection, pool: pool.clone(), bounds, chunk: ChunkSize::new(SLICE_EVENTS, SLICE_BYTES) })
    }

    /// Reads and folds the next events of every shard, as many as there are or as a round takes.
    pub(super) async fn round(&mut self) -> Result<Round, Error> {
        let reach = self.reach().await?;
        let places: Vec<(Shard, Position)> =
            self.projection.checkpoints().map(|mine| (mine.shard, mine.scanned_to)).collect();
        let limit = (self.chunk.events() / places.len().max(1)).max(16);
        let slice = read::shards_after(&self.pool, &places, limit as i64).await?;
        self.chunk.observe(&slice.events);

        let mut counts: BTreeMap<Shard, (usize, Position)> = BTreeMap::new();
        for event in &slice.events {
            let (count, last) = counts.entry(event.shard).or_default();
            (*count, *last) = (*count + 1, event.position);
        }
        let is_whole = counts.values().all(|(count, _)| *count < limit);
        let mut scanned_to = Vec::with_capacity(places.len());
        for (shard, _) in &places {
            let read_to = match counts.get(shard) {
                Some((count, last)) if *count >= limit => *last,
                _ => slice.head,
            };
            scanned_to.push((*shard, read_to.min(reach.of(*shard))));
        }
        let within = |event: &crate::events::Envelope| event.position <= reach.of(event.shard);
        let events: Vec<_> = slice.events.into_iter().filter(|it| within(it)).map(Arc::new).collect();
        let count = events.len();

        self.projection.model.catch_up(&self.pool).await?;
        self.fold(Batch { events, scanned_to }, slice.head).await?;
        written::<M>(self.projection.flush(Idle::Write).await?)?;
        let position = self.projection.checkpoints().map(|mine| mine.scanned_to).min().unwrap_or_default();
        let is_close = is_whole && count <= CLOSE_EVENTS;
        Ok(Round { events: count, position, head: slice.head, is_close })
    }

    async fn fold(&mut self, batch: Batch, head: Position) -> Result<(), Error> {
        let asked = Instant::now();
        loop {
            match self.projection.project(&batch).await? {
                Flushed::NotYet if asked.elapsed() < ASKED_WITHIN => tokio::time::sleep(ASK_EVERY).await,
                Flushed::NotYet => {
                    let reached = self.reach().await?.least();
                    let (read_model, needed) = (M::NAME.to_owned(), "holdings");
                    return Err(Error::NeedsFirst { read_model, needed, reached, head });
                }
                done => return written::<M>(done),
            }
        }
    }

    async fn reach(&self) -> Result<Reach, Error> {
        let Bounds::Holdings { live } = &self.bounds else { return Ok(Reach(None)) };
        let mut reach = BTreeMap::new();
        let holdings = Schema::named("holdings")?.live();
        for name in [&holdings, live] {
            // Live rows of another history have come to places that are no more.
            if name == live
                && schema::found_shape(&mut *self.pool.acquire().await?, live).await?.is_some()
                && ahead::is_ahead(&self.pool, live, read::head(&self.pool).await?).await?
            {
                continue;
            }
            let pool = schema::pool_in(&self.pool, name, 1);
            let there: bool =
                sqlx::query_scalar("select to_regclass('checkpoints') is not null").fetch_one(&pool).await?;
            let found: Vec<(i16, i64)> = if there {
                let sql = "select shard, least(scanned_to, (select coalesce(max(position), 0) from public.events)) \
                    from checkpoints";
                sqlx::query_as(sql).fetch_all(&pool).await?
            } else {
                Vec::new()
            };
            pool.close().await;
            for (shard, scanned_to) in found {
                let furthest = reach.entry(Shard(shard)).or_insert(Position(0));
                *furthest = (*furthest).max(Position(scanned_to));
            }
        }
        Ok(Reach(Some(reach)))
    }
}

/// Of how many events the rows of `holdings` are made in these shards, as what is computed from them stands for.
async fn events_of_holdings(pool: &PgPool, shards: &[i16]) -> Result<usize, Error> {
    let holdings = Schema::named("holdings")?.live();
    let sql =
        format!("select coalesce(sum(version), 0)::bigint from {holdings}.ledgers where shard = any($1)");
    let events: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).bind(shards).fetch_one(pool).await?;
    Ok(usize::try_from(events).unwrap_or_default())
}

/// What `holdings` could not read, nobody can: a read model that is made from it would have parked these streams too.
async fn park_unreadable(pool: &PgPool, beside: &Beside) -> Result<(), Error> {
    let holdings = Schema::named("holdings")?.live();
    let parked = format!("select stream_id, position from {holdings}.parked_streams");
    let parked: Vec<(String, i64)> = sqlx::query_as(AssertSqlSafe(parked)).fetch_all(pool).await?;
    let park = format!(
        "insert into parked_streams select * from {holdings}.parked_streams where stream_id = $1 \
         on conflict (stream_id) do nothing"
    );
    for (stream, position) in parked {
        let event = read::find(pool, Position(position)).await?;
        if event.is_some_and(|event| event.event().is_err()) {
            sqlx::query(AssertSqlSafe(park.clone())).bind(stream).execute(&beside.rows).await?;
        }
    }
    Ok(())
}

/// How far each shard may go; none as far as it can.
struct Reach(Option<BTreeMap<Shard, Position>>);

impl Reach {
    fn least(&self) -> Position {
        self.0.iter().flat_map(BTreeMap::values).copied().min().unwrap_or_default()
    }

    fn of(&self, shard: Shard) -> Position {
        match &self.0 {
            None => Position(i64::MAX),
            Some(reach) => reach.get(&shard).copied().unwrap_or_default(),
        }
    }
}

fn written<M: ReadModel>(flushed: Flushed) -> Result<(), Error> {
    match flushed {
        Flushed::Written => Ok(()),
        Flushed::Lost | Flushed::NotYet => Err(Error::Lost { read_model: M::NAME.to_owned() }),
    }
}
