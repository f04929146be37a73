//! A lock that belongs to a session of PostgreSQL, and so ends with the process that holds it: one of many, or many
//! against one.

use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::{ConnectOptions, Connection};

use super::answered_within;

/// How often a waiting process asks.
const ASK_EVERY: Duration = Duration::from_millis(400);
/// How long a holder waits for the server's word that the session lives.
const CHECK_WITHIN: Duration = Duration::from_secs(5);
/// How long opening a session, or asking it, may take.
const ASKED_WITHIN: Duration = Duration::from_secs(10);
/// After this long without a check the server ends the session of a holder that promised to check.
const CHECKED_WITHIN: Duration = Duration::from_secs(10);

/// Options for the session of a lock whose holder checks it at least every few seconds: the server ends it when nothing
/// was heard for ten. A holder that is frozen, or whose machine vanished, would otherwise keep the lock for ever.
#[must_use]
pub fn checked_often(options: &PgConnectOptions) -> PgConnectOptions {
    checked_within(options, CHECKED_WITHIN)
}

/// The same for a holder that checks more often, so that a frozen one is replaced sooner.
#[must_use]
pub fn checked_within(options: &PgConnectOptions, limit: Duration) -> PgConnectOptions {
    options.clone().options([("idle_session_timeout", limit.as_millis().to_string())])
}

/// A session that holds an advisory lock. Dropping it closes the session, which gives the lock back.
#[derive(Debug)]
pub struct SessionLock {
    connection: PgConnection,
}

impl SessionLock {
    /// Waits for the lock called `name`, alone. Names are of the database, not of the server.
    ///
    /// # Errors
    /// When the session cannot be opened, or breaks while waiting.
    pub async fn acquire(options: &PgConnectOptions, name: &str) -> Result<Self, sqlx::Error> {
        let mut connection = open(options).await?;
        while !ask(&mut connection, ALONE, name).await? {
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(Self { connection })
    }

    /// Takes the lock alone, if nobody has it.
    ///
    /// # Errors
    /// When the session cannot be opened or used.
    pub async fn try_alone(options: &PgConnectOptions, name: &str) -> Result<Option<Self>, sqlx::Error> {
        let mut connection = open(options).await?;
        Ok(ask(&mut connection, ALONE, name).await?.then_some(Self { connection }))
    }

    /// Shares the lock with others, as soon as nobody has it alone. A server that is away is waited for.
    pub async fn acquire_shared(options: &PgConnectOptions, name: &str) -> Self {
        loop {
            let asked = async {
                let mut connection = open(options).await?;
                Ok::<_, sqlx::Error>(ask(&mut connection, SHARED, name).await?.then_some(Self { connection }))
            };
            match asked.await {
                Ok(Some(lock)) => return lock,
                Ok(None) => tracing::debug!(name, "somebody has the lock alone: waiting"),
                Err(error) => tracing::warn!(name, %error, "the lock cannot be asked for"),
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Makes sure that the session lives, and with it the lock.
    ///
    /// # Errors
    /// When it does not, or does not answer in time: the lock is to be regarded as lost.
    pub async fn check(&mut self) -> Result<(), sqlx::Error> {
        answered_within(CHECK_WITHIN, self.connection.ping()).await
    }

    /// Gives the lock back; whoever asks afterwards gets it. The end of the session alone would say so a moment later.
    pub async fn release(mut self) {
        let unlock = sqlx::query("select pg_advisory_unlock_all()").execute(&mut self.connection);
        if let Err(error) = answered_within(CHECK_WITHIN, unlock).await {
            tracing::debug!(%error, "a lock is given back by the end of its session");
        }
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "the session of a lock did not close cleanly");
        }
    }
}

/// The session that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// As the session calls itself.
    pub application_name: String,
    /// Where it is from; none over a Unix socket.
    pub address: Option<String>,
}

/// Who holds which of these locks now, alone or with others.
///
/// # Errors
/// The database.
pub async fn lock_holders(pool: &PgPool, names: &[String]) -> Result<Vec<(String, LockHolder)>, sqlx::Error> {
    // The two halves of a key are shown as numbers without a sign.
    const SQL: &str = "select l.classid::bigint, l.objid::bigint, a.application_name, host(a.client_addr) \
        from pg_locks l join pg_stat_activity a using (pid) join pg_database d on d.oid = l.database \
        where l.locktype = 'advisory' and l.objsubid = 2 and l.granted and d.datname = current_database() \
        order by a.pid";
    let rows: Vec<(i64, i64, Option<String>, Option<String>)> = sqlx::query_as(SQL).fetch_all(pool).await?;
    let mut holders = Vec::new();
    for name in names {
        let (high, low) = key(name);
        let wanted = (i64::from(high.cast_unsigned()), i64::from(low.cast_unsigned()));
        let found = rows.iter().filter(|(high, low, ..)| (*high, *low) == wanted);
        holders.extend(found.map(|(_, _, application_name, address)| {
            let application_name = application_name.clone().unwrap_or_default();
            (name.clone(), LockHolder { application_name, address: address.clone() })
        }));
    }
    Ok(holders)
}

const ALONE: &str = "select pg_try_advisory_lock($1, $2)";
const SHARED: &str = "select pg_try_advisory_lock_shared($1, $2)";

async fn open(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    answered_within(ASKED_WITHIN, options.connect()).await
}

async fn ask(connection: &mut PgConnection, sql: &'static str, name: &str) -> Result<bool, sqlx::Error> {
    let (high, low) = key(name);
    let asked = sqlx::query_scalar(sql).bind(high).bind(low).fetch_one(connection);
    answered_within(ASKED_WITHIN, asked).await
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
