//! What stands beside the log and the read models: epochs, the relay's progress, the counter of revisions.

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgPool};

use super::report::Report;

/// Compares all of it with the log. The counter is read outside the snapshot, since it only ever grows.
pub(super) async fn check(
    conn: &mut PgConnection,
    pool: &PgPool,
    read_models: &[&'static str],
    report: &mut Report,
) -> Result<(), sqlx::Error> {
    check_epochs(conn, report).await?;
    check_progress(conn, report).await?;
    for name in read_models {
        check_revisions(conn, pool, name, report).await?;
    }
    Ok(())
}

/// Histories begin at position 1, and each later one behind the one before, at most one behind the head.
async fn check_epochs(conn: &mut PgConnection, report: &mut Report) -> Result<(), sqlx::Error> {
    const SQL: &str = "select epoch, first_position from log_epochs order by epoch";
    let epochs: Vec<(i32, i64)> = sqlx::query_as(SQL).fetch_all(conn).await?;
    let mut before = None;
    if epochs.is_empty() {
        report.differs("log_epochs", "has no epoch");
    }
    for (epoch, first) in epochs {
        let place = format!("log_epochs {epoch}, first_position");
        match before {
            None if first != 1 => report.differs(&place, format_args!("is {first}, should be 1")),
            Some(before) if first <= before => {
                report.differs(&place, format_args!("is {first}, and the epoch before begins at {before}"));
            }
            _ => {}
        }
        let head = report.head;
        if first > head + 1 {
            report.differs(place, format_args!("is {first}, and the log ends at {head}"));
        }
        if epoch < 1 {
            report.differs("log_epochs", format_args!("has an epoch {epoch}"));
        }
        before = Some(first);
    }
    Ok(())
}

/// What the relay says it has copied is in the log, in that shard and epoch.
async fn check_progress(conn: &mut PgConnection, report: &mut Report) -> Result<(), sqlx::Error> {
    const SQL: &str = "select p.topic, p.shard, p.epoch, p.position, p.kafka_offset, e.shard, \
        (select max(l.epoch) from log_epochs l where l.first_position <= p.position) \
        from relay_progress p left join events e on e.position = p.position order by 1, 2";
    type Progress = (String, i16, i32, i64, i64, Option<i16>, Option<i32>);
    let rows: Vec<Progress> = sqlx::query_as(SQL).fetch_all(conn).await?;
    for (topic, shard, epoch, position, offset, found, of_epoch) in rows {
        let place = format!("relay_progress {topic} {shard}");
        if position > 0 && found != Some(shard) {
            let found = found.map_or_else(
                || format!("the log ends at {}", report.head),
                |found| format!("that event is of shard {found}"),
            );
            report.differs(format_args!("{place}, position"), format_args!("is {position}, and {found}"));
        } else if position > 0 && of_epoch.is_some_and(|of_epoch| epoch != of_epoch) {
            let found = format!("is {epoch}, should be {}", of_epoch.unwrap_or_default());
            report.differs(format_args!("{place}, epoch"), found);
        }
        if offset < 0 || !(0..=40).contains(&shard) {
            report.differs(place, format_args!("is no place in a topic: shard {shard}, offset {offset}"));
        }
    }
    Ok(())
}

/// Revisions come from one counter, each once: a number that is still to come would let two histories share it.
async fn check_revisions(
    conn: &mut PgConnection,
    pool: &PgPool,
    name: &str,
    report: &mut Report,
) -> Result<(), sqlx::Error> {
    let sql = format!("select shard, revision from {name}.checkpoints order by shard");
    let revisions: Vec<(i16, i64)> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(conn).await?;
    const LAST: &str =
        "select case when is_called then last_value else 0 end from public.checkpoint_revisions";
    let last: i64 = sqlx::query_scalar(LAST).fetch_one(pool).await?;
    let mut seen = BTreeMap::new();
    for (shard, revision) in revisions {
        let place = format!("{name}.checkpoints {shard}, revision");
        if revision > last {
            report.differs(&place, format_args!("is {revision}, and the counter stands at {last}"));
        }
        if let Some(other) = seen.insert(revision, shard) {
            report.differs(place, format_args!("is {revision}, as that of shard {other}"));
        }
    }
    Ok(())
}
