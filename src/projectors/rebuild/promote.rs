//! Promotion: one transaction after which the schema's name means the rebuilt tables.
//!
//! | step | who waits | why |
//! | --- | --- | --- |
//! | lock live's checkpoints | projectors that begin a flush; one in the middle of a flush is waited for | live stands still |
//! | fold the rest of the log | | the new rows are nowhere behind the live ones |
//! | wait until no snapshot is older than that | | a reader whose snapshot is older would see the new tables as they were, and so step back |
//! | drop what the rebuild before replaced | | it is the way back until this commits |
//! | lock live's tables | readers, for as long as two catalogue rows take | nobody has read one table of a read model and is about to read another |
//! | give live's checkpoints other revisions | | whoever holds the ones before has lost its shards, also if it still means the old tables |
//! | rename, commit | | statements name schemas: they are planned anew and mean the new tables |
//!
//! A projector that waited finds that its shards were written by another process: it drops its memory, loads the new
//! checkpoints and goes on. A reader that waited reads the new rows. Neither sees an error.
//!
//! Locks are asked for with short patience, and everything is given back and tried again when somebody holds them for
//! longer (`verify`, a backup, a vacuum), so that nobody queues up behind us for long.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgPool};

use super::beside::Beside;
use super::catch_up::Follower;
use super::{Hear, News, Options, Promoted, steps};
use crate::domain::ids::SHARDS;
use crate::event_store::read;
use crate::projectors::Error;
use crate::projectors::checkpoint::{self, Checkpoint};
use crate::projectors::projection::ReadModel;
use crate::projectors::schema;

/// How long the locks on live's tables are asked for, all together: readers queue up behind them.
const PATIENCE: Duration = Duration::from_millis(100);
/// … after this many attempts, which is longer than the server leaves a vacuum in anybody's way.
const PATIENT_FROM: u32 = 60;
const PATIENCE_THEN: Duration = Duration::from_millis(1_200);
/// How long older snapshots are waited for while projectors are held up.
const SNAPSHOTS_WITHIN: Duration = Duration::from_secs(1);
/// How long projectors are left alone between two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a flush that began before us may take; a frozen projector's session is ended by then.
const FLUSH_WITHIN: Duration = Duration::from_secs(8);

/// SQLSTATEs of a lock that was not given in time, and of a ring of locks.
const LOCK_CODES: [&str; 2] = ["55P03", "40P01"];

/// Puts a caught-up schema in the place of the live one.
pub(super) async fn promote<M: ReadModel>(
    follower: &mut Follower<M>,
    beside: &Beside,
    pool: &PgPool,
    options: &Options,
    hear: Hear<'_>,
) -> Result<Promoted, Error> {
    let started = Instant::now();
    let connecting = (*pool.connect_options()).clone().application_name("insight rebuild");
    let settings = [("statement_timeout", "30000"), ("idle_in_transaction_session_timeout", "30000")];
    let mut conn = connecting.options(settings).connect().await?;
    for attempt in 1_u32.. {
        let patience = if attempt < PATIENT_FROM { PATIENCE } else { PATIENCE_THEN };
        match attempt_once(&mut conn, follower, beside, patience).await? {
            Ok((promoted, dropped)) => {
                let _ = conn.close().await;
                if let Some(old) = dropped {
                    hear(News::Note(format!("{old}, which the rebuild before left, is dropped")));
                }
                return Ok(promoted);
            }
            Err(Waited(waited_for)) => {
                if attempt == 1 || attempt % 50 == 0 {
                    hear(News::Note(format!("{}: waiting for {waited_for}", beside.name)));
                }
                if started.elapsed() >= options.promote_within {
                    let (read_model, seconds) = (M::NAME.to_owned(), options.promote_within.as_secs());
                    return Err(Error::CannotPromote { read_model, seconds, waited_for });
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
        // Meanwhile the log goes on.
        while !follower.round().await?.is_close {}
    }
    unreachable!("attempts are bounded by time")
}

/// What was in the way.
struct Waited(String);

async fn attempt_once<M: ReadModel>(
    conn: &mut PgConnection,
    follower: &mut Follower<M>,
    beside: &Beside,
    patience: Duration,
) -> Result<Result<(Promoted, Option<String>), Waited>, Error> {
    let mut tx = conn.begin().await?;
    // The one commit of a rebuild that waits for the disk; it makes all before it durable.
    run(&mut tx, "set local synchronous_commit = on").await?;
    let live = beside.schema.live();
    let is_live = schema::found_shape(&mut tx, &live).await?.is_some();

    let asked = Instant::now();
    if is_live {
        let lock = format!("lock table {live}.checkpoints in exclusive mode");
        if let Err(waited) = locked(&mut tx, FLUSH_WITHIN, &lock, "a projector's flush").await? {
            tx.rollback().await?;
            return Ok(Err(waited));
        }
        if let Err(waited) = reach_live(&mut tx, follower, beside, &live).await? {
            tx.rollback().await?;
            return Ok(Err(waited));
        }
    }
    let (old, name) = (beside.schema.old(), &beside.name);
    let mut dropped = None;
    if is_live && *name != old && schema::found_shape(&mut tx, &old).await?.is_some() {
        let drop = format!("drop schema {old} cascade");
        if let Err(waited) = locked(&mut tx, patience, &drop, &format!("readers of {old}")).await? {
            tx.rollback().await?;
            return Ok(Err(waited));
        }
        dropped = Some(old.clone());
    }
    let mine = follower.projection.revisions();
    let mut readers = None;
    if is_live {
        for table in tables(&mut tx, &live).await? {
            let since = readers.get_or_insert_with(Instant::now);
            let patience = patience.saturating_sub(since.elapsed()).max(Duration::from_millis(1));
            let lock = format!("lock table {live}.{table} in access exclusive mode");
            if let Err(waited) =
                locked(&mut tx, patience, &lock, &format!("readers of {live}.{table}")).await?
            {
                tx.rollback().await?;
                return Ok(Err(waited));
            }
        }
        let fence =
            format!("update {live}.checkpoints set revision = nextval('public.checkpoint_revisions')");
        run(&mut tx, &fence).await?;
    }
    if !steps::are_ours(&mine, &stored_in(&mut tx, name).await?) {
        return Err(Error::Lost { read_model: M::NAME.to_owned() });
    }
    let rename = match (is_live, *name == old) {
        (false, _) => format!("alter schema {name} rename to {live}"),
        (true, false) => {
            format!("alter schema {live} rename to {old}; alter schema {name} rename to {live}")
        }
        (true, true) => format!(
            "alter schema {live} rename to {live}_swap; alter schema {old} rename to {live}; \
             alter schema {live}_swap rename to {old}"
        ),
    };
    run(&mut tx, &rename).await?;
    tx.commit().await?;
    let readers_waited = readers.map_or(Duration::ZERO, |since| since.elapsed());
    Ok(Ok((Promoted { writers_waited: asked.elapsed(), readers_waited }, dropped)))
}

/// Folds the log until the new rows are nowhere behind the live ones, which stand still, and every snapshot shows that.
async fn reach_live<M: ReadModel>(
    tx: &mut PgConnection,
    follower: &mut Follower<M>,
    beside: &Beside,
    live: &str,
) -> Result<Result<(), Waited>, Error> {
    let began = Instant::now();
    let live = stored_in(tx, live).await?;
    loop {
        follower.round().await?;
        let next = beside.checkpoints(&mut *beside.rows.acquire().await?).await?;
        let behind = steps::behind(&live, &next, read::head(&mut *tx).await?);
        if behind.is_empty() {
            break;
        }
        if began.elapsed() > FLUSH_WITHIN {
            return Ok(Err(Waited(format!("{} shards that are still behind the live ones", behind.len()))));
        }
    }
    let now: chrono::DateTime<chrono::Utc> =
        sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut *tx).await?;
    // Rebuilds hold snapshots for long, and read the log and their own tables with them. A flush that waits for us began
    // before, too: it finds itself fenced.
    const OLDER: &str = "select count(*) from pg_stat_activity where datname = current_database() \
        and backend_type = 'client backend' and backend_xmin is not null and xact_start < $1 \
        and application_name <> 'insight rebuild' and pg_backend_pid() <> all (pg_blocking_pids(pid))";
    let began = Instant::now();
    loop {
        // What others do is looked at once a transaction unless told otherwise.
        run(tx, "select pg_stat_clear_snapshot()").await?;
        let older: i64 = sqlx::query_scalar(OLDER).bind(now).fetch_one(&mut *tx).await?;
        if older == 0 {
            return Ok(Ok(()));
        }
        if began.elapsed() > SNAPSHOTS_WITHIN {
            return Ok(Err(Waited(format!(
                "{older} readers with an older snapshot, such as `insight verify`"
            ))));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The checkpoints in this schema.
async fn stored_in(tx: &mut PgConnection, name: &str) -> Result<Vec<Checkpoint>, Error> {
    let all: Vec<i16> = (0..SHARDS).collect();
    run(tx, &format!("set local search_path = {name}")).await?;
    let stored = checkpoint::stored(tx, &all).await?;
    run(tx, "set local search_path = default").await?;
    Ok(stored)
}

/// Live's tables in an order in which readers use them: those that say which shard first, checkpoints last.
async fn tables(tx: &mut PgConnection, live: &str) -> Result<Vec<String>, sqlx::Error> {
    const SQL: &str = "select c.relname::text from pg_class c where c.relnamespace = $1::regnamespace \
        and c.relkind = 'r' order by c.relname = 'parked_streams', c.relname = 'checkpoints', \
        not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'shard'), c.relname";
    sqlx::query_scalar(SQL).bind(live).fetch_all(tx).await
}

/// Takes a lock, if it is given in time.
async fn locked(
    tx: &mut PgConnection,
    within: Duration,
    lock: &str,
    who: &str,
) -> Result<Result<(), Waited>, sqlx::Error> {
    run(tx, &format!("set local lock_timeout = {}", within.as_millis())).await?;
    match run(tx, lock).await {
        Ok(()) => Ok(Ok(())),
        Err(error) => {
            let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
            if LOCK_CODES.contains(&&*code) { Ok(Err(Waited(who.to_owned()))) } else { Err(error) }
        }
    }
}

async fn run(conn: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await?;
    Ok(())
}
