//! Who uses a read model's tables: a session lock that ends with its connection.
//!
//! Projectors share it (which of them owns a shard is the feed's and the checkpoint's business), a rebuild needs it alone.
//! It saves people from themselves and proves nothing: rows are guarded by the checkpoint's revision.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

/// How often a projector asks again while a rebuild has the tables.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// After how long without an answer the connection counts as lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The lock, as long as its connection lives.
pub(super) struct Lock {
    conn: PgConnection,
}

impl Lock {
    /// Takes it alone, unless a projector of the read model runs.
    pub(super) async fn alone(
        options: &PgConnectOptions,
        read_model: &str,
    ) -> Result<Option<Self>, sqlx::Error> {
        const SQL: &str = "select pg_try_advisory_lock(hashtext('insight project'), hashtext($1))";
        Self::take(options, read_model, SQL).await
    }

    /// Shares it with other projectors, as soon as no rebuild has it; `None` when cancelled.
    pub(super) async fn shared(
        options: &PgConnectOptions,
        read_model: &str,
        cancel: &CancellationToken,
    ) -> Option<Self> {
        const SQL: &str = "select pg_try_advisory_lock_shared(hashtext('insight project'), hashtext($1))";
        loop {
            match Self::take(options, read_model, SQL).await {
                Ok(Some(lock)) => return Some(lock),
                Ok(None) => tracing::debug!(read_model, "the read model is being rebuilt: waiting"),
                Err(error) => tracing::warn!(read_model, %error, "cannot ask for the read model's lock"),
            }
            tokio::select! {
                () = cancel.cancelled() => return None,
                () = tokio::time::sleep(ASK_EVERY) => {}
            }
        }
    }

    async fn take(
        options: &PgConnectOptions,
        read_model: &str,
        sql: &'static str,
    ) -> Result<Option<Self>, sqlx::Error> {
        let mut conn = PgConnection::connect_with(options).await?;
        let taken: bool = sqlx::query_scalar(sql).bind(read_model).fetch_one(&mut conn).await?;
        if taken { Ok(Some(Self { conn })) } else { conn.close().await.map(|()| None) }
    }

    /// Whether the connection, and so the lock, is still ours.
    pub(super) async fn is_held(&mut self) -> bool {
        matches!(tokio::time::timeout(ANSWER_WITHIN, self.conn.ping()).await, Ok(Ok(())))
    }

    /// Gives it back.
    pub(super) async fn release(self) {
        // The server gives it back with the connection, however that ends.
        let _ = self.conn.close().await;
    }
}
