//! `insight demo race` and `insight demo seed` against a server that runs, and one that is killed meanwhile.

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use insight::event_store::read;
use serde_json::Value;

use crate::environment::{self, TestDatabase};
use crate::processes::{Place, Process, answers, free_address};

fn server(place: &Place, database: &TestDatabase, address: SocketAddr) -> Process {
    let environment = [("DATABASE_URL", &*database.url())];
    Process::start(place.path(), "all", &["all", "--listen-address", &address.to_string()], &environment)
}

async fn demo(arguments: &[&str], address: SocketAddr) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_insight"));
    command.arg("demo").args(arguments).args(["--listen-address", &address.to_string()]);
    for name in ["DATABASE_URL", "KAFKA_BROKERS"] {
        command.env_remove(name);
    }
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn report(arguments: &[&str], address: SocketAddr) -> Value {
    let output = demo(arguments, address).await;
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_race_of_many_clients_ends_with_exact_sums_whatever_happens_to_the_server() {
    let (place, database, address) = (Place::new(), environment::database().await, free_address());
    let mut process = server(&place, &database, address);
    answers(address).await;
    let race = ["race", "--clients", "8", "--trades", "25", "--orders", "300", "--workers", "6"];
    let told = demo(&race, address).await;
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success() && text.matches("exact").count() == 3, "{told:?}");

    let racing = report(&["race", "--clients", "8", "--trades", "150", "--orders", "900", "--json"], address);
    let killing = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            process.kill();
            process.start_again();
            answers(address).await;
        }
    };
    let (report, ()) = tokio::join!(racing, killing);
    let ways = report["ways"].as_array().unwrap();
    assert_eq!(ways.len(), 3);
    for way in ways {
        let count = |name: &str| way[name].as_i64().unwrap();
        assert_eq!(way["expected"], way["held"], "{way}");
        assert_eq!(count("facts"), count("accepted"), "{way}");
        assert_eq!(count("accepted") + count("refused"), count("wanted"), "{way}");
        let sent = count("wanted") + count("conflicts") + count("retries") + count("sent_twice");
        assert_eq!(count("attempts"), sent, "{way}");
    }
    let retries: i64 = ways.iter().map(|way| way["retries"].as_i64().unwrap()).sum();
    assert!(retries > 0, "the server was killed, and nobody noticed: {report}");
    assert!(ways[1]["conflicts"].as_i64().unwrap() > 0, "nobody met another: {}", ways[1]);
    assert!(ways[2]["sent_twice"].as_i64().unwrap() > 0, "nothing was sent twice: {}", ways[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn seeding_again_changes_nothing() {
    let (place, database, address) = (Place::new(), environment::database().await, free_address());
    let process = server(&place, &database, address);
    answers(address).await;
    let seed = ["seed", "--investors", "4", "--assets", "5", "--max-assets-per-portfolio", "3", "--json"];
    let first = report(&seed, address).await;
    let head = read::head(&database.pool).await.unwrap();
    let again = report(&seed, address).await;
    assert_eq!(read::head(&database.pool).await.unwrap(), head);
    assert_eq!(first["portfolios"], again["portfolios"]);
    let portfolios = first["portfolios"].as_array().unwrap();
    assert_eq!(portfolios.len(), 4);
    for portfolio in portfolios {
        assert!((1..=3).contains(&portfolio["symbols"].as_array().unwrap().len()), "{portfolio}");
    }
    drop(process);
    let nobody = demo(&seed, address).await;
    let said = String::from_utf8_lossy(&nobody.stderr);
    assert!(!nobody.status.success() && said.contains("insight all") && said.contains("--server"), "{said}");
}
