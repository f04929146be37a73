//! Connections to PostgreSQL, and the private server of the embedded form.
//!
//! [`connect`] makes the pool of one role, with limits that keep a frozen process from holding anything for ever.
//! [`EmbeddedPostgres`] is a server that belongs to a data folder; what it gives is connected to in the same way.

mod binaries;
mod deadline;
mod doubt;
mod dump;
mod embedded;
mod folder;
mod listener;
mod session_lock;

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::{Connection, Executor};

pub use self::binaries::Error as BinariesError;
pub use self::deadline::{answered, answered_within};
pub use self::doubt::{doubt_connections, pool_options};
pub use self::dump::{Error as DumpError, dump, is_unfinished};
pub use self::embedded::{EmbeddedPostgres, Error as EmbeddedError};
pub use self::folder::Error as FolderError;
pub use self::listener::{Listener, Wake};
pub use self::session_lock::{LockHolder, SessionLock, checked_often, checked_within, lock_holders};

/// The oldest server that will do, as `server_version_num` counts.
const VERSION_MIN: i32 = 140_000;

/// How long the first connection may take before the server counts as unreachable.
const REACHABLE_WITHIN: Duration = Duration::from_secs(5);

/// How the sessions of one pool behave.
#[derive(Clone, Debug)]
pub struct Session {
    /// The role, as `pg_stat_activity` shows it.
    pub application_name: String,
    /// The most connections the pool opens.
    pub connections_max: u32,
    /// How long a query waits for a free connection.
    pub acquire_timeout: Duration,
    /// How long one statement may take; `None` for as long as it likes.
    pub statement_timeout: Option<Duration>,
    /// How long one statement may wait for a lock; `None` for as long as it likes.
    pub lock_timeout: Option<Duration>,
    /// How long a transaction may stand open while nothing happens, before the server ends the session.
    pub idle_in_transaction_timeout: Duration,
}

impl Session {
    /// Ten connections, statements of at most 30 s, no limit on locks beyond that.
    #[must_use]
    pub fn of(application_name: impl Into<String>) -> Self {
        Self {
            application_name: application_name.into(),
            connections_max: 10,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Some(Duration::from_secs(30)),
            lock_timeout: None,
            idle_in_transaction_timeout: Duration::from_secs(60),
        }
    }

    /// The settings every session of the pool starts with. A machine that vanished is noticed within half a minute; over a
    /// Unix socket the server ignores the TCP settings. The isolation is said because a server's default may be another.
    fn settings(&self) -> [(&'static str, String); 8] {
        [
            ("statement_timeout", milliseconds(self.statement_timeout)),
            ("lock_timeout", milliseconds(self.lock_timeout)),
            ("idle_in_transaction_session_timeout", milliseconds(Some(self.idle_in_transaction_timeout))),
            ("default_transaction_isolation", "read committed".to_owned()),
            ("tcp_keepalives_idle", "10".to_owned()),
            ("tcp_keepalives_interval", "5".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
            ("tcp_user_timeout", "25000".to_owned()),
        ]
    }
}

/// Zero is how PostgreSQL says "no limit".
fn milliseconds(limit: Option<Duration>) -> String {
    limit.map_or(0, |limit| limit.as_millis().max(1)).to_string()
}

/// Why there is no database to work with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one. The text never repeats it: it may hold a password.
    #[error("DATABASE_URL is not a PostgreSQL address such as postgres://user@host:5432/insight")]
    Address(#[source] sqlx::Error),
    /// Nobody answers there, or not to us.
    #[error("cannot reach PostgreSQL at {server}")]
    Unreachable {
        /// Host, port and database.
        server: String,
        /// What the attempt said.
        source: sqlx::Error,
    },
    /// It takes the connection and then says nothing.
    #[error("PostgreSQL at {server} did not answer within {REACHABLE_WITHIN:?}")]
    Silent {
        /// Host, port and database.
        server: String,
    },
    /// An older server than the statements are written for.
    #[error("PostgreSQL at {server} is version {version}; 14 or newer is needed")]
    TooOld {
        /// Host, port and database.
        server: String,
        /// Its major version.
        version: i32,
    },
}

/// Reads a `postgres://` address.
///
/// # Errors
/// [`Error::Address`].
pub fn options(url: &str) -> Result<PgConnectOptions, Error> {
    url.parse().map_err(Error::Address)
}

/// A pool on the server at `options`. One connection is tried first, so that a wrong address is an error now, in one line,
/// instead of a time-out later.
///
/// # Errors
/// A server that cannot be reached or is too old.
pub async fn connect(options: PgConnectOptions, session: &Session) -> Result<PgPool, Error> {
    let options = options.application_name(&session.application_name).options(session.settings());
    check(&options).await?;
    Ok(pool_options()
        .max_connections(session.connections_max)
        .acquire_timeout(session.acquire_timeout)
        .connect_lazy_with(options))
}

async fn check(options: &PgConnectOptions) -> Result<(), Error> {
    let server = || server(options);
    let version = async {
        let mut connection = PgConnection::connect_with(options).await?;
        let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(version)
    };
    match tokio::time::timeout(REACHABLE_WITHIN, version).await {
        Err(_) => Err(Error::Silent { server: server() }),
        Ok(Err(source)) => Err(Error::Unreachable { server: server(), source }),
        Ok(Ok(version)) if version < VERSION_MIN => {
            Err(Error::TooOld { server: server(), version: version / 10_000 })
        }
        Ok(Ok(_)) => Ok(()),
    }
}

/// Where `options` lead, without a password.
fn server(options: &PgConnectOptions) -> String {
    let place = match options.get_socket() {
        Some(folder) => folder.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    match options.get_database() {
        Some(database) => format!("{place}/{database}"),
        None => place,
    }
}

/// Creates the database that `options` name, on the same server, unless it is there.
async fn create_database(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let name = options.get_database().unwrap_or_default();
    let mut connection = PgConnection::connect_with(&options.clone().database("postgres")).await?;
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(name)
        .fetch_one(&mut connection)
        .await?;
    if !exists {
        let statement = format!("create database \"{}\"", name.replace('"', "\"\""));
        connection.execute(sqlx::AssertSqlSafe(statement)).await?;
    }
    connection.close().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_sense_is_refused_without_repeating_it() {
        let error = options("http//user:secret@host").unwrap_err();
        assert!(error.to_string().starts_with("DATABASE_URL is not a PostgreSQL address"), "{error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }

    #[tokio::test]
    async fn an_unreachable_server_is_named_in_one_line_without_the_password() {
        let options = options("postgres://me:secret@127.0.0.1:1/insight").unwrap();
        let error = connect(options, &Session::of("test")).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot reach PostgreSQL at 127.0.0.1:1/insight");
    }
}
