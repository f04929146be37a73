//! Restored to an earlier moment: every role that has seen more halts, and the next epoch brings all to the new history.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use insight::clock::Clock;
use insight::commands::{Commands, Settings};
use insight::domain::ids::{Epoch, Position};
use insight::event_store::epochs::{self, Begun};
use insight::event_store::{self, read};
use insight::kafka::{KafkaSettings, scan, topics};
use insight::postgres::{Session, connect, options};
use insight::verify::verify;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::environment;
use crate::kafka_log::{append, forget_from};
use crate::own_servers::{Ground, Postgres};
use crate::processes::{Place, Process, answers, free_address};
use crate::read_models::reached;
use crate::trader::Trader;

/// How long a role may take to notice.
const NOTICED_WITHIN: Duration = Duration::from_secs(40);
/// Little of everything: many processes share a machine and a server with other tests.
const MODEST: [(&str, &str); 4] =
    [("POOL_SIZE", "4"), ("RISK_WINDOW", "60"), ("RISK_PATHS", "1024"), ("RISK_THREADS", "1")];

/// Runs a verb to its end; what it prints.
fn insight(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_insight"));
    for name in ["DATABASE_URL", "KAFKA_BROKERS", "KAFKA_TOPIC_PREFIX", "DATA_DIR"] {
        command.env_remove(name);
    }
    let output = command.args(arguments).envs(environment.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every role, with the log through Kafka or from the store.
fn start_roles(folder: &Path, environment: &[(&'static str, &str)], address: SocketAddr) -> Vec<Process> {
    let listen = address.to_string();
    let start = |name: &str, arguments: &[&str]| Process::start(folder, name, arguments, environment);
    let mut roles = vec![
        start("api", &["api", "--listen-address", &listen]),
        start("ledger", &["project", "directory", "holdings", "activity", "jobs"]),
        start("market", &["project", "prices"]),
        start("valuations", &["project", "valuations"]),
        start("risk", &["risk"]),
    ];
    // It asks nobody who is there: what it notices is the log.
    let (sources, nobody) = (folder.join("sources.toml"), "base_url = \"http://127.0.0.1:9\"");
    std::fs::write(&sources, format!("[sources.yahoo]\n{nobody}\n[sources.ecb]\n{nobody}\n")).unwrap();
    let told = [environment, &[("SOURCES_FILE", sources.to_str().unwrap())]].concat();
    roles.push(Process::start(folder, "fetch", &["fetch"], &told));
    if environment.iter().any(|(name, _)| *name == "KAFKA_BROKERS") {
        roles.push(start("relay", &["relay"]));
    }
    roles
}

fn assert_all_halt(roles: &mut [Process]) {
    for role in roles {
        let line = role.halted(NOTICED_WITHIN);
        assert!(line.starts_with("insight: ") && line.contains("the log has forked: "), "{line}");
        assert!(line.contains("run `insight epoch new` once, then `insight rebuild --all`"), "{line}");
    }
}

async fn assert_clean(pool: &PgPool) {
    reached(pool, read::head(pool).await.unwrap()).await;
    let report = verify(pool).await.unwrap();
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_begins_once_and_never_under_a_number_that_was_used() {
    let database = environment::database().await;
    let pool = &database.pool;
    let first = Begun::Already { epoch: Epoch(1), first_position: Position(1) };
    assert_eq!(epochs::begin(pool, Epoch(0), "nothing yet").await.unwrap(), first);
    append(pool, &[0, 1], 10).await;
    let second = Begun::New { epoch: Epoch(2), first_position: Position(11) };
    assert_eq!(epochs::begin(pool, Epoch(0), "restored").await.unwrap(), second);
    let again = Begun::Already { epoch: Epoch(2), first_position: Position(11) };
    assert_eq!(epochs::begin(pool, Epoch(1), "restored").await.unwrap(), again);
    let other = Begun::New { epoch: Epoch(8), first_position: Position(11) };
    assert_eq!(epochs::begin(pool, Epoch(7), "restored twice").await.unwrap(), other, "2 was used elsewhere");
    append(pool, &[0], 1).await;
    assert_eq!(read::find(pool, Position(11)).await.unwrap().unwrap().epoch, Epoch(8));
    let numbers: Vec<i32> = epochs::list(pool).await.unwrap().iter().map(|history| history.epoch.0).collect();
    assert_eq!(numbers, [1, 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_restored_under_the_running_roles_halts_all_of_them() {
    let (place, database) = (Place::new(), environment::database().await);
    let (url, brokers, prefix) = (database.url(), environment::kafka_brokers(), environment::topic_prefix());
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("KAFKA_BROKERS", brokers.as_str()),
        ("KAFKA_TOPIC_PREFIX", prefix.as_str()),
    ];
    insight(&["topics", "apply"], &environment);
    let environment = [&environment[..], &MODEST].concat();
    let address = free_address();
    let mut roles = start_roles(place.path(), &environment, address);
    answers(address).await;
    let client = Trader::start(address).await;
    client.trade(10).await;
    assert_clean(&database.pool).await;
    let kept = read::head(&database.pool).await.unwrap();
    let dump = place.path().join("dump");
    let dumped = Command::new("pg_dump").args(["--format=custom", "--file"]).arg(&dump).arg(&url).status();
    assert!(dumped.unwrap().success());

    let lost = client.trade(5).await;
    assert_clean(&database.pool).await;
    restore(&database, &dump, &url).await;
    assert_all_halt(&mut roles);
    // What was restored knows nothing of the rest, but the topic does.
    let mut relay = Process::start(place.path(), "relay-again", &["relay"], &environment);
    let line = relay.halted(NOTICED_WITHIN);
    assert!(line.contains("the log has forked: shard ") && line.contains("the topic holds event"), "{line}");

    let begun = insight(&["epoch", "new", "--reason", "a test"], &environment);
    assert_eq!(begun, format!("epoch 2 begins at position {}\n", kept.0 + 1));
    let again = insight(&["epoch", "new"], &environment);
    assert!(again.starts_with("nothing to do: epoch 2 begins at position"), "{again}");
    let shown = insight(&["epoch", "show"], &environment);
    assert!(shown.contains(&format!("epoch 2: from {} on, no event yet", kept.0 + 1)), "{shown}");
    assert!(shown.contains(&format!("epoch 1: 1 to {kept}")) && shown.contains("a test"), "{shown}");

    let mut roles = start_roles(place.path(), &environment, address);
    answers(address).await;
    let new = client.trade(8).await;
    assert_clean(&database.pool).await;
    assert_eq!(client.read_at(&new).await.0, 200);
    let (status, problem) = client.read_at(&lost).await;
    assert_eq!((status, problem["type"].as_str()), (409, Some("/problems/dead-epoch")), "{problem}");
    for role in &mut roles {
        role.stop();
    }
    assert_topic_holds(&prefix, &database.pool, kept).await;
}

/// Drops the database under everybody who uses it, and makes it again from a dump.
async fn restore(database: &environment::TestDatabase, dump: &Path, url: &str) {
    let name = database.options().get_database().unwrap().to_owned();
    let mut server = PgConnection::connect_with(&database.options().database("postgres")).await.unwrap();
    for statement in [format!("drop database {name} with (force)"), format!("create database {name}")] {
        server.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    let restored = Command::new("pg_restore").args(["--dbname", url]).arg(dump).status();
    assert!(restored.unwrap().success());
}

/// Of what is alive (the new epoch, and what the old one shared with it), the topics hold the log, in order.
async fn assert_topic_holds(prefix: &str, pool: &PgPool, kept: Position) {
    let bus = KafkaSettings { prefix: prefix.into(), ..KafkaSettings::new(environment::kafka_brokers()) };
    let extents = scan::extents(&bus, topics::all_shards().collect()).await.unwrap();
    let mut scanning = scan::scan(&bus, extents);
    let mut alive = Vec::new();
    while let Some(records) = scanning.recv().await {
        let records = records.unwrap().into_iter().map(|record| record.event);
        alive.extend(records.filter(|event| event.epoch == Epoch(2) || event.position <= kept));
    }
    alive.sort_by_key(|event| event.position);
    alive.dedup_by_key(|event| event.position);
    let stored = read::after(pool, Position(0), i64::MAX).await.unwrap().events;
    assert!(alive.iter().map(|event| &**event).eq(stored.iter()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_was_behind_halts_every_role_that_has_seen_more() {
    let ground = Ground::new();
    let server = Postgres::start(ground.folder("server"), &["fsync=off"]);
    let url = server.url();
    let environment = [&[("DATABASE_URL", url.as_str())][..], &MODEST].concat();
    let address = free_address();
    let mut api = Process::start(
        ground.path(),
        "first",
        &["api", "--listen-address", &address.to_string()],
        &environment,
    );
    answers(address).await;
    api.stop();
    let mut roles = start_roles(ground.path(), &environment, address);
    answers(address).await;
    let client = Trader::start(address).await;
    client.trade(5).await;
    let pool = connect(options(&url).unwrap(), &Session::of("judge")).await.unwrap();
    assert_clean(&pool).await;
    server.back_up();
    client.trade(5).await;
    assert_clean(&pool).await;
    server.fail_over();
    assert_all_halt(&mut roles);

    let begun = insight(&["epoch", "new"], &environment);
    assert!(begun.starts_with("epoch 2 begins at position "), "{begun}");
    let _roles = start_roles(ground.path(), &environment, address);
    answers(address).await;
    client.trade(5).await;
    assert_clean(&pool).await;
    pool.close().await;
}

/// The private server of a data folder, run by the test; stopped when the future is done.
async fn in_folder<T>(place: &Place, work: impl AsyncFnOnce(&PgPool) -> T) -> T {
    let server = insight::postgres::EmbeddedPostgres::start(place.data_folder()).await.unwrap();
    let pool = connect(server.options(), &Session::of("operator")).await.unwrap();
    let done = work(&pool).await;
    pool.close().await;
    server.stop().await.unwrap();
    done
}

fn start_embedded(place: &Place, name: &str, address: SocketAddr) -> Process {
    let (folder, listen) = (place.data_folder().display().to_string(), address.to_string());
    Process::start(place.path(), name, &["all", "--data-dir", &folder, "--listen-address", &listen], &MODEST)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_form_begins_the_next_epoch_by_itself_and_makes_its_rows_anew() {
    let (place, address) = (Place::new(), free_address());
    let mut all = start_embedded(&place, "one", address);
    answers(address).await;
    let client = Trader::start(address).await;
    client.trade(8).await;
    let pool = connect(place.private_server(), &Session::of("judge")).await.unwrap();
    assert_clean(&pool).await;
    pool.close().await;
    all.stop();

    // The log alone is restored: the rows know more than it does.
    in_folder(&place, async |pool| forget_from(pool, 15).await).await;
    let mut all = start_embedded(&place, "two", address);
    answers(address).await;
    let lost = "1:15";
    client.trade(4).await;
    let pool = connect(place.private_server(), &Session::of("judge")).await.unwrap();
    assert_clean(&pool).await;
    assert_eq!(client.read_at(lost).await.0, 409);

    // And once more, while it runs.
    forget_from(&pool, 12).await;
    pool.close().await;
    let line = all.halted(NOTICED_WITHIN);
    assert!(line.contains("the log has forked: "), "{line}");
    assert!(all.said().contains("a new epoch begins"), "{}", all.said());
    let _all = start_embedded(&place, "three", address);
    answers(address).await;
    client.trade(4).await;
    let pool = connect(place.private_server(), &Session::of("judge")).await.unwrap();
    assert_clean(&pool).await;
    let begun: Vec<i64> =
        epochs::list(&pool).await.unwrap().iter().map(|history| history.first_position.0).collect();
    assert_eq!(begun, [1, 12]);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_put_back_is_a_new_history_after_one_command() {
    let (place, address) = (Place::new(), free_address());
    let folder = place.data_folder().display().to_string();
    let mut all = start_embedded(&place, "one", address);
    answers(address).await;
    let client = Trader::start(address).await;
    client.trade(3).await;
    all.stop();
    let copy = place.path().join("copy");
    let run = |program: &str, arguments: &[&Path]| {
        assert!(Command::new(program).arg("-a").args(arguments).status().unwrap().success());
    };
    run("cp", &[Path::new(&folder), &copy]);

    let mut all = start_embedded(&place, "two", address);
    answers(address).await;
    let lost = client.trade(5).await;
    all.stop();
    std::fs::remove_dir_all(place.data_folder()).unwrap();
    run("cp", &[&copy, Path::new(&folder)]);
    // Everything that knew more was put back too: only who did it can say so.
    let begun = insight(&["epoch", "new", "--data-dir", &folder], &[]);
    assert!(begun.starts_with("epoch 2 begins at position "), "{begun}");
    let _all = start_embedded(&place, "three", address);
    answers(address).await;
    client.trade(5).await;
    assert_eq!(client.read_at(&lost).await.0, 409);
    let pool = connect(place.private_server(), &Session::of("judge")).await.unwrap();
    assert_clean(&pool).await;
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_only_reads_notices_as_well() {
    let database = environment::database().await;
    append(&database.pool, &[0, 1], 20).await;
    let cancel = CancellationToken::new();
    let (_commands, running) = Commands::start(
        database.options(),
        database.pool.clone(),
        Clock::System,
        Settings::default(),
        cancel.clone(),
    );
    let running = tokio::spawn(running);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(!running.is_finished());
    forget_from(&database.pool, 11).await;
    append(&database.pool, &[0, 1], 20).await;
    let ended = tokio::time::timeout(Duration::from_secs(10), running).await.expect("in time").unwrap();
    assert!(matches!(ended, Err(event_store::Error::Fork { .. })), "{ended:?}");
}
