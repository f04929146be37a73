//! A broker that has lost the end of its partitions, as one does whose disk forgets what it was told to keep: readers go on from
//! the store, and the relay fills the topics up.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use insight::domain::ids::Shard;
use insight::event_store::read;
use insight::kafka::KafkaSettings;
use insight::verify::{verify, verify_topic};
use sqlx::PgPool;

use crate::environment;
use crate::kafka_log::{delete_whole_topic, until};
use crate::own_servers::{Ground, Kafka};
use crate::processes::{Process, answers, free_address};
use crate::read_models::reached;
use crate::trader::Trader;

/// Kills the broker, cuts off the last third of what each partition holds, and starts it again.
fn lose_ends(broker: &Kafka, folder: &Path) {
    broker.kill();
    let mut cut = 0;
    for partition in fs::read_dir(folder.join("data")).unwrap().flatten() {
        let name = partition.file_name().into_string().unwrap();
        let log = partition.path().join("00000000000000000000.log");
        let length = log.metadata().map_or(0, |log| log.len());
        if name.contains(".v1-") && length > 0 {
            File::options().write(true).open(&log).unwrap().set_len(length * 2 / 3).unwrap();
            cut += 1;
        }
    }
    assert!(cut >= 3, "market and two portfolios at least: {cut} partitions");
    broker.start_again();
}

/// The topics hold what the log holds, all of it.
async fn are_whole(bus: &KafkaSettings, pool: &PgPool) -> bool {
    let report = verify_topic(pool, bus, &mut |_| {}).await;
    report.is_ok_and(|report| report.is_clean() && report.to_come == 0 && report.events > 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_has_lost_its_end_is_said_to_and_filled_up_while_readers_go_on() {
    const PATIENCE: Duration = Duration::from_secs(90);
    let (ground, database) = (Ground::new(), environment::database().await);
    let folder = ground.folder("kafka");
    let broker = Kafka::start(folder.clone(), None);
    let (url, address, brokers) = (database.url(), free_address(), broker.listener().to_string());
    let environment = [("DATABASE_URL", url.as_str()), ("KAFKA_BROKERS", &brokers), ("POOL_SIZE", "4")];
    let start = |name: &str, arguments: &[&str]| Process::start(ground.path(), name, arguments, &environment);
    assert!(start("topics", &["topics", "apply"]).finish());
    let mut relay = start("relay", &["relay"]);
    let mut roles = [
        start("api", &["api", "--listen-address", &address.to_string()]),
        start("models", &["project", "directory", "holdings", "prices", "activity", "valuations", "jobs"]),
        start("risk", &["risk"]),
    ];
    answers(address).await;
    let (pool, bus) = (&database.pool, KafkaSettings::new(brokers.as_str()));
    let (trader, other) = (Trader::start(address).await, Trader::start_on(address, "BBB").await);
    let trade = async |times| {
        trader.trade(times).await;
        other.trade(times).await;
        reached(pool, read::head(pool).await.unwrap()).await;
    };
    trade(20).await;
    until("the topics", PATIENCE, || are_whole(&bus, pool)).await;

    // Nobody relays: what is missing is a difference, and no reader minds.
    relay.stop();
    lose_ends(&broker, &folder);
    let report = verify_topic(pool, &bus, &mut |_| {}).await.unwrap();
    assert!(!report.is_clean(), "{report:?}");
    for difference in &report.differences {
        let said = format!("{difference:?}");
        assert!(
            said.contains("ends at position") && said.contains("the relay says that it copied up to"),
            "{said}"
        );
    }
    trade(3).await;
    relay.start_again();
    until("the topics, by a new relay", PATIENCE, || are_whole(&bus, pool)).await;

    // The relay runs, and has nothing to send.
    lose_ends(&broker, &folder);
    until("the topics, by a relay that looks", PATIENCE, || are_whole(&bus, pool)).await;
    trade(3).await;
    until("the topics", PATIENCE, || are_whole(&bus, pool)).await;

    // What helps against any difference.
    delete_whole_topic(&bus, Shard(0)).await;
    until("the topic, made anew", PATIENCE, || are_whole(&bus, pool)).await;
    trade(3).await;
    until("the topics", PATIENCE, || are_whole(&bus, pool)).await;
    relay.stop();
    roles.iter_mut().for_each(Process::stop);
    let report = verify(pool).await.unwrap();
    assert!(report.is_clean(), "{report}");
}
