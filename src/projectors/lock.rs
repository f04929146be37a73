//! Who projects a read model: a session lock that ends with its connection.
//!
//! It saves work, it proves nothing: rows are guarded by the checkpoint's revision. The store form has one projector a
//! read model, so it holds the lock alone; the consumers of a Kafka group share it; a rebuild needs it alone.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

/// How often a projector that stands by asks again.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Whether others may project the same read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    Alone,
    Shared,
}

/// The lock, as long as its connection lives.
pub(super) struct Lock {
    conn: PgConnection,
}

impl Lock {
    /// Takes the lock if it is free.
    pub(super) async fn try_take(
        options: &PgConnectOptions,
        read_model: &str,
        share: Share,
    ) -> Result<Option<Self>, sqlx::Error> {
        let mut conn = PgConnection::connect_with(options).await?;
        let sql = match share {
            Share::Alone => "select pg_try_advisory_lock(hashtext('insight project'), hashtext($1))",
            Share::Shared => "select pg_try_advisory_lock_shared(hashtext('insight project'), hashtext($1))",
        };
        let taken: bool = sqlx::query_scalar(sql).bind(read_model).fetch_one(&mut conn).await?;
        if taken { Ok(Some(Self { conn })) } else { conn.close().await.map(|()| None) }
    }

    /// Waits for the lock; `None` when cancelled.
    pub(super) async fn take(
        options: &PgConnectOptions,
        read_model: &str,
        share: Share,
        cancel: &CancellationToken,
    ) -> Option<Self> {
        let mut said = false;
        loop {
            match Self::try_take(options, read_model, share).await {
                Ok(Some(lock)) => return Some(lock),
                Ok(None) if said => {}
                Ok(None) => tracing::info!(read_model, "another process projects this read model: standing by"),
                Err(error) => tracing::warn!(read_model, %error, "cannot ask for the projector's lock"),
            }
            said = true;
            tokio::select! {
                () = cancel.cancelled() => return None,
                () = tokio::time::sleep(ASK_EVERY) => {}
            }
        }
    }

    /// Whether the connection, and so the lock, is still ours.
    pub(super) async fn is_held(&mut self) -> bool {
        let answer = tokio::time::timeout(Duration::from_secs(5), self.conn.ping()).await;
        matches!(answer, Ok(Ok(())))
    }
}
