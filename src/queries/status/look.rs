//! The questions behind the status, one by one.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgPool, Row};

use super::{BusNames, Parked, READ_MODELS, Topic};
use crate::domain::ids::Position;
use crate::event_store::read;
use crate::queries::Error;

/// Parked streams that are told of each read model.
const PARKED_MAX: i64 = 100;
/// Events that are counted of each shard before it is "more".
const COUNTED_MAX: i64 = 10_000;

/// Where everything stands at one moment.
pub(super) struct Look {
    pub head: Position,
    pub read_models: BTreeMap<&'static str, Places>,
}

/// How far the shards of a read model are.
pub(super) struct Places {
    pub least: i64,
    pub newest: i64,
    pub mean: f64,
}

pub(super) async fn look(pool: &PgPool) -> Result<Look, Error> {
    let mut read_models = BTreeMap::new();
    for (name, shards, joins_prices) in READ_MODELS {
        if !has_table(pool, &format!("{name}.checkpoints")).await? {
            continue;
        }
        let reached = if joins_prices { "least(scanned_to, price_position)" } else { "scanned_to" };
        let sql = format!("select {reached} from {name}.checkpoints where shard between $1 and $2");
        let places: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(*shards.start())
            .bind(*shards.end())
            .fetch_all(pool)
            .await?;
        // A shard without a checkpoint has not begun.
        let missing = shards.count() - places.len();
        let least = if missing > 0 { 0 } else { places.iter().copied().min().unwrap_or(0) };
        let mean = places.iter().sum::<i64>() as f64 / (places.len() + missing) as f64;
        let newest = places.iter().copied().max().unwrap_or(0);
        read_models.insert(name, Places { least, newest, mean });
    }
    // Last, so that nobody is ahead of it.
    Ok(Look { head: read::head(pool).await?, read_models })
}

pub(super) async fn has_table(pool: &PgPool, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select to_regclass($1) is not null").bind(name).fetch_one(pool).await
}

/// How long the event after this position has waited, in seconds; 0 if there is none.
pub(super) async fn waiting_since(pool: &PgPool, position: i64) -> Result<f64, sqlx::Error> {
    const SQL: &str = "select greatest(extract(epoch from clock_timestamp() - recorded_at), 0)::float8 \
        from events where position = $1";
    let seconds: Option<f64> = sqlx::query_scalar(SQL).bind(position + 1).fetch_optional(pool).await?;
    Ok(seconds.unwrap_or(0.0))
}

/// The comment of its schema, if its tables are there.
pub(super) async fn shape(pool: &PgPool, read_model: &str) -> Result<Option<String>, sqlx::Error> {
    const SQL: &str = "select coalesce(obj_description(oid, 'pg_namespace'), 'unknown') from pg_namespace \
        where nspname = $1 and to_regclass($1 || '.checkpoints') is not null";
    sqlx::query_scalar(SQL).bind(read_model).fetch_optional(pool).await
}

/// What a read model has set aside.
#[derive(Default)]
pub(super) struct SetAside {
    pub parked_count: i64,
    pub parked: Vec<Parked>,
    pub skipped_count: i64,
}

pub(super) async fn set_aside(pool: &PgPool, name: &str) -> Result<SetAside, sqlx::Error> {
    let sql = format!(
        "select count(*) over () as parked, stream_id, position, event_id, reason from {name}.parked_streams \
         order by position limit {PARKED_MAX}"
    );
    let mut aside = SetAside::default();
    for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(pool).await? {
        aside.parked_count = row.try_get("parked")?;
        aside.parked.push(Parked {
            stream_id: row.try_get("stream_id")?,
            position: row.try_get("position")?,
            event_id: row.try_get("event_id")?,
            reason: row.try_get("reason")?,
        });
    }
    // Tables of an older shape have none.
    if has_table(pool, &format!("{name}.skipped_events")).await? {
        let sql = format!("select count(*) from {name}.skipped_events");
        aside.skipped_count = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await?;
    }
    Ok(aside)
}

pub(super) async fn topics(pool: &PgPool, names: &BusNames) -> Result<Vec<Topic>, sqlx::Error> {
    const SQL: &str = "select s.topic, coalesce(p.position, 0) as position, \
            (select count(*) from (select from events e where e.shard = s.shard \
                and e.position > coalesce(p.position, 0) limit $3) waiting) as waiting, \
            coalesce((select extract(epoch from clock_timestamp() - e.recorded_at) from events e \
                where e.shard = s.shard and e.position > coalesce(p.position, 0) \
                order by e.position limit 1), 0)::float8 as seconds \
        from unnest($1::smallint[], $2::text[]) as s (shard, topic) \
        left join relay_progress p on p.shard = s.shard and p.topic = s.topic \
        order by s.shard";
    let shards: Vec<i16> = names.topics.iter().map(|(shard, _)| *shard).collect();
    let topics: Vec<&str> = names.topics.iter().map(|(_, topic)| topic.as_str()).collect();
    let rows = sqlx::query(SQL).bind(shards).bind(topics).bind(COUNTED_MAX).fetch_all(pool).await?;
    let mut found: Vec<Topic> = Vec::new();
    for row in rows {
        let (name, position): (String, i64) = (row.try_get("topic")?, row.try_get("position")?);
        let (waiting, seconds): (i64, f64) = (row.try_get("waiting")?, row.try_get("seconds")?);
        match found.last_mut().filter(|last| last.name == name) {
            Some(last) => {
                last.position = last.position.max(position);
                last.lag_events += waiting;
                last.lag_seconds = last.lag_seconds.max(seconds);
            }
            None => found.push(Topic { name, position, lag_events: waiting, lag_seconds: seconds }),
        }
    }
    Ok(found)
}
