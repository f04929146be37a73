//! `insight verify --topic`: what a topic holds, held against the log, record by record.

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use insight::domain::ids::{Epoch, Position, Shard};
use insight::events::Envelope;
use insight::kafka::{Handed, KafkaSettings, Previous, Producer, topics};
use insight::relay;
use insight::verify::{TopicReport, verify_topic};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::environment::{self, TestDatabase};
use crate::kafka_log::{append, begin_epoch, bus, database, of_shard, until};

async fn check(pool: &PgPool, bus: &KafkaSettings) -> TopicReport {
    verify_topic(pool, bus, &mut |_| {}).await.unwrap()
}

/// Runs the relay until everything is in the topics.
async fn relayed(pool: &PgPool, bus: &KafkaSettings) {
    let stop = CancellationToken::new();
    let running = tokio::spawn(relay::run(bus.clone(), pool.clone(), stop.clone()));
    until("the relay has copied everything", Duration::from_secs(60), || async {
        let report = verify_topic(pool, bus, &mut |_| {}).await;
        report.is_ok_and(|report| report.to_come == 0 && report.events > 0)
    })
    .await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

fn insight(database: &TestDatabase, bus: &KafkaSettings, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_insight"));
    command.env("LOG", "error").env("DATABASE_URL", database.url());
    command.env("KAFKA_BROKERS", environment::kafka_brokers()).env("KAFKA_TOPIC_PREFIX", &*bus.prefix);
    command.args(arguments).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_relay_filled_holds_the_log_and_what_retention_removed_is_said() {
    let (database, bus) = (database().await, bus());
    let pool = &database.pool;
    append(pool, &[0, 5, 32, 40], 3_000).await;
    begin_epoch(pool, 2).await;
    append(pool, &[5, 32], 1_000).await;
    relayed(pool, &bus).await;
    let report = check(pool, &bus).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.events, report.copies, report.removed, report.to_come), (4_000, 0, 0, 0));
    append(pool, &[7], 10).await;
    assert_eq!(check(pool, &bus).await.to_come, 10);

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", environment::kafka_brokers()).create().unwrap();
    let mut before = TopicPartitionList::new();
    let name = |shard| bus.topic_of(Shard(shard)).unwrap();
    before.add_partition_offset(&name(5), 5, Offset::Offset(100)).unwrap();
    before.add_partition_offset(&name(0), 0, Offset::Offset(750)).unwrap();
    admin.delete_records(&before, &AdminOptions::new()).await.unwrap();
    let report = check(pool, &bus).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.events, report.removed), (3_150, 850));
    let output = insight(&database, &bus, &["verify", "--topic"]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("850 were removed by retention, 10 are to come"), "{said}");
}

/// Sends records as they are told, whatever they are.
async fn send(bus: &KafkaSettings, records: Vec<(Envelope, Previous)>) {
    let mut producer = Producer::open(bus).unwrap();
    let count = records.len();
    for (event, previous) in records {
        assert!(matches!(producer.send(&event, previous), Handed::Over));
    }
    for _ in 0..count {
        producer.delivery().await.outcome.unwrap();
    }
}

/// The events of a shard, each with the one before it.
async fn chained(pool: &PgPool, shard: i16) -> Vec<(Envelope, Previous)> {
    let mut previous = None;
    let link = |event: Envelope| {
        let before = previous.replace((event.position, event.event_id));
        (event, before)
    };
    of_shard(pool, Shard(shard)).await.into_iter().map(link).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_topic_holds_that_the_log_does_not_is_named() {
    let (database, bus) = (database().await, bus());
    let pool = &database.pool;
    let shards: Vec<i16> = (0..12).collect();
    append(pool, &shards, 120).await;
    begin_epoch(pool, 2).await;
    append(pool, &shards, 120).await;
    topics::apply(&bus).await.unwrap();

    let mut expected = Vec::new();
    for shard in shards {
        let mut records = chained(pool, shard).await;
        assert_eq!(records.len(), 20);
        let fourth = records[3].clone();
        let offset = match shard {
            // As it should be, with copies.
            1 => {
                records.splice(5..5, [fourth.clone(), fourth]);
                None
            }
            2 => {
                records.drain(3..5);
                Some((3, "2 events of the shard"))
            }
            3 => {
                records[3].0.payload = "{\"i\": 4}".into();
                Some((3, "payload"))
            }
            4 => {
                records[3].0.metadata = "{\"actor\":\"another\"}".into();
                Some((3, "metadata"))
            }
            5 => {
                records[3].1 = records[2].1;
                Some((3, "previous"))
            }
            6 => {
                let mut unknown = fourth;
                (unknown.0.epoch, unknown.0.position) = (Epoch(2), Position(1_000_000));
                records.push(unknown);
                Some((20, "is not in the log"))
            }
            7 => {
                records.swap(3, 4);
                Some((3, "1 events of the shard"))
            }
            8 => {
                // Of a history that ended before the position: dropped by every reader.
                let mut dead = records[15].clone();
                (dead.0.epoch, dead.0.payload) = (Epoch(1), "{}".into());
                records.insert(15, dead);
                None
            }
            9 => {
                let mut copy = fourth;
                copy.0.request_hash = Arc::from([0; 32].as_slice());
                records.push(copy);
                Some((20, "requesthash"))
            }
            10 => {
                const SAID: &str = "insert into relay_progress (topic, shard, epoch, position, kafka_offset) \
                    values ($1, 10, 2, $2, 19)";
                let last = records.pop().unwrap().0.position.0;
                sqlx::query(SAID).bind(bus.topic_of(Shard(10))).bind(last).execute(pool).await.unwrap();
                Some((-1, "says that it copied"))
            }
            11 => {
                let producer: BaseProducer = ClientConfig::new()
                    .set("bootstrap.servers", environment::kafka_brokers())
                    .create()
                    .unwrap();
                let name = bus.topic_of(Shard(11)).unwrap();
                producer.send(BaseRecord::<(), str>::to(&name).partition(11).payload("not ours")).unwrap();
                producer.flush(Duration::from_secs(10)).unwrap();
                Some((0, "not ours"))
            }
            _ => None,
        };
        expected.extend(offset.map(|(offset, found)| (shard, offset, found)));
        send(&bus, records).await;
    }
    let report = check(pool, &bus).await;
    for (shard, offset, found) in &expected {
        let name = format!("{}/{shard}", bus.topic_of(Shard(*shard)).unwrap());
        let place = if *offset < 0 { name } else { format!("{name} offset {offset}") };
        let told = report.differences.iter().any(|it| {
            let is_there = it.place == place || it.place.starts_with(&format!("{place},"));
            is_there && format!("{} {}", it.place, it.found).contains(found)
        });
        assert!(told, "{place}: {found}: {report:#?}");
    }
    assert_eq!(report.difference_count, expected.len() as u64, "{report:#?}");
    assert_eq!((report.dead, report.to_come), (1, 1), "{report:#?}");
    assert_eq!(report.copies, 2 + 1 + 1, "twice in one shard, out of order in another, altered in a third");
    let output = insight(&database, &bus, &["verify", "--topic", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["difference_count"], expected.len());
}
