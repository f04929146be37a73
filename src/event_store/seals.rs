//! The stored seals: one more whenever another 4,096 events are in the log.
//!
//! It stands outside the append path, and whoever is killed in the middle leaves nothing:
//!
//! | step | what holds |
//! | --- | --- |
//! | lock, of the transaction, without waiting | one process seals; the others have nothing to do |
//! | the last event under the newest seal still has its mark | else the log is another history: nothing is sealed |
//! | read the block in small slices, every position | bounded memory; a hole is never sealed |
//! | insert and commit | the key admits one seal a position; a seal is whole or absent |

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor, PgPool};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::seal::{BLOCK, Chain, EventHash, MARK_BYTES, Seal, SealAt};
use super::{ChunkSize, Error, read};
use crate::domain::ids::Position;
use crate::retry::Backoff;

/// Who seals; of the database.
const LOCK: i64 = 0x696e_7369_6768_7402;
/// How often it is asked whether a block is full.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Between two blocks of a log that is being caught up with.
const BREATHE: Duration = Duration::from_millis(20);
/// The longest pause after trouble.
const PAUSE_MAX: Duration = Duration::from_secs(60);
const SLICE_EVENTS: usize = 1_024;
const SLICE_BYTES: usize = 1 << 20;

/// A stored seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The seal of a whole block and all before it.
    pub at: SealAt,
    /// The first bytes of each event's hash.
    pub marks: Vec<u8>,
}

/// What came of trying to seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// One more block.
    Block(SealAt),
    /// Nothing to do: the next block is not full yet.
    UpToDate,
    /// Another process is at it.
    Elsewhere,
}

/// Seals block after block until it is told to end. What goes wrong is logged and tried again: an installation that cannot seal
/// still takes commands.
///
/// # Errors
/// Never; the signature is that of a task.
pub async fn run(pool: PgPool, cancel: CancellationToken) -> Result<(), Error> {
    let mut pauses = Backoff::pauses(ASK_EVERY, PAUSE_MAX);
    let mut said = None;
    while !cancel.is_cancelled() {
        let pause = match turn(&pool).await {
            Ok(Sealed::Block(_)) => BREATHE,
            Ok(Sealed::UpToDate | Sealed::Elsewhere) => {
                pauses = Backoff::pauses(ASK_EVERY, PAUSE_MAX);
                said = None;
                ASK_EVERY
            }
            Err(found) => {
                let text = found.to_string();
                match said.as_ref() == Some(&text) {
                    true => debug!(error = %text, "cannot seal"),
                    false if found.is_transient() => warn!(error = %text, "cannot seal, trying again"),
                    false => error!(error = %text, "cannot seal: run insight verify"),
                }
                said = Some(text);
                pauses.next_pause()
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancel.cancelled() => {}
        }
    }
    Ok(())
}

/// Asks cheaply first: this runs every second, in every process with an api.
async fn turn(pool: &PgPool) -> Result<Sealed, Error> {
    const SQL: &str = "select coalesce((select position from events order by position desc limit 1), 0) \
        - coalesce((select last_position from seals order by last_position desc limit 1), 0)";
    let unsealed: i64 = sqlx::query_scalar(SQL).fetch_one(pool).await?;
    if (0..BLOCK).contains(&unsealed) { Ok(Sealed::UpToDate) } else { seal_next(pool).await }
}

/// Seals the next block if it is full and nobody else is at it.
///
/// # Errors
/// [`Error::Unsealable`]: the log is not the one that was sealed so far; [`Error::Database`], [`Error::Unreadable`].
pub async fn seal_next(pool: &PgPool) -> Result<Sealed, Error> {
    const TRY_LOCK: &str = "select pg_try_advisory_xact_lock($1)";
    const INSERT: &str = "insert into seals (last_position, seal, marks) values ($1, $2, $3)";
    let mut tx = pool.begin().await?;
    if !sqlx::query_scalar::<_, bool>(TRY_LOCK).bind(LOCK).fetch_one(&mut *tx).await? {
        tx.rollback().await?;
        return Ok(Sealed::Elsewhere);
    }
    let mut chain = resume(&mut tx).await?;
    let last = chain.seal().position.0 + BLOCK;
    if read::head(&mut *tx).await?.0 < last {
        tx.rollback().await?;
        return Ok(Sealed::UpToDate);
    }
    let marks = extend(&mut tx, &mut chain, Position(last)).await?;
    let at = chain.seal();
    sqlx::query(INSERT).bind(last).bind(at.seal.0.as_slice()).bind(marks).execute(&mut *tx).await?;
    tx.commit().await?;
    info!(position = last, seal = %at.seal, "sealed");
    Ok(Sealed::Block(at))
}

/// The seal of the whole log as of now, made of the newest stored seal and the events after it. It is not stored.
///
/// # Errors
/// As [`seal_next`].
pub async fn seal_of_head(pool: &PgPool) -> Result<SealAt, Error> {
    let mut tx = pool.begin_with("begin isolation level repeatable read read only").await?;
    let mut chain = resume(&mut tx).await?;
    let head = read::head(&mut *tx).await?;
    extend(&mut tx, &mut chain, head).await?;
    tx.commit().await?;
    Ok(chain.seal())
}

/// Every stored seal, the oldest first.
///
/// # Errors
/// [`Error::Database`], [`Error::Unreadable`].
pub async fn list(pool: &PgPool) -> Result<Vec<SealAt>, Error> {
    const SQL: &str = "select last_position, seal, ''::bytea as marks from seals order by last_position";
    let rows: Vec<(i64, Vec<u8>, Vec<u8>)> = sqlx::query_as(SQL).fetch_all(pool).await?;
    rows.into_iter().map(|row| Ok(stored(row)?.at)).collect()
}

/// The newest stored seal.
///
/// # Errors
/// [`Error::Database`], [`Error::Unreadable`].
pub async fn newest(executor: impl PgExecutor<'_>) -> Result<Option<Stored>, Error> {
    const SQL: &str = "select last_position, seal, marks from seals order by last_position desc limit 1";
    sqlx::query_as(SQL).fetch_optional(executor).await?.map(stored).transpose()
}

/// The stored seal at the end of a block.
///
/// # Errors
/// [`Error::Database`], [`Error::Unreadable`].
pub async fn find(executor: impl PgExecutor<'_>, last_position: Position) -> Result<Option<Stored>, Error> {
    const SQL: &str = "select last_position, seal, marks from seals where last_position = $1";
    sqlx::query_as(SQL).bind(last_position.0).fetch_optional(executor).await?.map(stored).transpose()
}

fn stored((position, seal, marks): (i64, Vec<u8>, Vec<u8>)) -> Result<Stored, Error> {
    let position = Position(position);
    match <[u8; 32]>::try_from(seal.as_slice()) {
        Ok(seal) => Ok(Stored { at: SealAt { position, seal: Seal(seal) }, marks }),
        Err(_) => Err(Error::Unsealable { position, reason: "the stored seal is no hash".into() }),
    }
}

/// The chain behind the newest seal, if the log still is what was sealed.
async fn resume(conn: &mut PgConnection) -> Result<Chain, Error> {
    let Some(Stored { at, marks }) = newest(&mut *conn).await? else {
        return Ok(Chain::after(Position(0), Seal::ORIGIN));
    };
    let found = read::find(&mut *conn, at.position).await?;
    let mark = found.map(|event| EventHash::of(&event).mark());
    if mark.as_ref().map(<[u8; MARK_BYTES]>::as_slice) == marks.rchunks_exact(MARK_BYTES).next() {
        return Ok(Chain::after(at.position, at.seal));
    }
    let reason =
        "the event there is not the one that was sealed, so this log is another history than its seals"
            .into();
    Err(Error::Unsealable { position: at.position, reason })
}

/// Adds the events up to a position; gives their marks.
async fn extend(conn: &mut PgConnection, chain: &mut Chain, last: Position) -> Result<Vec<u8>, Error> {
    let mut marks = Vec::new();
    let mut size = ChunkSize::new(SLICE_EVENTS, SLICE_BYTES);
    loop {
        let position = chain.seal().position;
        let left = last.0 - position.0;
        if left <= 0 {
            return Ok(marks);
        }
        let limit = i64::try_from(size.events()).unwrap_or(i64::MAX).min(left);
        let events = read::after(&mut *conn, position, limit).await?.events;
        size.observe(&events);
        for (event, expected) in events.iter().zip(position.0 + 1..) {
            if event.position.0 != expected {
                return Err(hole(expected));
            }
            let hash = EventHash::of(event);
            marks.extend(hash.mark());
            chain.add(&hash);
        }
        if events.is_empty() {
            return Err(hole(position.0 + 1));
        }
    }
}

fn hole(position: i64) -> Error {
    Error::Unsealable { position: Position(position), reason: "there is no event there".into() }
}
