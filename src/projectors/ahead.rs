//! Which read models are of another history than the log: their checkpoints name events that it does not have.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgPool};

use super::{Error, schema};
use crate::domain::ids::{Epoch, Position};
use crate::event_store::{Place, check_places, read};

/// Made from others: rows hold what those had.
const MADE_FROM: [(&str, [&str; 2]); 2] =
    [("valuations", ["holdings", "prices"]), ("risk", ["holdings", "prices"])];

/// The names of those that stand at events which the log does not have, or have been told of a head beyond its own, and of those
/// made from them.
///
/// # Errors
/// [`Error::Database`], [`Error::Store`].
pub async fn list_ahead(pool: &PgPool) -> Result<Vec<&'static str>, Error> {
    let head = read::head(pool).await?;
    let mut ahead = Vec::new();
    for schema in schema::ALL {
        if is_ahead(pool, &schema.live(), head).await? {
            ahead.push(schema.name);
        }
    }
    for (made, from) in MADE_FROM {
        if !ahead.contains(&made) && from.iter().any(|name| ahead.contains(name)) {
            ahead.push(made);
        }
    }
    Ok(ahead)
}

/// Whether the read model in this schema stands at events that the log does not have, or was told of a head beyond its own.
pub(super) async fn is_ahead(pool: &PgPool, name: &str, head: Position) -> Result<bool, Error> {
    type Row = (i32, i64, Option<String>, Option<DateTime<Utc>>, i64);
    let sql = format!(
        "select epoch, position, event_id, recorded_at, greatest(scanned_to, price_position) from {name}.checkpoints"
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?;
    let place = |(epoch, position, event_id, recorded_at, _): &Row| Place {
        epoch: Epoch(*epoch),
        position: Position(*position),
        event_id: event_id.as_deref().and_then(|id| id.parse().ok()),
        recorded_at: *recorded_at,
    };
    let places: Vec<Place> = rows.iter().map(place).collect();
    let is_beyond = rows.iter().any(|(.., told)| *told > head.0);
    Ok(is_beyond || !check_places(pool, &places).await?.is_empty())
}
