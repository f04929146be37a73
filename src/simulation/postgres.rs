//! The same appends on the real function, for some of the histories.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};

use crate::domain::ids::{Epoch, Position};
use crate::event_store::{Answered, Append, Appender, read};
use crate::events::Envelope;

/// A database of its own, emptied between runs, and dropped with this value.
pub(super) struct PostgresLog {
    runtime: tokio::runtime::Runtime,
    pool: PgPool,
    appender: Appender,
    server: String,
    name: String,
}

impl PostgresLog {
    /// Makes the database on the server of the run.
    pub(super) fn create() -> Self {
        let server = std::env::var("DATABASE_URL").expect("no DATABASE_URL: run scripts/test");
        let name = format!("simulation_{}", uuid::Uuid::now_v7().simple());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = crate::postgres::options(&server).unwrap();
        let pool = runtime.block_on(async {
            let mut connection =
                PgConnection::connect_with(&options).await.expect("PostgreSQL at DATABASE_URL");
            connection.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
            let pool = PgPool::connect_with(options.clone().database(&name)).await.unwrap();
            crate::event_store::schema::apply(&pool).await.unwrap();
            pool
        });
        let appender = Appender::new(options.database(&name));
        Self { runtime, pool, appender, server, name }
    }

    pub(super) fn append(&mut self, batch: &[Append]) -> Answered {
        self.runtime.block_on(self.appender.append(batch)).expect("PostgreSQL appends")
    }

    pub(super) fn restore(&mut self, head: Position, epoch: Epoch) {
        self.script(&format!(
            "alter table events disable trigger events_immutable; delete from events where position > {head}; \
             alter table events enable trigger events_immutable; delete from log_epochs where epoch > {epoch}"
        ));
        self.forget();
    }

    pub(super) fn new_epoch(&mut self, epoch: Epoch, first: Position) {
        self.script(&format!(
            "delete from log_epochs where first_position >= {first}; insert into log_epochs (epoch, first_position, reason) values ({epoch}, {first}, 'simulated')"
        ));
    }

    pub(super) fn all(&mut self) -> Vec<Envelope> {
        self.runtime.block_on(read::after(&self.pool, Position(0), i64::MAX)).unwrap().events
    }

    /// As on the first day.
    pub(super) fn empty(&mut self) {
        self.script(
            "alter table events disable trigger events_immutable; delete from events; \
             alter table events enable trigger events_immutable; delete from investor_details; \
             delete from log_epochs where epoch > 1",
        );
        self.forget();
    }

    /// Another process would append from here on: this one's memory of the log is of what is gone.
    fn forget(&mut self) {
        self.runtime.block_on(self.appender.close());
        self.appender = Appender::new((*self.pool.connect_options()).clone());
    }

    fn script(&mut self, script: &str) {
        self.runtime.block_on(sqlx::raw_sql(AssertSqlSafe(script)).execute(&self.pool)).unwrap();
    }
}

impl Drop for PostgresLog {
    fn drop(&mut self) {
        let options = crate::postgres::options(&self.server).unwrap();
        let statement = format!("drop database {} with (force)", self.name);
        self.runtime.block_on(async {
            self.appender.close().await;
            self.pool.close().await;
            if let Ok(mut connection) = PgConnection::connect_with(&options).await {
                let _ = connection.execute(AssertSqlSafe(statement)).await;
            }
        });
    }
}
