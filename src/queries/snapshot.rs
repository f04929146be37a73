//! One moment for several statements, and how that moment is called.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::Error;
use crate::domain::ids::{
    Epoch, JOB_SHARD_FIRST, MARKET_SHARD, PORTFOLIO_SHARDS, Position, SHARDS, Shard, StreamId,
};

/// The moment that an answer is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    /// The history of the log.
    pub epoch: Epoch,
    /// Every event up to here that concerns the answer is in it.
    pub position: Position,
    /// When the log took the last event that is in it; none before the first.
    pub recorded_at: Option<DateTime<Utc>>,
    /// No row of the answer has changed since, of an answer that is asked for it and where it is known.
    pub changed_at: Option<DateTime<Utc>>,
}

/// Rows with the moment they are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The moment.
    pub as_of: AsOf,
    /// An event of a stream that was asked for could not be applied: the rows stand before it.
    pub parked: bool,
    /// The rows.
    pub data: T,
}

/// A read model and a shard of it that an answer is made from.
pub type Source = (&'static str, Shard);

/// All of a read model that follows portfolios.
pub(super) fn portfolio_shards(read_model: &'static str) -> impl Iterator<Item = Source> {
    (0..PORTFOLIO_SHARDS).map(move |shard| (read_model, Shard(shard)))
}

/// All of the read model that follows jobs.
pub(super) fn job_shards() -> impl Iterator<Item = Source> {
    (JOB_SHARD_FIRST..SHARDS).map(|shard| ("jobs", Shard(shard)))
}

/// The part of a read model that follows the market.
pub(super) fn market(read_model: &'static str) -> Source {
    (read_model, MARKET_SHARD)
}

/// A transaction whose statements all see the same rows. Dropping it ends it.
pub(super) async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    pool.begin_with("begin isolation level repeatable read read only").await
}

/// Puts the moment of these sources beside the rows. A parked stream among `streams` holds it before its bad event.
pub(super) async fn answer<T>(
    conn: &mut PgConnection,
    sources: &[Source],
    streams: &[StreamId],
    data: T,
) -> Result<Answer<T>, Error> {
    let read_models: Vec<String> = sources.iter().map(|(read_model, _)| (*read_model).to_owned()).collect();
    let shards: Vec<i16> = sources.iter().map(|(_, shard)| shard.0).collect();
    let streams: Vec<String> = streams.iter().map(ToString::to_string).collect();
    let found = sqlx::query_file!("projections/find_as_of.sql", &read_models, &shards, &streams)
        .fetch_one(conn)
        .await?;
    let as_of = AsOf {
        epoch: Epoch(found.epoch),
        position: Position(found.position),
        recorded_at: found.recorded_at,
        changed_at: None,
    };
    Ok(Answer { as_of, parked: found.parked, data })
}

/// The same, with the moment since which the rows have not changed. `shown` are sources that only lend columns: how far they
/// are is not waited for, and their changes are changes all the same.
pub(super) async fn dated_answer<T>(
    conn: &mut PgConnection,
    sources: &[Source],
    shown: &[Source],
    data: T,
) -> Result<Answer<T>, Error> {
    let mut answer = answer(&mut *conn, sources, &[], data).await?;
    let all = || sources.iter().chain(shown);
    let read_models: Vec<String> = all().map(|(read_model, _)| (*read_model).to_owned()).collect();
    let shards: Vec<i16> = all().map(|(_, shard)| shard.0).collect();
    let found = sqlx::query_file!("projections/find_changed_at.sql", &read_models, &shards)
        .fetch_optional(conn)
        .await?;
    answer.as_of.changed_at = found.and_then(|row| row.changed_at);
    Ok(answer)
}
