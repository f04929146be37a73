//! The histories of the log, numbered.
//!
//! A restore, or a failover to a standby that was behind, uses positions again for other events. Nothing in the log itself can tell
//! that: what was lost is known only to those who have seen it. So the next history gets its number from whoever restored
//! (`insight epoch new`) or, in the embedded form, from the process that notices. From its first position on, events are of
//! the new epoch; what else claims to stand there, in a topic or in a client's hands, is of a dead one.
//!
//! Numbers must not be used twice either: a backup that is restored a second time knows nothing of the epoch that followed the first
//! time. So the caller says which numbers it has seen elsewhere, and an epoch without an event yet takes another number.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgPool;

use super::Error;
use crate::domain::ids::{Epoch, Position};

/// The lock that `append_batch` numbers under.
const NUMBERING: i64 = 7_306_086_967_255_298_121;

/// One history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Its number.
    pub epoch: Epoch,
    /// Its first event, which may be still to come.
    pub first_position: Position,
    /// When it was begun.
    pub started_at: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// What became of the wish for a new history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It begins behind the head.
    New {
        /// Its number.
        epoch: Epoch,
        /// Its first position.
        first_position: Position,
    },
    /// The newest one has no event yet and a number that nobody else knows: it is the wanted one.
    Already {
        /// Its number.
        epoch: Epoch,
        /// Its first position.
        first_position: Position,
    },
}

/// All histories, oldest first.
///
/// # Errors
/// [`Error::Database`].
pub async fn list(pool: &PgPool) -> Result<Vec<History>, Error> {
    const SQL: &str = "select epoch, first_position, started_at, reason from log_epochs order by epoch";
    let rows: Vec<(i32, i64, DateTime<Utc>, String)> = sqlx::query_as(SQL).fetch_all(pool).await?;
    let histories = rows.into_iter().map(|(epoch, first_position, started_at, reason)| History {
        epoch: Epoch(epoch),
        first_position: Position(first_position),
        started_at,
        reason,
    });
    Ok(histories.collect())
}

/// Begins the next history behind the head, with a number above `used`, the highest that is known from elsewhere. While it
/// decides, nothing is appended.
///
/// # Errors
/// [`Error::Database`].
pub async fn begin(pool: &PgPool, used: Epoch, reason: &str) -> Result<Begun, Error> {
    let mut tx = pool.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(NUMBERING).execute(&mut *tx).await?;
    let (newest, first): (i32, i64) =
        sqlx::query_as("select epoch, first_position from log_epochs order by epoch desc limit 1")
            .fetch_one(&mut *tx)
            .await?;
    let first_position = Position(super::read::head(&mut *tx).await?.0 + 1);
    if first == first_position.0 && used < Epoch(newest) {
        return Ok(Begun::Already { epoch: Epoch(newest), first_position });
    }
    // Epochs that have no event are no histories; whoever restored the events alone leaves such rows behind.
    sqlx::query("delete from log_epochs where first_position >= $1")
        .bind(first_position.0)
        .execute(&mut *tx)
        .await?;
    let epoch = Epoch(newest.max(used.0).saturating_add(1));
    sqlx::query("insert into log_epochs (epoch, first_position, reason) values ($1, $2, $3)")
        .bind(epoch.0)
        .bind(first_position.0)
        .bind(reason)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(Begun::New { epoch, first_position })
}
