//! What an integration test stands on: a database of its own on the one PostgreSQL server of the run, and names of its own on
//! the one Kafka broker.
//!
//! A server takes seconds to start and a database a tenth of one, so the servers are started once, by `scripts/test`, and
//! every test copies a template that has the schema already. The template is named after what is in it: a changed migration
//! is another template, and two runs on one server do not meet.

use std::env;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use insight::postgres::{self, Session};
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection, Executor};
use uuid::Uuid;

/// Puts everything into an empty database that a test expects there. The one place to say so.
async fn apply_schema(database: &PgPool) -> Result<(), Box<dyn std::error::Error>> {
    insight::event_store::schema::apply(database).await?;
    insight::projectors::schema::apply_all(database).await?;
    Ok(())
}

/// A database that belongs to one test, with every schema applied and no rows. Dropped with this value.
pub struct TestDatabase {
    /// A pool on it.
    pub pool: PgPool,
    name: String,
    server: PgConnectOptions,
}

impl TestDatabase {
    /// How to connect: for further pools.
    pub fn options(&self) -> PgConnectOptions {
        self.server.clone().database(&self.name)
    }

    /// Drops it without blocking the task, which others may share.
    ///
    /// Dropping a database waits until every backend of the server has heard of it, and one that is sending rows hears nothing
    /// before they are read. So a task that blocks while it has rows to read for another database would wait for itself.
    #[allow(dead_code, reason = "used by tests that look at several databases at a time")]
    pub async fn dropped(self) {
        tokio::task::spawn_blocking(move || drop(self)).await.expect("a drop does not panic");
    }

    /// How to connect: for a process, as its `DATABASE_URL`.
    #[allow(dead_code, reason = "used by tests that start processes")]
    pub fn url(&self) -> String {
        let mut url = variable("DATABASE_URL");
        let query = url.find('?').map(|at| url.split_off(at)).unwrap_or_default();
        let host = url.find("://").map_or(0, |at| at + 3);
        let path = url[host..].find('/').map_or(url.len(), |at| host + at);
        format!("{}/{}{query}", &url[..path], self.name)
    }
}

impl Drop for TestDatabase {
    /// On a thread of its own, since a drop cannot wait. A failure leaves a database behind, which harms nobody.
    fn drop(&mut self) {
        let statement = format!("drop database if exists {} with (force)", self.name);
        let server = self.server.clone();
        let dropping = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let mut connection = PgConnection::connect_with(&server).await?;
                connection.execute(AssertSqlSafe(statement)).await
            })
        });
        if let Ok(Err(error)) = dropping.join() {
            eprintln!("left the database {} behind: {error}", self.name);
        }
    }
}

/// A fresh database for one test.
///
/// # Panics
/// When there is no server: `scripts/test` starts one.
pub async fn database() -> TestDatabase {
    let server = postgres::options(&variable("DATABASE_URL")).expect("DATABASE_URL is an address");
    let mut connection = PgConnection::connect_with(&server)
        .await
        .unwrap_or_else(|error| panic!("no PostgreSQL at DATABASE_URL ({error}): run scripts/test"));
    let template = template(&mut connection, &server).await;

    let name = format!("test_{}", Uuid::now_v7().simple());
    let statement = format!("create database {name} template {template}");
    connection.execute(AssertSqlSafe(statement)).await.expect("a copy of the template");
    connection.close().await.expect("a clean end");

    let pool = pool(server.clone().database(&name)).await;
    TestDatabase { pool, name, server }
}

/// A database with the same content as another one, whose connections end for that.
#[allow(dead_code, reason = "used by tests that damage one history in many ways")]
pub async fn copy_of(original: &TestDatabase) -> TestDatabase {
    original.pool.close().await;
    let server = original.server.clone();
    let mut connection = PgConnection::connect_with(&server).await.expect("a server that was just there");
    let others = format!(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{}'",
        original.name
    );
    connection.execute(AssertSqlSafe(others)).await.expect("nobody needs the original any more");
    let name = format!("test_{}", Uuid::now_v7().simple());
    let statement = format!("create database {name} template {}", original.name);
    connection.execute(AssertSqlSafe(statement)).await.expect("a copy");
    connection.close().await.expect("a clean end");
    let pool = pool(server.clone().database(&name)).await;
    TestDatabase { pool, name, server }
}

/// The name of the database that has every schema, made by the first test that asks. The lock lets the others wait; the
/// template gets its name when it is finished, so a killed run leaves nothing that looks like one.
async fn template(connection: &mut PgConnection, server: &PgConnectOptions) -> String {
    let digest = content_digest();
    let name = format!("insight_template_{}", &digest[..16]);
    let key = i64::from_str_radix(&digest[..15], 16).expect("hexadecimal digits");

    sqlx::query("select pg_advisory_lock($1)").bind(key).execute(&mut *connection).await.expect("the lock");
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&name)
        .fetch_one(&mut *connection)
        .await
        .expect("the list of databases");
    if !exists {
        let unfinished = format!("{name}_unfinished");
        for statement in
            [format!("drop database if exists {unfinished}"), format!("create database {unfinished}")]
        {
            connection.execute(AssertSqlSafe(statement)).await.expect("a database for the template");
        }
        let pool = pool(server.clone().database(&unfinished)).await;
        apply_schema(&pool).await.expect("the schema applies to an empty database");
        pool.close().await;
        let rename = format!("alter database {unfinished} rename to {name}");
        connection.execute(AssertSqlSafe(rename)).await.expect("nobody else uses the template");
    }
    sqlx::query("select pg_advisory_unlock($1)").bind(key).execute(connection).await.expect("our own lock");
    name
}

/// A digest over every file that shapes the schema, and their names, in a fixed order.
fn content_digest() -> String {
    let mut files = Vec::new();
    for folder in ["migrations", "projections"] {
        sql_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    }
    files.sort();
    let mut digest = Sha256::new();
    for path in files {
        digest.update(path.to_string_lossy().as_bytes());
        digest.update(fs::read(&path).expect("a file that was just listed"));
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sql_files(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sql_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
}

/// Few connections each: many tests share the server.
async fn pool(options: PgConnectOptions) -> PgPool {
    let session = Session {
        connections_max: 8,
        acquire_timeout: Duration::from_secs(30),
        ..Session::of("integration test")
    };
    postgres::connect(options, &session).await.expect("a database that was just created")
}

/// The broker of the run, as `bootstrap.servers` wants it.
///
/// # Panics
/// When there is none: `scripts/test` starts one.
pub fn kafka_brokers() -> String {
    variable("KAFKA_BROKERS")
}

/// A prefix for the topics and groups of one test, as `KAFKA_TOPIC_PREFIX`: tests run at the same time on one broker.
pub fn topic_prefix() -> String {
    format!("test-{}.", Uuid::now_v7().simple())
}

fn variable(name: &str) -> String {
    match env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => panic!("{name} is not set, so there is no server to test against: run scripts/test"),
    }
}
