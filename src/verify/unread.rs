//! Rows of the log that nobody sees who reads it in order, because they stand below the first position or at one that is taken.

use sqlx::PgConnection;

use super::report::Report;

/// Compares how many rows there are with how many were read from position 1 on.
pub(super) async fn check(
    conn: &mut PgConnection,
    read: i64,
    report: &mut Report,
) -> Result<(), sqlx::Error> {
    const SQL: &str = "select count(*), coalesce(min(position), 0) from events";
    let (rows, first): (i64, i64) = sqlx::query_as(SQL).fetch_one(conn).await?;
    if rows != read {
        let found = format!(
            "has {rows} rows, of which {read} are read from position 1 on; the first stands at {first}"
        );
        report.differs("log", found);
    }
    Ok(())
}
