//! Which request each shard's rows obey, when the shard is taken over.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use crate::domain::ids::{Position, Shard};
use crate::projectors::{Checkpoint, column};

/// The last request at or before each checkpoint.
pub(super) async fn load(
    conn: &mut PgConnection,
    checkpoints: &[Checkpoint],
) -> Result<BTreeMap<Shard, Position>, sqlx::Error> {
    let (shards, positions) =
        (column(checkpoints, |mine| mine.shard.0), column(checkpoints, |mine| mine.place.position.0));
    let rows = sqlx::query_file!("projections/risk/load_requests.sql", &shards, &positions);
    let rows = rows.fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| (Shard(row.shard), Position(row.position))).collect())
}
