//! The progress rows: how far each shard is known to be in its topic.

use std::collections::BTreeMap;

use sqlx::PgPool;

use super::window::Progress;
use crate::domain::ids::{Epoch, Position, Shard};
use crate::kafka::KafkaSettings;

/// Reads the rows of this bus.
pub(super) async fn load(
    pool: &PgPool,
    settings: &KafkaSettings,
) -> Result<BTreeMap<Shard, Progress>, sqlx::Error> {
    const SQL: &str = "select topic, shard, epoch, position, kafka_offset from relay_progress";
    let rows: Vec<(String, i16, i32, i64, i64)> = sqlx::query_as(SQL).fetch_all(pool).await?;
    let ours = rows
        .into_iter()
        .filter(|(topic, shard, ..)| settings.topic_of(Shard(*shard)).as_ref() == Some(topic));
    let progress = ours.map(|(_, shard, epoch, position, offset)| {
        let shard = Shard(shard);
        (shard, Progress { shard, epoch: Epoch(epoch), position: Position(position), offset })
    });
    Ok(progress.collect())
}

/// Writes rows, all in one statement.
pub(super) async fn save(
    pool: &PgPool,
    settings: &KafkaSettings,
    progress: &[Progress],
) -> Result<(), sqlx::Error> {
    const SQL: &str = "\
        insert into relay_progress (topic, shard, epoch, position, kafka_offset) \
        select * from unnest($1::text[], $2::smallint[], $3::integer[], $4::bigint[], $5::bigint[]) \
        on conflict on constraint relay_progress_topic_shard do update set \
            epoch = excluded.epoch, position = excluded.position, kafka_offset = excluded.kafka_offset, \
            updated_at = clock_timestamp()";
    let topics: Vec<String> =
        progress.iter().map(|p| settings.topic_of(p.shard).unwrap_or_default()).collect();
    sqlx::query(SQL)
        .bind(topics)
        .bind(progress.iter().map(|p| p.shard.0).collect::<Vec<_>>())
        .bind(progress.iter().map(|p| p.epoch.0).collect::<Vec<_>>())
        .bind(progress.iter().map(|p| p.position.0).collect::<Vec<_>>())
        .bind(progress.iter().map(|p| p.offset).collect::<Vec<_>>())
        .execute(pool)
        .await?;
    Ok(())
}

/// Forgets all that is noted of a topic: the next walk begins with its first record.
pub(super) async fn forget(pool: &PgPool, topic: &str) -> Result<(), sqlx::Error> {
    sqlx::query("delete from relay_progress where topic = $1").bind(topic).execute(pool).await?;
    Ok(())
}

/// Where the first epoch after `epoch` begins, if there is one.
pub(super) async fn epoch_after(pool: &PgPool, epoch: Epoch) -> Result<Option<Position>, sqlx::Error> {
    const SQL: &str = "select min(first_position) from log_epochs where epoch > $1";
    let first: Option<i64> = sqlx::query_scalar(SQL).bind(epoch.0).fetch_one(pool).await?;
    Ok(first.map(Position))
}
