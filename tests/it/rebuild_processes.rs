//! A rebuild as a process: killed, throttled, alone, and under the eyes of two hundred readers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use insight::domain::portfolio::event::CashMode;
use insight::event_store::read;
use insight::events::NewEvent;
use insight::projectors::rebuild::{Options, rebuild_with};
use insight::verify::verify;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::task::JoinSet;

use crate::environment;
use crate::ledger::Ledger;
use crate::load::{Load, assert_promises_kept, tally};
use crate::processes::{Place, Process, answers, free_address, http};
use crate::projectors_history::{History, noon};
use crate::random_history::RandomHistory;
use crate::read_models::{dump, reached};

const READERS: usize = 200;
/// Little history and few paths, so that the engine leaves the others some of the machine.
const RISK: [(&str, &str); 3] = [("RISK_WINDOW", "60"), ("RISK_PATHS", "1024"), ("RISK_THREADS", "1")];

async fn count(pool: &PgPool, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(pool).await.unwrap()
}

async fn there(pool: &PgPool, table: &str) -> bool {
    count(pool, &format!("select count(to_regclass('{table}'))")).await == 1
}

/// The phase that a rebuild of holdings is in.
async fn phase(pool: &PgPool) -> &'static str {
    if !there(pool, "holdings_next.checkpoints").await {
        "before or after"
    } else if !there(pool, "holdings_next.rebuild_deferred").await {
        "caught up or promoting"
    } else {
        "loading"
    }
}

/// The shards that a rebuild has written, with the revisions of their checkpoints.
async fn written(pool: &PgPool, name: &str) -> Vec<(i16, i64)> {
    if !there(pool, &format!("{name}_next.checkpoints")).await {
        return Vec::new();
    }
    let sql = format!("select shard, revision from {name}_next.checkpoints order by shard");
    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap()
}

/// Waits until a rebuild has written more shards than these; how many it has.
async fn more_than(pool: &PgPool, name: &str, before: usize, process: &Process) -> usize {
    let began = Instant::now();
    loop {
        let now = written(pool, name).await.len();
        if now > before {
            return now;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{}", process.last_words());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_every_phase_a_rebuild_goes_on_and_ends_with_the_live_rows() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (place, database) = (Place::new(), environment::database().await);
    let pool = &database.pool;
    let writing = Ledger::start(&database);
    let mut history = RandomHistory::start(&writing.commands, seed).await;
    history.go_on(&writing.commands, 900).await;
    rebuild_with("holdings", pool, &Options::default(), &mut |_| {}).await.unwrap();
    let live = dump(pool).await;
    let url = database.url();
    let environment = [("DATABASE_URL", url.as_str())];
    let start = |throttle: &str| {
        Process::start(
            place.path(),
            "rebuild",
            &["rebuild", "holdings", "--throttle", throttle],
            &environment,
        )
    };

    // While it loads: what was written is gone on with, and never a part of a shard.
    let mut loaded = written(pool, "holdings").await;
    for round in 0..3 {
        let mut process = start("50");
        let more = more_than(pool, "holdings", loaded.len(), &process).await;
        process.kill();
        assert!((1..32).contains(&more), "{more} shards are written while it loads");
        let said = process.said_lately();
        assert_eq!(said.contains("going on with holdings_next"), round > 0, "{said}");
        let now = written(pool, "holdings").await;
        assert!(
            loaded.iter().all(|one| now.contains(one)),
            "{loaded:?}, and then {now:?}: what is written stays"
        );
        loaded = now;
        let torn = "select count(*) from holdings_next.ledgers l left join holdings_next.checkpoints c using (shard) \
            where c.shard is null or l.position > c.position";
        assert_eq!(count(pool, torn).await, 0, "a shard is whole or absent");
    }

    // While it promotes: a reader with an old snapshot holds that up.
    let mut reader = pool.begin_with("begin isolation level repeatable read read only").await.unwrap();
    let _: i64 = sqlx::query_scalar("select count(*) from events").fetch_one(&mut *reader).await.unwrap();
    for round in 0..4 {
        let mut process = start("1000000");
        let began = Instant::now();
        while phase(pool).await != "caught up or promoting" {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", process.last_words());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;
        process.kill();
        // Nothing of a promotion that was not committed is there, and the log goes on.
        assert!(there(pool, "holdings.ledgers").await && there(pool, "holdings_next.ledgers").await);
        if round < 2 {
            history.go_on(&writing.commands, 40).await;
        }
    }
    drop(reader);
    let head = read::head(pool).await.unwrap();
    assert!(start("1000000").finish(), "the last one ends by itself");
    reached_holdings(pool, head.0).await;
    let report = verify(pool).await.unwrap();
    assert!(report.is_clean(), "{report}");
    let again = dump(pool).await;
    assert!(again.len() >= live.len(), "{} rows, and {} before", again.len(), live.len());
}

async fn reached_holdings(pool: &PgPool, position: i64) {
    let least = count(pool, "select min(scanned_to) from holdings.checkpoints").await;
    assert!(least >= position, "a rebuild ends at the head: {least} of {position}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_rebuild_is_refused_and_a_throttled_one_keeps_its_pace() {
    let (place, database) = (Place::new(), environment::database().await);
    let writing = Ledger::start(&database);
    let mut history = RandomHistory::start(&writing.commands, 3).await;
    history.go_on(&writing.commands, 600).await;
    let url = database.url();
    let environment = [("DATABASE_URL", url.as_str())];
    let events = "select count(*) from events where shard < 32";
    let events = count(&database.pool, events).await;
    let began = Instant::now();
    let arguments = ["rebuild", "activity", "--throttle", "150"];
    let first = Process::start(place.path(), "first", &arguments, &environment);
    while !there(&database.pool, "activity_next.checkpoints").await {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", first.last_words());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = Process::start(place.path(), "second", &["rebuild", "activity"], &environment);
    assert!(!second.finish(), "two at once");
    let said = std::fs::read_to_string(place.path().join("second.log")).unwrap();
    assert!(said.contains("activity is being rebuilt by another process"), "{said}");

    assert!(first.finish());
    let least = Duration::from_secs_f64(events as f64 / 150.0);
    assert!(began.elapsed() >= least, "{events} events took {:?}, at least {least:?}", began.elapsed());
    let said = std::fs::read_to_string(place.path().join("first.log")).unwrap();
    let progress = said.lines().filter(|line| line.contains("/s, ") && line.ends_with(" s left")).count();
    assert!(progress >= 2, "{said}");
    assert!(said.contains("rows stand as they were written"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_parks_as_many_streams_as_a_projector_may() {
    let (place, database) = (Place::new(), environment::database().await);
    let mut history = History::new(database.options());
    let ada = history.investor("Ada");
    for name in ["One", "Another"] {
        let id = history.portfolio(ada, name, "USD", CashMode::Tracked);
        let payload = r#"{"amount": 5}"#.into();
        let poison =
            NewEvent { event_type: "CashDeposited", schema_version: 1, payload, occurred_at: noon(2) };
        history.record_raw(id.stream(), poison);
    }
    history.commit().await;
    let url = database.url();
    for (most, ends) in [("1", false), ("2", true)] {
        let environment = [("DATABASE_URL", url.as_str()), ("PARKED_STREAMS_MAX", most)];
        let rebuild = Process::start(place.path(), most, &["rebuild", "holdings"], &environment);
        assert_eq!(rebuild.finish(), ends, "two streams are parked, and {most} may be");
    }
    let said = std::fs::read_to_string(place.path().join("1.log")).unwrap();
    assert!(said.contains("holdings halts: 2 streams are parked, at most 1 may be"), "{said}");
}

/// What a reader was told last, by path.
#[derive(Default)]
struct Told(BTreeMap<String, (i64, i64)>);

impl Told {
    /// Neither the place of the answer nor the version of the rows steps back.
    fn take(&mut self, path: &str, body: &Value) {
        let place = body["as_of"]["position"].as_i64().unwrap_or_else(|| panic!("{path}: {body}"));
        let version = body["version"].as_i64().unwrap_or(0);
        let (last_place, last_version) = self.0.get(path).copied().unwrap_or_default();
        assert!(place >= last_place, "{path} stepped back from {last_place} to {place}");
        assert!(version >= last_version, "{path}: version {last_version} became {version}");
        self.0.insert(path.to_owned(), (place, version));
    }
}

async fn portfolios(http: &reqwest::Client, address: SocketAddr) -> Vec<String> {
    loop {
        let found = http.get(format!("http://{address}/v1/portfolios?limit=50")).send().await.unwrap();
        let found: Value = found.json().await.unwrap();
        let items = found["items"].as_array().cloned().unwrap_or_default();
        let ids: Vec<String> =
            items.iter().filter_map(|item| item["id"].as_str().map(ToOwned::to_owned)).collect();
        if ids.len() >= 6 {
            return ids;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn readers(address: SocketAddr, stop: &Arc<AtomicBool>, reads: &Arc<AtomicU64>) -> JoinSet<Duration> {
    let http = http().timeout(Duration::from_secs(20)).build().unwrap();
    let ids = portfolios(&http, address).await;
    let mut all = JoinSet::new();
    for n in 0..READERS {
        let (stop, reads, http) = (Arc::clone(stop), Arc::clone(reads), http.clone());
        let id = ids[n % ids.len()].clone();
        let paths = [
            format!("/v1/portfolios/{id}/holdings"),
            format!("/v1/portfolios/{id}/valuation"),
            format!("/v1/portfolios/{id}/activity?limit=5"),
            format!("/v1/portfolios/{id}"),
            "/v1/assets?limit=5".to_owned(),
            "/v1/portfolios?order=value&limit=5".to_owned(),
            format!("/v1/portfolios/{id}/risk"),
            "/v1/jobs?limit=5".to_owned(),
            "/v1/portfolios/stats".to_owned(),
        ];
        all.spawn(async move {
            let (mut told, mut longest) = (Told::default(), Duration::ZERO);
            // They do not all come at once.
            tokio::time::sleep(Duration::from_millis(10 * n as u64)).await;
            for turn in n.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let path = &paths[turn % paths.len()];
                let asked = Instant::now();
                let answer = http.get(format!("http://{address}{path}")).send().await.unwrap();
                let status = answer.status().as_u16();
                let body: Value = answer.json().await.unwrap();
                // A portfolio that was just opened is not valued yet.
                if status == 404 && !told.0.contains_key(path) {
                    continue;
                }
                assert_eq!(status, 200, "{path}: {body}");
                told.take(path, &body);
                longest = longest.max(asked.elapsed());
                reads.fetch_add(1, Ordering::Relaxed);
                // As people read: what is asked is whether promotions are noticed, not how much the program can bear.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            longest
        });
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_readers_and_writers_at_work_notice_nothing_of_promotions() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let (place, database) = (Place::new(), environment::database().await);
    let pool = &database.pool;
    let address = free_address();
    let (url, listen) = (database.url(), address.to_string());
    let environment = [&[("DATABASE_URL", url.as_str())][..], &RISK].concat();
    let all = Process::start(place.path(), "all", &["all", "--listen-address", &listen], &environment);
    answers(address).await;
    let load = Load::start(address, seed, 2).await;
    let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut readers = readers(address, &stop, &reads).await;

    for (n, arguments) in [
        &["rebuild", "--all"][..],
        &["rebuild", "holdings", "valuations"],
        &["rebuild", "--all", "--rollback"],
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("rebuild-{n}");
        let rebuild = Process::start(place.path(), &name, arguments, &environment);
        let done = tokio::task::spawn_blocking(move || rebuild.finish()).await.unwrap();
        let said = std::fs::read_to_string(place.path().join(format!("{name}.log"))).unwrap();
        assert!(done, "{arguments:?}: {said}");
        let waits: Vec<&str> = said.lines().filter(|line| line.contains("flushes waited")).collect();
        println!("{}", waits.join("\n"));
        // A reader ends only by failing.
        assert!(readers.try_join_next().is_none(), "a reader has ended");
    }
    stop.store(true, Ordering::Relaxed);
    let longest = readers.join_all().await.into_iter().max().unwrap();
    let sent = load.finish().await;
    let reads = reads.load(Ordering::Relaxed);
    println!("{reads} reads, the longest {longest:?}; accepted, refused, given up: {:?}", tally(&sent));
    assert!(reads > 400, "{reads} reads show nothing");

    reached(pool, read::head(pool).await.unwrap()).await;
    assert_promises_kept(pool, &sent).await;
    let report = verify(pool).await.unwrap();
    assert!(report.is_clean(), "{report}");
    drop(all);
}
