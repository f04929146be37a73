//! Reading the log, in position order. Every slice carries the head as of the same statement, so that a reader
//! knows how far it has scanned even where nothing matched.

use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Row};
use uuid::Uuid;

use super::Error;
use crate::domain::ids::{Epoch, Position, Shard, StreamId, Version};
use crate::events::{Envelope, EventId};

/// Events in position order and the head of the log when they were read.
#[derive(Debug, Clone)]
pub struct Slice {
    /// The events.
    pub events: Vec<Envelope>,
    /// The last position of the log.
    pub head: Position,
}

/// Selects head and events in one statement; `$where` names the events as `e`.
macro_rules! slice_sql {
    ($source:literal) => {
        concat!(
            "select h.head, e.position, e.command_id, e.ordinal, e.stream_id, e.version, e.shard, e.event_type, ",
            "e.schema_version, e.request_hash, e.correlation_id, e.causation_position, e.occurred_at, ",
            "e.recorded_at, e.payload::text as payload, e.metadata::text as metadata, ",
            "(select max(l.epoch) from log_epochs l where l.first_position <= e.position) as epoch ",
            "from (select coalesce((select position from events order by position desc limit 1), 0) as head) h ",
            "left join lateral (",
            $source,
            ") e on true order by e.position"
        )
    };
}

/// Up to `limit` events after a position, of all shards.
///
/// # Errors
/// [`Error::Database`], [`Error::Unreadable`].
pub async fn after(pool: impl PgExecutor<'_>, position: Position, limit: i64) -> Result<Slice, Error> {
    const SQL: &str = slice_sql!("select * from events where position > $1 order by position limit $2");
    let rows = sqlx::query(SQL).bind(position.0).bind(limit).fetch_all(pool).await?;
    slice(&rows)
}

/// Up to `limit` events of one shard after a position.
///
/// # Errors
/// [`Error::Database`], [`Error::Unreadable`].
pub async fn shard_after(
    pool: impl PgExecutor<'_>,
    shard: Shard,
    position: Position,
    limit: i64,
) -> Result<Slice, Error> {
    shards_after(pool, &[(shard, position)], limit).await
}

/// Up to `limit_per_shard` events of each shard after its position, in one statement: the repair statement.
///
/// # Errors
/// [`Error::Database`], [`Error::Unreadable`].
pub async fn shards_after(
    pool: impl PgExecutor<'_>,
    places: &[(Shard, Position)],
    limit_per_shard: i64,
) -> Result<Slice, Error> {
    const SQL: &str = slice_sql!(
        "select n.* from unnest($1::smallint[], $2::bigint[]) as p(shard, position) cross join lateral \
         (select * from events where shard = p.shard and position > p.position order by position limit $3) n"
    );
    let shards: Vec<i16> = places.iter().map(|(shard, _)| shard.0).collect();
    let positions: Vec<i64> = places.iter().map(|(_, position)| position.0).collect();
    let rows = sqlx::query(SQL).bind(shards).bind(positions).bind(limit_per_shard).fetch_all(pool).await?;
    slice(&rows)
}

/// The events of one stream after a version, all of them.
///
/// # Errors
/// [`Error::Database`], [`Error::Unreadable`].
pub async fn stream_after(
    pool: impl PgExecutor<'_>,
    stream: &StreamId,
    version: Version,
    limit: i64,
) -> Result<Slice, Error> {
    const SQL: &str =
        slice_sql!("select * from events where stream_id = $1 and version > $2 order by version limit $3");
    let rows = sqlx::query(SQL).bind(stream.as_str()).bind(version.0).bind(limit).fetch_all(pool).await?;
    slice(&rows)
}

/// Up to `limit_per_stream` events of each of several streams, after the version that is already known.
///
/// # Errors
/// [`Error::Database`], [`Error::Unreadable`].
pub async fn streams_after(
    pool: impl PgExecutor<'_>,
    known: &[(StreamId, Version)],
    limit_per_stream: i64,
) -> Result<Slice, Error> {
    const SQL: &str = slice_sql!(
        "select n.* from unnest($1::text[], $2::bigint[]) as k(stream, version) cross join lateral \
         (select * from events where stream_id = k.stream and version > k.version order by version limit $3) n"
    );
    let streams: Vec<&str> = known.iter().map(|(stream, _)| stream.as_str()).collect();
    let versions: Vec<i64> = known.iter().map(|(_, version)| version.0).collect();
    let rows = sqlx::query(SQL).bind(streams).bind(versions).bind(limit_per_stream).fetch_all(pool).await?;
    slice(&rows)
}

/// What a "no" must be checked against: whether the command is in the log, and what the streams that its
/// decision read have gained since, up to `limit_per_stream` events of each. One statement, so both are of one moment.
///
/// # Errors
/// [`Error::Database`], [`Error::Unreadable`].
pub async fn command_or_newer(
    pool: impl PgExecutor<'_>,
    command_id: Uuid,
    known: &[(StreamId, Version)],
    limit_per_stream: i64,
) -> Result<(Vec<Envelope>, Vec<Envelope>), Error> {
    const SQL: &str = slice_sql!(
        "select * from events where command_id = $1 union all \
         select n.* from unnest($2::text[], $3::bigint[]) as k(stream, version) cross join lateral \
         (select * from events where stream_id = k.stream and version > k.version and command_id <> $1 \
         order by version limit $4) n"
    );
    let streams: Vec<&str> = known.iter().map(|(stream, _)| stream.as_str()).collect();
    let versions: Vec<i64> = known.iter().map(|(_, version)| version.0).collect();
    let query = sqlx::query(SQL).bind(command_id).bind(streams).bind(versions).bind(limit_per_stream);
    let rows = query.fetch_all(pool).await?;
    let events = slice(&rows)?.events;
    Ok(events.into_iter().partition(|event| event.event_id.command_id == command_id))
}

/// The events of one command, in order; empty when it is not in the log.
///
/// # Errors
/// [`Error::Database`], [`Error::Unreadable`].
pub async fn command(pool: impl PgExecutor<'_>, command_id: Uuid) -> Result<Vec<Envelope>, Error> {
    const SQL: &str = slice_sql!("select * from events where command_id = $1");
    let rows = sqlx::query(SQL).bind(command_id).fetch_all(pool).await?;
    Ok(slice(&rows)?.events)
}

/// The event at a position.
///
/// # Errors
/// [`Error::Database`], [`Error::Unreadable`].
pub async fn find(pool: impl PgExecutor<'_>, position: Position) -> Result<Option<Envelope>, Error> {
    const SQL: &str = slice_sql!("select * from events where position = $1");
    let rows = sqlx::query(SQL).bind(position.0).fetch_all(pool).await?;
    Ok(slice(&rows)?.events.pop())
}

/// The last event of a shard before a position.
///
/// # Errors
/// [`Error::Database`], [`Error::Unreadable`].
pub async fn previous_in_shard(
    pool: impl PgExecutor<'_>,
    shard: Shard,
    position: Position,
) -> Result<Option<Envelope>, Error> {
    const SQL: &str =
        slice_sql!("select * from events where shard = $1 and position < $2 order by position desc limit 1");
    let rows = sqlx::query(SQL).bind(shard.0).bind(position.0).fetch_all(pool).await?;
    Ok(slice(&rows)?.events.pop())
}

/// Up to `limit` events of one type after a position, up to another.
///
/// # Errors
/// [`Error::Database`], [`Error::Unreadable`].
pub async fn typed_between(
    pool: impl PgExecutor<'_>,
    event_type: &str,
    after: Position,
    up_to: Position,
    limit: i64,
) -> Result<Slice, Error> {
    const SQL: &str = slice_sql!(
        "select * from events where position > $2 and position <= $3 and event_type = $1 order by position limit $4"
    );
    let query = sqlx::query(SQL).bind(event_type).bind(after.0).bind(up_to.0).bind(limit);
    slice(&query.fetch_all(pool).await?)
}

/// The version of a stream's last event at or before a position; none if the stream has no event at all.
///
/// Both grow together, so it is found by halving: a few looks into the index, however long the stream is.
///
/// # Errors
/// [`Error::Database`].
pub async fn version_at(
    pool: &PgPool,
    stream: &StreamId,
    position: Position,
) -> Result<Option<Version>, Error> {
    const LAST: &str = "select version from events where stream_id = $1 order by version desc limit 1";
    const AT: &str = "select position from events where stream_id = $1 and version = $2";
    let last: Option<i64> = sqlx::query_scalar(LAST).bind(stream.as_str()).fetch_optional(pool).await?;
    let Some(mut above) = last else { return Ok(None) };
    let mut known = 0;
    while known < above {
        let middle = known + (above - known + 1) / 2;
        let at: i64 = sqlx::query_scalar(AT).bind(stream.as_str()).bind(middle).fetch_one(pool).await?;
        if at <= position.0 {
            known = middle;
        } else {
            above = middle - 1;
        }
    }
    Ok(Some(Version(known)))
}

/// Every epoch with its first position, the oldest first.
///
/// # Errors
/// [`Error::Database`].
pub async fn epochs(pool: impl PgExecutor<'_>) -> Result<Vec<(Epoch, Position)>, Error> {
    const SQL: &str = "select epoch, first_position from log_epochs order by epoch";
    let rows: Vec<(i32, i64)> = sqlx::query_as(SQL).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|(epoch, first)| (Epoch(epoch), Position(first))).collect())
}

/// The last position of the log; 0 when it is empty.
///
/// # Errors
/// [`Error::Database`].
pub async fn head(pool: impl PgExecutor<'_>) -> Result<Position, Error> {
    const SQL: &str = "select coalesce((select position from events order by position desc limit 1), 0)";
    Ok(Position(sqlx::query_scalar(SQL).fetch_one(pool).await?))
}

/// The epoch that new events belong to.
///
/// # Errors
/// [`Error::Database`].
pub async fn epoch_at_head(pool: &PgPool) -> Result<Epoch, Error> {
    Ok(Epoch(sqlx::query_scalar("select max(epoch) from log_epochs").fetch_one(pool).await?))
}

fn slice(rows: &[PgRow]) -> Result<Slice, Error> {
    let mut events = Vec::with_capacity(rows.len());
    let mut head = Position(0);
    for row in rows {
        head = Position(row.try_get("head")?);
        // The left join gives one row without an event when nothing matched.
        if row.try_get::<Option<i64>, _>("position")?.is_some() {
            events.push(envelope(row)?);
        }
    }
    Ok(Slice { events, head })
}

fn envelope(row: &PgRow) -> Result<Envelope, Error> {
    let position = Position(row.try_get("position")?);
    let epoch: Option<i32> = row.try_get("epoch")?;
    let Some(epoch) = epoch else {
        return Err(Error::Unreadable { position, reason: "it belongs to no epoch".into() });
    };
    Ok(Envelope {
        epoch: Epoch(epoch),
        position,
        event_id: EventId { command_id: row.try_get("command_id")?, ordinal: row.try_get("ordinal")? },
        stream_id: StreamId::from(row.try_get::<&str, _>("stream_id")?),
        version: Version(row.try_get("version")?),
        request_hash: Arc::from(row.try_get::<&[u8], _>("request_hash")?),
        event_type: Arc::from(row.try_get::<&str, _>("event_type")?),
        schema_version: row.try_get("schema_version")?,
        shard: Shard(row.try_get("shard")?),
        correlation_id: row.try_get("correlation_id")?,
        causation_position: row.try_get::<Option<i64>, _>("causation_position")?.map(Position),
        occurred_at: row.try_get("occurred_at")?,
        recorded_at: row.try_get("recorded_at")?,
        payload: Arc::from(row.try_get::<&str, _>("payload")?),
        metadata: Arc::from(row.try_get::<&str, _>("metadata")?),
    })
}
