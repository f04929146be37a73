//! One of many: a lock that belongs to a session of PostgreSQL, and so ends with the process that holds it.

use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

/// How often a waiting process asks.
const ASK_EVERY: Duration = Duration::from_millis(400);
/// How long a holder waits for the server's word that the session lives.
const CHECK_WITHIN: Duration = Duration::from_secs(5);

/// A session that holds an advisory lock. Dropping it closes the session, which gives the lock back.
#[derive(Debug)]
pub struct SessionLock {
    connection: PgConnection,
}

impl SessionLock {
    /// Waits for the lock called `name`. Names are of the database, not of the server.
    ///
    /// # Errors
    /// When the session cannot be opened, or breaks while waiting.
    pub async fn acquire(options: &PgConnectOptions, name: &str) -> Result<Self, sqlx::Error> {
        let mut connection = options.connect().await?;
        let (high, low) = key(name);
        loop {
            let statement = sqlx::query_scalar("select pg_try_advisory_lock($1, $2)").bind(high).bind(low);
            if statement.fetch_one(&mut connection).await? {
                return Ok(Self { connection });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Makes sure that the session lives, and with it the lock.
    ///
    /// # Errors
    /// When it does not, or does not answer in time: the lock is to be regarded as lost.
    pub async fn check(&mut self) -> Result<(), sqlx::Error> {
        match tokio::time::timeout(CHECK_WITHIN, self.connection.ping()).await {
            Ok(answer) => answer,
            Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
        }
    }

    /// Gives the lock back.
    pub async fn release(self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "the session of a lock did not close cleanly");
        }
    }
}

/// Two halves of a hash of the name.
fn key(name: &str) -> (i32, i32) {
    let digest = Sha256::digest(name.as_bytes());
    let half = |at: usize| i32::from_be_bytes([digest[at], digest[at + 1], digest[at + 2], digest[at + 3]]);
    (half(0), half(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_frozen() {
        assert_eq!(key("relay"), key("relay"));
        assert_ne!(key("relay"), key("projector.holdings"));
    }
}
