//! Making loaded tables whole: what stands in them is compared with what was written, then they get keys and indexes.
//!
//! The comparison reads every row back. It finds a piece that was written twice or not at all, a row that was changed, and
//! what a disk or its cache has spoiled. Tables are worked on two at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use sqlx::AssertSqlSafe;
use tokio::task::JoinSet;

use super::beside::Beside;
use super::{Hear, News};
use crate::projectors::Error;
use crate::projectors::copy::{Sum, row_of_message};
use crate::projectors::schema;

/// How many tables are worked on at the same time.
const AT_ONCE: usize = 2;

/// What a table is to hold, and what it still lacks.
#[derive(Debug, Default)]
struct Table {
    columns: Option<String>,
    sum: Sum,
    statements: Vec<String>,
}

/// Compares, makes keys and indexes, and notes that all of it is done.
pub(super) async fn finish(beside: &Beside, hear: Hear<'_>) -> Result<(), Error> {
    let mut tables = tables(beside).await?.into_iter();
    let mut working = JoinSet::new();
    let mut rows = 0;
    let rows_pool = Arc::new(beside.rows.clone());
    let schema_name: Arc<str> = beside.name.as_str().into();
    loop {
        while working.len() < AT_ONCE
            && let Some((name, table)) = tables.next()
        {
            rows += table.sum.rows;
            working.spawn(whole(Arc::clone(&rows_pool), Arc::clone(&schema_name), name, table));
        }
        match working.join_next().await {
            None => break,
            Some(Ok(Err(error @ Error::Damaged { .. }))) => {
                working.shutdown().await;
                schema::drop_schema(&mut *beside.rows.acquire().await?, &beside.name).await?;
                return Err(error);
            }
            Some(Ok(outcome)) => outcome?,
            Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
    sqlx::raw_sql("drop table rebuild_sums, rebuild_deferred").execute(&beside.rows).await?;
    // What is made from others is not there yet.
    if rows > 0 {
        hear(News::Note(format!("{}: {rows} rows stand as they were written", beside.name)));
    }
    Ok(())
}

async fn tables(beside: &Beside) -> Result<BTreeMap<String, Table>, Error> {
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    let sums: Vec<(String, String, i64, i64)> =
        sqlx::query_as("select table_name, columns, rows, checksum from rebuild_sums")
            .fetch_all(&beside.rows)
            .await?;
    for (name, columns, rows, checksum) in sums {
        let table = tables.entry(name).or_default();
        table.columns = Some(columns);
        table.sum.join(Sum { rows: rows as u64, checksum: checksum as u64 });
    }
    let statements: Vec<(String, String)> =
        sqlx::query_as("select table_name, statement from rebuild_deferred").fetch_all(&beside.rows).await?;
    for (name, statement) in statements {
        tables.entry(name).or_default().statements.push(statement);
    }
    Ok(tables)
}

/// One table: compared, with its keys and indexes, and known to the planner.
async fn whole(rows: Arc<sqlx::PgPool>, schema: Arc<str>, name: String, table: Table) -> Result<(), Error> {
    let mut conn = rows.acquire().await?;
    if let Some(columns) = table.columns {
        let mut found = Sum::default();
        let statement = format!("copy {name} ({columns}) to stdout (format binary)");
        let mut messages = conn.copy_out_raw(&statement).await?;
        while let Some(message) = messages.next().await {
            if let Some(row) = row_of_message(&message?) {
                found.add(row);
            }
        }
        drop(messages);
        if found != table.sum {
            return Err(Error::Damaged {
                table: format!("{schema}.{name}"),
                rows: table.sum.rows,
                checksum: table.sum.checksum,
                found_rows: found.rows,
                found_checksum: found.checksum,
            });
        }
    }
    for statement in table.statements {
        let mut tx = sqlx::Connection::begin(&mut *conn).await?;
        sqlx::query("delete from rebuild_deferred where statement = $1")
            .bind(&statement)
            .execute(&mut *tx)
            .await?;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *tx).await?;
        tx.commit().await?;
    }
    // Readers come all at once, and the first plans must not be made for an empty table.
    sqlx::raw_sql(AssertSqlSafe(format!("analyze {name}"))).execute(&mut *conn).await?;
    Ok(())
}
