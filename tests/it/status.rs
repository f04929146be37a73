//! `GET /v1/status` and `insight status`: what there is, who works on it, and what is stuck.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use insight::domain::portfolio::event::CashMode;
use insight::events::NewEvent;
use insight::feed::{Source, StoreTail, WindowLimits};
use serde_json::Value;

use crate::environment;
use crate::processes::{Place, Process, answers, free_address};
use crate::projectors_history::{History, noon};
use crate::read_models::{ALL, Projectors, reached};
use crate::service::Service;

const PATIENCE: Duration = Duration::from_secs(60);

fn status(environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_insight"));
    for name in ["DATABASE_URL", "KAFKA_BROKERS", "KAFKA_TOPIC_PREFIX", "DATA_DIR", "LISTEN_ADDRESS"] {
        command.env_remove(name);
    }
    command.arg("status").args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn document(environment: &[(&str, &str)]) -> Value {
    let output = status(environment, &["--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn read_model<'a>(document: &'a Value, name: &str) -> &'a Value {
    let all = document["read_models"].as_array().unwrap();
    all.iter().find(|it| it["name"] == name).unwrap()
}

/// Asks until the document is as wanted.
fn until(environment: &[(&str, &str)], wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let document = document(environment);
        if wanted(&document) {
            return document;
        }
        assert!(began.elapsed() < PATIENCE, "{document:#}");
    }
}

/// The names of a described object and of those within it, as far as the value has them.
fn compare(document: &Value, described: &str, found: &Value) {
    let schema = &document["components"]["schemas"][described];
    let known = schema["properties"].as_object().unwrap();
    let required: BTreeSet<&str> =
        schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let found = found.as_object().unwrap();
    for (name, value) in found {
        let property = known.get(name).unwrap_or_else(|| panic!("{described} does not describe {name}"));
        let inner = property["$ref"].as_str().or_else(|| property["items"]["$ref"].as_str());
        let Some(inner) = inner.and_then(|path| path.rsplit('/').next()) else { continue };
        for value in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
            compare(document, inner, value);
        }
    }
    for name in required {
        assert!(found.contains_key(name), "{described} has no {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_where_it_is() {
    let database = environment::database().await;
    let mut history = History::new(database.options());
    history.of_everything(3, 60);
    let head = history.commit().await;
    let source = Source::Store(StoreTail::start(database.pool.clone(), WindowLimits::default()));
    let projectors = Projectors::start(&source, &database.pool).await;
    reached(&database.pool, head).await;

    let service = Service::start(&database);
    let began = Instant::now();
    let answer = loop {
        let answer = service.get("/v1/status").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        // The last shards are written when nothing has happened for a second.
        let all = answer.body["read_models"].as_array().unwrap().iter();
        if all.into_iter().all(|it| it["lag_events"] == 0) {
            break answer;
        }
        assert!(began.elapsed() < PATIENCE, "{:#}", answer.body);
    };
    let told = &answer.body;
    assert_eq!((&told["head"]["position"], &told["head"]["epoch"]), (&head.0.into(), &1.into()));
    assert_eq!(told["stuck"].as_array().unwrap().len(), 0, "{told:#}");
    for name in ALL {
        let it = read_model(told, name);
        assert_eq!((&it["position"], &it["lag_events"]), (&head.0.into(), &0.into()), "{name}");
        assert!(it["shape"].as_str().unwrap().starts_with("shape ") && it["shape_version"] == 1, "{name}");
        let owners = it["owners"].as_array().unwrap();
        assert_eq!((owners.len(), &owners[0]["who"]), (1, &"integration test".into()), "{name}");
    }
    assert_eq!(read_model(told, "holdings")["owners"][0]["shards"].as_array().unwrap().len(), 32);
    let described: Value = serde_json::from_str(&insight::api::openapi_json()).unwrap();
    compare(&described, "Status", told);

    let url = database.url();
    let output = status(&[("DATABASE_URL", &url)], &[]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with(&format!("log ends at 1:{head}")), "{text}");
    assert!(text.contains("integration test (0-32)"), "{text}");
    assert!(text.contains("\nholdings v1 "), "{text}");
    assert_eq!(document(&[("DATABASE_URL", &url)])["head"], told["head"]);

    // Appending shows as a rate.
    let writing = tokio::spawn(async move {
        let ada = history.investor("Grace");
        let ids = history.portfolio(ada, "More", "USD", CashMode::Tracked);
        for _ in 0..150 {
            history.deposit(ids, "1", "USD", 3);
            history.commit().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let told = service.get("/v1/status").await.body;
    assert!(told["appended_per_second"].as_f64().unwrap() > 5.0, "{told:#}");
    assert!(read_model(&told, "holdings")["events_per_second"].as_f64().unwrap() > 1.0, "{told:#}");
    writing.await.unwrap();
    projectors.stop().await;
    let nobody = document(&[("DATABASE_URL", &url)]);
    assert_eq!(read_model(&nobody, "risk")["owners"].as_array().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stuck_is_said_and_shows_in_the_exit_code() {
    let database = environment::database().await;
    let mut history = History::new(database.options());
    let ada = history.investor("Ada");
    let id = history.portfolio(ada, "Bad", "USD", CashMode::Tracked);
    let broken = NewEvent {
        event_type: "CashDeposited",
        schema_version: 1,
        payload: "[]".into(),
        occurred_at: noon(2),
    };
    history.record_raw(id.stream(), broken);
    let head = history.commit().await;
    let source = Source::Store(StoreTail::start(database.pool.clone(), WindowLimits::default()));
    let projectors = Projectors::start(&source, &database.pool).await;
    reached(&database.pool, head).await;
    projectors.stop().await;
    sqlx::query("drop schema risk cascade").execute(&database.pool).await.unwrap();
    let url = database.url();
    let output = status(&[("DATABASE_URL", &url)], &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    for told in [
        "stuck: holdings has 1 stream parked: see `insight parked list holdings`",
        "stuck: risk has no tables",
        &format!("holdings: {} is parked at 3: payload of CashDeposited", id.stream()),
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
    let told = document(&[("DATABASE_URL", &url)]);
    let parked = &read_model(&told, "holdings")["parked"][0];
    assert_eq!((&parked["stream_id"], &parked["position"]), (&id.stream().to_string().into(), &3.into()));
    // The API has the same to say, and says it.
    let answer = Service::start(&database).get("/v1/status").await;
    assert_eq!((answer.status, &answer.body["stuck"]), (200, &told["stuck"]));

    let output = status(&[("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")], &["--json"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}

fn start(folder: &Path, name: &str, arguments: &[&str], environment: &[(&'static str, &str)]) -> Process {
    Process::start(folder, name, arguments, environment)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_kafka_it_tells_the_members_of_the_groups_and_the_relay() {
    let (database, place) = (environment::database().await, Place::new());
    let mut history = History::new(database.options());
    history.of_everything(4, 80);
    let head = history.commit().await.0;
    let (url, brokers, prefix) = (database.url(), environment::kafka_brokers(), environment::topic_prefix());
    let environment =
        [("DATABASE_URL", url.as_str()), ("KAFKA_BROKERS", &brokers), ("KAFKA_TOPIC_PREFIX", &prefix)];
    assert!(start(place.path(), "topics", &["topics", "apply"], &environment).finish());
    let mut relay = start(place.path(), "relay", &["relay"], &environment);
    let mut one = start(place.path(), "one", &["project", "holdings"], &environment);
    let mut two = start(place.path(), "two", &["project", "holdings"], &environment);

    let told = until(&environment, |told| {
        let holdings = read_model(told, "holdings");
        let owners = holdings["owners"].as_array().unwrap();
        owners.len() == 2
            && owners.iter().all(|owner| !owner["shards"].as_array().unwrap().is_empty())
            && holdings["lag_events"] == 0
            && told["bus"]["topics"].as_array().unwrap().iter().all(|topic| topic["lag_events"] == 0)
    });
    let owners = read_model(&told, "holdings")["owners"].as_array().unwrap();
    let mut shards: Vec<i64> = owners
        .iter()
        .flat_map(|owner| owner["shards"].as_array().unwrap().iter().map(|shard| shard.as_i64().unwrap()))
        .collect();
    shards.sort_unstable();
    assert_eq!(shards, (0..32).collect::<Vec<_>>());
    for owner in owners.iter().chain([&told["bus"]["relay"]]) {
        assert!(owner["who"].as_str().unwrap().starts_with("insight/"), "{owner}");
    }
    let topics = told["bus"]["topics"].as_array().unwrap();
    assert_eq!(topics[0]["name"], format!("{prefix}portfolio.events.v1"));
    assert!(topics.iter().any(|topic| topic["position"] == head), "{topics:?}");
    let described: Value = serde_json::from_str(&insight::api::openapi_json()).unwrap();
    compare(&described, "Status", &told);

    relay.kill();
    let told = until(&environment, |told| told["bus"]["relay"].is_null());
    assert_eq!(told["bus"]["trouble"], Value::Null);
    // Brokers that are away are told of, and the rest all the same.
    let away = [environment[0], ("KAFKA_BROKERS", "127.0.0.1:1"), environment[2]];
    let told = document(&away);
    assert!(told["bus"]["trouble"].as_str().is_some(), "{told:#}");
    assert_eq!(read_model(&told, "holdings")["position"], head);
    one.kill();
    two.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_form_is_looked_at_while_it_runs() {
    let place = Place::new();
    let (address, folder) = (free_address(), place.data_folder());
    let (listen, folder) = (address.to_string(), folder.to_str().unwrap().to_owned());
    let mut all = start(place.path(), "all", &["all"], &[("DATA_DIR", &folder), ("LISTEN_ADDRESS", &listen)]);
    answers(address).await;
    let told = until(&[("DATA_DIR", &folder)], |told| {
        told["read_models"].as_array().unwrap().iter().all(|it| it["owners"].as_array().unwrap().len() == 1)
    });
    assert!(read_model(&told, "holdings")["owners"][0]["who"].as_str().unwrap().starts_with("insight/"));
    assert_eq!(told["bus"], Value::Null);
    // It was left running.
    answers(address).await;
    all.kill();
}
