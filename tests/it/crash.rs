//! The program killed with `kill -9` under load, and what is left judged: by what its clients were promised, and by the
//! reference ledger.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use insight::event_store::read;
use insight::postgres::{Session, connect};
use insight::verify::verify;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::PgPool;

use crate::environment;
use crate::load::{Load, assert_promises_kept, tally};
use crate::processes::{Place, Process, answers, free_address};
use crate::read_models::{ALL, reached};

const CLIENTS: u64 = 8;
/// Little history and few paths, so that the engine leaves the others some of the machine.
const RISK: [(&str, &str); 3] = [("RISK_WINDOW", "60"), ("RISK_PATHS", "1024"), ("RISK_THREADS", "1")];

/// Waits until every read model has caught up, then lets the judge speak.
async fn judge(pool: &PgPool) {
    let head = read::head(pool).await.unwrap();
    let began = Instant::now();
    reached(pool, head).await;
    let report = verify(pool).await.unwrap();
    println!("{report}\ncaught up in {:?}", began.elapsed());
    assert!(report.is_clean(), "{report}");
    let compared: Vec<_> = report.read_models.iter().filter(|it| it.rows > 0).map(|it| it.name).collect();
    assert!(ALL.iter().all(|name| compared.contains(name)), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_under_load_the_embedded_form_keeps_every_promise() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let place = Place::new();
    let address = free_address();
    let (folder, listen) = (place.data_folder().display().to_string(), address.to_string());
    let arguments = ["all", "--data-dir", &folder, "--listen-address", &listen];
    let mut insight = Process::start(place.path(), "all", &arguments, &RISK);
    answers(address).await;

    let load = Load::start(address, seed, CLIENTS).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1_200))).await;
        insight.kill();
        insight.start_again();
        // Sometimes again before it has come up.
        if random.random_range(0..4) > 0 {
            answers(address).await;
        }
    }
    let sent = load.finish().await;
    println!("accepted, refused, given up: {:?}", tally(&sent));

    let pool = connect(place.private_server(), &Session::of("judge")).await.unwrap();
    judge(&pool).await;
    assert_promises_kept(&pool, &sent).await;
    pool.close().await;
}

/// The processes of the distributed form on one database and one broker.
fn distributed(folder: &Path, environment: &[(&'static str, &str)], address: SocketAddr) -> Vec<Process> {
    let listen = address.to_string();
    let start = |name: &str, arguments: &[&str]| Process::start(folder, name, arguments, environment);
    vec![
        start("api", &["api", "--listen-address", &listen]),
        start("relay", &["relay"]),
        start("projector-1", &["project", "holdings", "directory"]),
        start("projector-2", &["project", "holdings", "valuations"]),
        start("projector-3", &["project", "prices", "activity", "valuations"]),
        start("risk-1", &["risk"]),
        start("risk-2", &["risk"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_frozen_at_random_the_roles_on_kafka_keep_every_promise() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (place, database) = (Place::new(), environment::database().await);
    let (url, brokers, prefix) = (database.url(), environment::kafka_brokers(), environment::topic_prefix());
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("KAFKA_BROKERS", brokers.as_str()),
        ("KAFKA_TOPIC_PREFIX", prefix.as_str()),
    ];
    let environment = [&environment[..], &RISK].concat();
    let topics = Process::start(place.path(), "topics", &["topics", "apply"], &environment);
    assert!(topics.finish(), "the topics are made");
    let address = free_address();
    let mut processes = distributed(place.path(), &environment, address);
    answers(address).await;

    let load = Load::start(address, seed, CLIENTS).await;
    // One of those behind the API stands still for longer than its group waits, and then goes on as if nothing had been.
    let frozen = random.random_range(1..processes.len());
    for round in 0..20 {
        tokio::time::sleep(Duration::from_millis(random.random_range(100..900))).await;
        match round {
            2 => processes[frozen].freeze(),
            17 => processes[frozen].thaw(),
            _ => {}
        }
        let process = random.random_range(0..processes.len());
        if process == frozen && (2..=17).contains(&round) {
            continue;
        }
        processes[process].kill();
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        processes[process].start_again();
    }
    let sent = load.finish().await;
    println!("accepted, refused, given up: {:?}", tally(&sent));
    judge(&database.pool).await;
    assert_promises_kept(&database.pool, &sent).await;
}
