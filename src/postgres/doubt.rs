//! Connections that may be dead without anybody having said so.
//!
//! A router that is restarted forgets what it carried: the server gives such a connection up, the client is never told. A
//! request that was given up on one leaves a connection that still owes an answer; the pool waits for that before it uses the
//! connection again, without a limit, and so loses a place for each. While the server is in doubt, a connection that
//! comes back is therefore tried first, within a limit. At all other times that would cost every request a round trip.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::postgres::PgPoolOptions;

/// How long connections are doubted after the server did not answer: longer than anybody keeps one.
const DOUBTED_FOR: Duration = Duration::from_secs(60);
/// How long one that comes back may take to show that it lives.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

/// Of this process: all of its pools are on one server.
static DOUBTED_UNTIL_MS: AtomicU64 = AtomicU64::new(0);
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The server did not answer: no connection to it is to be trusted for a while.
pub fn doubt_connections() {
    DOUBTED_UNTIL_MS.fetch_max(elapsed_ms().saturating_add(milliseconds(DOUBTED_FOR)), Ordering::Relaxed);
}

/// Options of a pool that does not wait for ever for a connection that comes back.
pub fn pool_options() -> PgPoolOptions {
    PgPoolOptions::new().after_release(|connection, _| {
        Box::pin(async move {
            if elapsed_ms() >= DOUBTED_UNTIL_MS.load(Ordering::Relaxed) {
                return Ok(true);
            }
            let shown = tokio::time::timeout(SHOWN_WITHIN, connection.ping()).await;
            shown.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))?;
            Ok(true)
        })
    })
}

fn elapsed_ms() -> u64 {
    milliseconds(BEGAN.elapsed())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
