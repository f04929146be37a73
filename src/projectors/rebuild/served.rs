//! Whether an older program still serves a schema. It cannot be asked, and shares its locks with the newer one; but its
//! projector writes there.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::projectors::schema;

/// What tells that somebody may still write this schema; none if nothing does.
///
/// A projector with nothing to do for minutes has no session. Its rows stand at the head of the log then, as do those of one
/// that has just ended: only the next event tells the two apart.
pub(super) async fn sign_of_life(conn: &mut PgConnection, name: &str) -> Result<Option<String>, sqlx::Error> {
    const SESSIONS: &str = "select count(*) from pg_stat_activity \
        where datname = current_database() and application_name = $1";
    let sessions: i64 =
        sqlx::query_scalar(SESSIONS).bind(schema::session_name(name)).fetch_one(&mut *conn).await?;
    if sessions > 0 {
        return Ok(Some("a projector has sessions there".to_owned()));
    }
    let there = "select to_regclass($1 || '.checkpoints') is not null";
    if !sqlx::query_scalar::<_, bool>(there).bind(name).fetch_one(&mut *conn).await? {
        return Ok(None);
    }
    let at_head = format!(
        "select coalesce(max(c.scanned_to) >= max(h.head), false) from {name}.checkpoints c \
         cross join (select coalesce(max(position), 0) as head from public.events) h"
    );
    let is_at_head: bool = sqlx::query_scalar(AssertSqlSafe(at_head)).fetch_one(conn).await?;
    Ok(is_at_head.then(|| "its rows stand at the head of the log".to_owned()))
}
