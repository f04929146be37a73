//! A rebuild beside live projectors in this process: nobody stops, every column is the same, and there is a way back.

use insight::analysis::Settings as Simulation;
use insight::domain::ids::Position;
use insight::event_store::read;
use insight::feed::{Source, StoreTail, WindowLimits};
use insight::kafka::{KafkaSettings, topics};
use insight::projectors::Error;
use insight::projectors::rebuild::{Dropping, News, Options, Promoted, drop_old, rebuild_with, roll_back};
use insight::projectors::risk::Engine;
use insight::relay;
use insight::verify::verify;
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;

use crate::environment::{self, TestDatabase};
use crate::ledger::Ledger;
use crate::random_history::RandomHistory;
use crate::read_models::{ALL, Projectors, dump, reached};

/// As the projectors of tests compute risk.
fn options() -> Options {
    let simulation = Simulation { seed: 11, degrees_of_freedom: 5.0, paths: 1_024 };
    Options { engine: Engine { window: 120, simulation, threads: 1 }, ..Options::default() }
}

/// Rebuilds, and returns what was said.
async fn rebuild(name: &str, pool: &PgPool, options: &Options) -> Result<(Promoted, Vec<String>), Error> {
    let mut notes = Vec::new();
    let mut hear = |news| {
        if let News::Note(note) = news {
            notes.push(note);
        }
    };
    let promoted = rebuild_with(name, pool, options, &mut hear).await?;
    Ok((promoted, notes))
}

fn store(database: &TestDatabase) -> Source {
    Source::Store(StoreTail::start(database.pool.clone(), WindowLimits::default()))
}

async fn head(pool: &PgPool) -> Position {
    read::head(pool).await.unwrap()
}

async fn count(pool: &PgPool, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(pool).await.unwrap()
}

async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await.unwrap();
}

/// Every schema of a read model that there is.
async fn schemas(pool: &PgPool, name: &str) -> Vec<String> {
    let sql = "select nspname::text from pg_namespace where nspname like $1 || '%' order by 1";
    sqlx::query_scalar(sql).bind(name).fetch_all(pool).await.unwrap()
}

async fn assert_clean(pool: &PgPool) {
    let report = verify(pool).await.unwrap();
    assert!(report.is_clean(), "{report}");
}

/// The identity of a table: another after a rebuild.
async fn identity(pool: &PgPool, table: &str) -> i64 {
    count(pool, &format!("select '{table}'::regclass::oid::bigint")).await
}

/// A projector's connections plan their statements once and keep the plans; a promotion must not leave them with tables that
/// nobody reads.
async fn live_projectors_go_on(database: &TestDatabase, source: Source) {
    let pool = &database.pool;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let writing = Ledger::start(database);
    let projectors = Projectors::start(&source, pool).await;
    let mut history = RandomHistory::start(&writing.commands, seed).await;
    history.go_on(&writing.commands, 400).await;
    reached(pool, head(pool).await).await;
    let before = dump(pool).await;

    // Small pieces: some shards are loaded whole, and some only in part.
    for piece_bytes in [128 << 20, 8 << 10] {
        for name in ALL {
            let table = format!("{name}.checkpoints");
            let replaced = identity(pool, &table).await;
            rebuild(name, pool, &Options { piece_bytes, ..options() }).await.unwrap();
            assert_ne!(identity(pool, &table).await, replaced, "{name} was put in its place");
        }
        reached(pool, head(pool).await).await;
        let after = dump(pool).await;
        let differing = before.iter().zip(&after).find(|(one, other)| one != other);
        assert_eq!(differing, None, "the first row that differs");
        assert_eq!(before.len(), after.len());
    }

    // The projectors were not told; what comes now goes into the new tables, once.
    history.go_on(&writing.commands, 300).await;
    reached(pool, head(pool).await).await;
    assert_clean(pool).await;
    projectors.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn live_projectors_on_the_store_go_on_with_rebuilt_rows() {
    let database = environment::database().await;
    live_projectors_go_on(&database, store(&database)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn live_projectors_on_kafka_go_on_with_rebuilt_rows() {
    let database = environment::database().await;
    let prefix = environment::topic_prefix().into();
    let bus = KafkaSettings { prefix, ..KafkaSettings::new(environment::kafka_brokers()) };
    topics::apply(&bus).await.unwrap();
    let stop = CancellationToken::new();
    let relay = tokio::spawn(relay::run(bus.clone(), database.pool.clone(), stop.clone()));
    live_projectors_go_on(&database, Source::Kafka(bus, database.pool.clone())).await;
    stop.cancel();
    relay.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_replaced_comes_back_caught_up_and_goes_when_it_is_told_to() {
    let database = environment::database().await;
    let pool = &database.pool;
    let writing = Ledger::start(&database);
    let projectors = Projectors::start(&store(&database), pool).await;
    let mut history = RandomHistory::start(&writing.commands, 5).await;
    history.go_on(&writing.commands, 200).await;
    reached(pool, head(pool).await).await;
    let nothing = roll_back("holdings", pool, &options(), &mut |_| {}).await;
    assert!(matches!(nothing, Err(Error::NothingOld { .. })), "{nothing:?}");

    for name in ALL {
        let (first, table) =
            (identity(pool, &format!("{name}.checkpoints")).await, format!("{name}.checkpoints"));
        rebuild(name, pool, &options()).await.unwrap();
        let second = identity(pool, &table).await;
        history.go_on(&writing.commands, 60).await;
        roll_back(name, pool, &options(), &mut |_| {}).await.unwrap();
        assert_eq!(identity(pool, &table).await, first, "{name} is the first one again");
        history.go_on(&writing.commands, 40).await;
        reached(pool, head(pool).await).await;
        assert_clean(pool).await;
        // And forth again.
        roll_back(name, pool, &options(), &mut |_| {}).await.unwrap();
        assert_eq!(identity(pool, &table).await, second, "{name} is the rebuilt one again");
        reached(pool, head(pool).await).await;
        assert_clean(pool).await;
        // The next rebuild drops what the one before has replaced, and says so.
        let (_, notes) = rebuild(name, pool, &options()).await.unwrap();
        let dropped = format!("{name}_old, which the rebuild before left, is dropped");
        assert!(notes.contains(&dropped), "{notes:?}");
        assert_eq!(schemas(pool, name).await, [name.to_owned(), format!("{name}_old")]);
        assert_eq!(drop_old(name, pool, Dropping::Unserved).await.unwrap(), [format!("{name}_old")]);
        assert_eq!(schemas(pool, name).await, [name]);
        assert!(drop_old(name, pool, Dropping::Unserved).await.unwrap().is_empty());
    }
    projectors.stop().await;
}

/// A rebuild that was given up after some shards: the rest waits for the next run.
async fn half_loaded(database: &TestDatabase) {
    let throttled = Options { throttle: Some(400), workers: 1, piece_bytes: 4 << 10, ..options() };
    let pool = database.pool.clone();
    let running = tokio::spawn(async move { rebuild("holdings", &pool, &throttled).await });
    let some = "select count(*) from pg_tables where schemaname = 'holdings_next'";
    while count(&database.pool, some).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    while count(&database.pool, "select count(*) from holdings_next.entries").await < 20 {
        assert!(!running.is_finished(), "the rebuild ended before it was given up");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    running.abort();
    assert!(running.await.is_err());
    let loaded = count(&database.pool, "select count(*) from holdings_next.checkpoints").await;
    assert!((1..32).contains(&loaded), "{loaded} shards are loaded");
    // Its session ends with it, and with that its lock.
    for _ in 0..200 {
        let sql = "select count(*) from pg_locks where locktype = 'advisory' \
            and database = (select oid from pg_database where datname = current_database())";
        if count(&database.pool, sql).await == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn written_history(database: &TestDatabase) -> (Ledger, RandomHistory) {
    let writing = Ledger::start(database);
    let mut history = RandomHistory::start(&writing.commands, 7).await;
    history.go_on(&writing.commands, 500).await;
    (writing, history)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_was_given_up_is_gone_on_with() {
    let database = environment::database().await;
    let _written = written_history(&database).await;
    half_loaded(&database).await;
    let (_, notes) = rebuild("holdings", &database.pool, &options()).await.unwrap();
    assert_eq!(notes[0], "going on with holdings_next");
    assert_clean(&database.pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_not_what_was_written_stop_a_rebuild() {
    for damage in [
        "delete from holdings_next.entries where ctid = (select min(ctid) from holdings_next.entries)",
        "update holdings_next.lots set cost = cost + 0.0000000001 where ctid = (select min(ctid) from holdings_next.lots)",
        "insert into holdings_next.entries select * from holdings_next.entries limit 1",
    ] {
        let database = environment::database().await;
        let _written = written_history(&database).await;
        half_loaded(&database).await;
        run(&database.pool, damage).await;
        let refused = rebuild("holdings", &database.pool, &options()).await;
        assert!(matches!(refused, Err(Error::Damaged { .. })), "{damage}: {refused:?}");
        assert_eq!(schemas(&database.pool, "holdings").await, ["holdings"], "what is wrong is not kept");
        rebuild("holdings", &database.pool, &options()).await.unwrap();
        assert_clean(&database.pool).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_another_shape_or_history_are_dropped_and_begun_again() {
    let database = environment::database().await;
    let _written = written_history(&database).await;
    let other_event = "update holdings_next.checkpoints set event_id = \
        '00000000-0000-0000-0000-000000000000.0' where position > 0";
    for (change, reason) in [
        ("comment on schema holdings_next is 'shape of another program'", "another shape"),
        (other_event, "another history"),
        ("update holdings_next.checkpoints set epoch = 7 where position > 0", "another history"),
    ] {
        half_loaded(&database).await;
        run(&database.pool, change).await;
        let (_, notes) = rebuild("holdings", &database.pool, &options()).await.unwrap();
        assert!(notes[0].contains("dropped and begun again") && notes[0].contains(reason), "{notes:?}");
        assert_clean(&database.pool).await;
    }
    // What cannot be served is not gone back to.
    run(&database.pool, "comment on schema holdings_old is 'shape of another program'").await;
    let refused = roll_back("holdings", &database.pool, &options(), &mut |_| {}).await;
    assert!(matches!(refused, Err(Error::OldUnfit { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_with_an_old_snapshot_is_waited_for() {
    let database = environment::database().await;
    let pool = &database.pool;
    let _written = written_history(&database).await;
    for _ in 0..2 {
        rebuild("holdings", pool, &options()).await.unwrap();
    }
    let way_back = identity(pool, "holdings_old.checkpoints").await;
    let mut reader = pool.begin_with("begin isolation level repeatable read read only").await.unwrap();
    let _: i64 = sqlx::query_scalar("select count(*) from events").fetch_one(&mut *reader).await.unwrap();
    let impatient = Options { promote_within: std::time::Duration::from_secs(3), ..options() };
    let refused = rebuild("holdings", pool, &impatient).await;
    assert!(matches!(refused, Err(Error::CannotPromote { .. })), "{refused:?}");
    drop(reader);
    // What was not promoted has not cost the way back.
    assert_eq!(schemas(pool, "holdings").await, ["holdings", "holdings_next", "holdings_old"]);
    roll_back("holdings", pool, &options(), &mut |_| {}).await.unwrap();
    assert_eq!(identity(pool, "holdings.checkpoints").await, way_back);
    let (_, notes) = rebuild("holdings", pool, &impatient).await.unwrap();
    assert_eq!(notes[0], "going on with holdings_next");
    assert_clean(pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_computed_from_others_keeps_its_pace_and_says_how_far_it_is() {
    let database = environment::database().await;
    let pool = &database.pool;
    let _written = written_history(&database).await;
    for name in ["holdings", "prices"] {
        rebuild(name, pool, &options()).await.unwrap();
    }
    let events = count(pool, "select sum(version)::bigint from holdings.ledgers").await;
    let throttled = Options { throttle: Some(200), ..options() };
    for name in ["valuations", "risk"] {
        let (mut told, mut notes) = (Vec::new(), Vec::new());
        let mut hear = |news| match news {
            News::Progress(progress) => told.push(progress.position),
            News::Note(note) => notes.push(note),
        };
        let began = std::time::Instant::now();
        rebuild_with(name, pool, &throttled, &mut hear).await.unwrap();
        let least = std::time::Duration::from_secs_f64(events as f64 / 200.0);
        assert!(
            began.elapsed() >= least,
            "{name}: {events} events took {:?}, at least {least:?}",
            began.elapsed()
        );
        assert!(told.len() >= 32 && told.is_sorted(), "{name}: {told:?}");
        // Nothing was compared with what was written.
        assert!(notes.iter().all(|note| !note.contains("stand as they were written")), "{name}: {notes:?}");
    }
}
