//! No statement of a read model reads a large table from end to end, unless it has leave; and a dropped index is noticed.

use insight::roles::explain::STATEMENTS;
use insight::roles::explain::plan::{Asking, explain};
use sqlx::{AssertSqlSafe, PgPool};

use crate::environment;

/// Rows of every table that grows with what people do.
const ROWS: i32 = 20_000;
/// Beyond this a table is large.
const LARGE_FROM: u64 = 10_000;

/// Fills every table of every read model, and the log, by statements of its own: nothing here is a fold of anything.
pub async fn fill(pool: &PgPool, portfolios: i32) {
    let script = include_str!("../data/many_rows.sql").replace("$portfolios", &portfolios.to_string());
    sqlx::raw_sql(AssertSqlSafe(script)).execute(pool).await.unwrap();
}

/// Every scan of a large table that should not be, with its plan.
async fn offences(pool: &PgPool, analyze: bool) -> Vec<String> {
    let mut offences = Vec::new();
    for statement in STATEMENTS {
        let asking = Asking { analyze, large_from: LARGE_FROM };
        for explained in explain(pool, statement, asking).await.unwrap() {
            let case = explained.case;
            assert!(!explained.plan.is_empty(), "{} {case}", statement.name);
            for scan in explained.offences() {
                offences.push(format!("{} {case}: {}\n{}", statement.name, scan.table, explained.plan));
            }
        }
    }
    offences
}

#[tokio::test]
async fn no_statement_reads_a_large_table_from_end_to_end() {
    let database = environment::database().await;
    fill(&database.pool, ROWS).await;
    let empty: Vec<String> = sqlx::query_scalar(
        "select schemaname || '.' || t.relname from pg_stat_user_tables t \
         join pg_class on pg_class.oid = relid where reltuples <= 10000 and schemaname <> 'public' \
         and t.relname not in ('checkpoints', 'parked_streams', 'skipped_events', 'assets', 'symbols', 'quotes', \
         'price_sources', 'jobs') order by 1",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    assert_eq!(empty, [""; 0], "these tables have too few rows for their plans to mean anything");
    let found = offences(&database.pool, false).await;
    assert!(found.is_empty(), "{}", found.join("\n\n"));

    // What is looked for is found.
    sqlx::raw_sql("drop index valuations.valued_portfolios_by_value").execute(&database.pool).await.unwrap();
    let found = offences(&database.pool, true).await;
    assert!(
        found.iter().any(|it| it.starts_with("directory/list_portfolios_by_value down: valuations.valued_portfolios")),
        "a dropped index is noticed: {found:?}"
    );
}
