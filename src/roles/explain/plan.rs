//! The plan of a statement with parameters taken from the data, and the large tables that it reads from end to end.
//!
//! The transaction is read-only: a statement that writes is planned and never run.

use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Row};

use super::statements::{LEAVE, Statement};

/// How to ask.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    /// Run what only reads, and say what it took.
    pub analyze: bool,
    /// A table with more rows than this is large.
    pub large_from: u64,
}

/// A plan.
#[derive(Debug)]
pub struct Explained {
    /// With which kind of parameters; empty where there is one kind.
    pub case: &'static str,
    /// As PostgreSQL tells it.
    pub plan: String,
    /// The large tables that it reads in sequence.
    pub scans: Vec<Scan>,
}

/// A large table that is read in sequence.
#[derive(Debug, PartialEq, Eq)]
pub struct Scan {
    /// With its schema.
    pub table: String,
    /// How many rows it has, about.
    pub rows: u64,
    /// Why that is as it should be.
    pub leave: Option<&'static str>,
}

impl Explained {
    /// Scans that should not be.
    pub fn offences(&self) -> impl Iterator<Item = &Scan> {
        self.scans.iter().filter(|scan| scan.leave.is_none())
    }
}

/// The plans of a statement, one for each kind of parameters.
///
/// # Errors
/// The database, also where it cannot plan the statement.
pub async fn explain(
    pool: &PgPool,
    statement: &Statement,
    asking: Asking,
) -> Result<Vec<Explained>, sqlx::Error> {
    let mut tx = pool.begin_with("begin read only").await?;
    let path = format!("set local search_path = {}", statement.read_model());
    sqlx::raw_sql(AssertSqlSafe(path)).execute(&mut *tx).await?;
    let prepare = format!("prepare explained as {}", statement.sql);
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *tx).await?;
    const TYPES: &str = "select parameter_types::text[] from pg_prepared_statements where name = 'explained'";
    let types: Vec<String> = sqlx::query_scalar(TYPES).fetch_one(&mut *tx).await?;
    let mut plans = Vec::new();
    for (case, expressions) in statement.cases() {
        let mut arguments = Vec::with_capacity(types.len());
        for (k, type_name) in types.iter().enumerate() {
            let told = expressions.get(k).copied().unwrap_or_default();
            arguments.push(argument(&mut tx, told, type_name).await?);
        }
        let analyze = if asking.analyze && statement.only_reads() { "analyze, " } else { "" };
        let call = if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
        let explain = format!("explain ({analyze}verbose, buffers) execute explained{call}");
        let rows = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *tx).await?;
        let lines: Vec<String> = rows.iter().map(|row| row.get::<String, _>(0)).collect();
        let scans = scans(&mut tx, statement.name, case, &lines, asking.large_from).await?;
        let plan: Vec<&str> = lines.iter().map(String::as_str).filter(|line| is_shown(line)).collect();
        plans.push(Explained { case, plan: plan.join("\n"), scans });
    }
    // The connection goes back to its pool.
    sqlx::raw_sql("deallocate explained").execute(&mut *tx).await?;
    tx.rollback().await?;
    Ok(plans)
}

/// Columns of every node are more than anybody reads.
fn is_shown(line: &str) -> bool {
    let line = line.trim_start();
    !line.starts_with("Output:") && !line.starts_with("Query Identifier:")
}

/// A parameter as a literal: what the expression gives now, or what suits its type.
async fn argument(conn: &mut PgConnection, told: &str, type_name: &str) -> Result<String, sqlx::Error> {
    let expression = if told.is_empty() { default_of(type_name) } else { told.to_owned() };
    let ask = format!("select quote_nullable(({expression})::text)");
    sqlx::query_scalar(AssertSqlSafe(ask)).fetch_one(conn).await
}

/// Portfolios where ids are asked for, a page where a number is, and nothing else; lists have a hundred entries.
fn default_of(type_name: &str) -> String {
    const IDS: &str = "select portfolio_id from directory.portfolios order by portfolio_id limit 100";
    match type_name {
        "uuid" => format!("select portfolio_id from ({IDS}) ids limit 1"),
        "uuid[]" => format!("select array_agg(portfolio_id) from ({IDS}) ids"),
        "smallint" => "3".to_owned(),
        "smallint[]" => "array[3]".to_owned(),
        "integer" | "bigint" => "51".to_owned(),
        list if list.ends_with("[]") => {
            format!("array_fill(null::{}, array[100])", list.trim_end_matches("[]"))
        }
        _ => "null".to_owned(),
    }
}

/// The large tables that a plan reads in sequence.
async fn scans(
    conn: &mut PgConnection,
    statement: &str,
    case: &str,
    plan: &[String],
    large_from: u64,
) -> Result<Vec<Scan>, sqlx::Error> {
    let mut scans: Vec<Scan> = Vec::new();
    for line in plan {
        let Some((_, rest)) = line.split_once("Seq Scan on ") else { continue };
        let Some(table) = rest.split_whitespace().next() else { continue };
        let rows = rows_of(conn, table).await?;
        if rows > large_from && !scans.iter().any(|scan| scan.table == table) {
            let leave = LEAVE.iter().find(|leave| {
                leave.statement == statement && leave.case == case && table.ends_with(leave.table)
            });
            let leave = leave.map(|leave| leave.reason);
            scans.push(Scan { table: table.to_owned(), rows, leave });
        }
    }
    Ok(scans)
}

/// As the planner knows it; counted where nobody has told the planner yet.
async fn rows_of(conn: &mut PgConnection, table: &str) -> Result<u64, sqlx::Error> {
    const KNOWN: &str = "select reltuples::bigint from pg_class where oid = $1::regclass";
    let known: i64 = sqlx::query_scalar(KNOWN).bind(table).fetch_one(&mut *conn).await?;
    if let Ok(rows) = u64::try_from(known) {
        return Ok(rows);
    }
    let count = format!("select count(*) from {table}");
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(conn).await?;
    Ok(u64::try_from(count).unwrap_or_default())
}
