//! Readers of the log as any program may be one: `select … where position > last`, straight on the table, all the time, at
//! both isolation levels. What they have seen must be the whole log, in order, each event once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};
use uuid::Uuid;

const PAUSE: Duration = Duration::from_millis(5);
const AWAY: Duration = Duration::from_millis(100);
/// A statement of a server that stands still is given up.
const WITHIN: Duration = Duration::from_secs(5);
const NEXT: &str =
    "select position, command_id, ordinal from events where position > $1 order by position limit 500";

/// How a follower reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Each statement of its own.
    ReadCommitted,
    /// Several in a transaction.
    RepeatableRead,
}

/// What was seen: how far, and a digest of it.
#[derive(Clone)]
pub struct Followed {
    last: i64,
    digest: Sha256,
}

impl Followed {
    fn nothing() -> Self {
        Self { last: 0, digest: Sha256::new() }
    }

    fn see(&mut self, (position, command, ordinal): (i64, Uuid, i32)) {
        assert_eq!(position, self.last + 1, "a reader of positions after its last one misses nothing");
        self.last = position;
        self.digest.update(format!("{position} {command}.{ordinal}\n"));
    }
}

/// Follows until stopped and the log has ended; a server that is away is waited for.
pub async fn follow(server: PgConnectOptions, isolation: Isolation, stop: Arc<AtomicBool>) -> Followed {
    let mut followed = Followed::nothing();
    let mut connection = None;
    loop {
        let stops = stop.load(Ordering::Relaxed);
        let before = followed.last;
        let read =
            tokio::time::timeout(WITHIN, read(&server, &mut connection, isolation, &mut followed)).await;
        match read {
            Ok(Ok(())) if stops && followed.last == before => return followed,
            Ok(Ok(())) => tokio::time::sleep(PAUSE).await,
            _ => {
                connection = None;
                tokio::time::sleep(AWAY).await;
            }
        }
    }
}

async fn read(
    server: &PgConnectOptions,
    connection: &mut Option<PgConnection>,
    isolation: Isolation,
    followed: &mut Followed,
) -> Result<(), sqlx::Error> {
    if connection.is_none() {
        *connection = Some(PgConnection::connect_with(server).await?);
    }
    let Some(connection) = connection else { return Ok(()) };
    let statements = match isolation {
        Isolation::ReadCommitted => 1,
        Isolation::RepeatableRead => {
            connection.execute("begin isolation level repeatable read read only").await?;
            2
        }
    };
    for _ in 0..statements {
        let rows: Vec<(i64, Uuid, i32)> =
            sqlx::query_as(NEXT).bind(followed.last).fetch_all(&mut *connection).await?;
        rows.into_iter().for_each(|row| followed.see(row));
    }
    if isolation == Isolation::RepeatableRead {
        connection.execute("commit").await?;
    }
    Ok(())
}

/// Holds what was followed against the log as it is now.
pub async fn assert_nothing_missed(server: PgConnectOptions, followed: Vec<Followed>) {
    let mut now = Followed::nothing();
    let mut connection = PgConnection::connect_with(&server).await.expect("the server is there");
    let least = followed.iter().map(|it| it.last).min().unwrap_or_default();
    let mut at = vec![None; followed.len()];
    loop {
        let rows: Vec<(i64, Uuid, i32)> = sqlx::query_as(NEXT)
            .bind(now.last)
            .fetch_all(&mut connection)
            .await
            .expect("the log can be read");
        if rows.is_empty() {
            break;
        }
        for row in rows {
            now.see(row);
            for (at, it) in at.iter_mut().zip(&followed).filter(|(_, it)| it.last == now.last) {
                *at = Some(now.digest.clone().finalize() == it.digest.clone().finalize());
            }
        }
    }
    assert!(least > 0 || followed.is_empty(), "the followers saw something");
    for (at, it) in at.iter().zip(&followed) {
        assert_eq!(*at, Some(true), "what a reader saw up to {} is what the log holds", it.last);
    }
}
