//! The same history through the store feed and through Kafka gives the same rows, byte for byte.

use insight::event_store::read;
use insight::feed::{Source, StoreTail, WindowLimits};
use insight::kafka::{KafkaSettings, topics};
use insight::projectors::schema;
use insight::relay;
use insight::verify::verify;
use tokio_util::sync::CancellationToken;

use crate::environment;
use crate::ledger::Ledger;
use crate::random_history::RandomHistory;
use crate::read_models::{ALL, Projectors, dump, reached};

#[tokio::test(flavor = "multi_thread")]
async fn the_store_and_kafka_give_the_same_rows() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let database = environment::database().await;
    let pool = &database.pool;
    let writing = Ledger::start(&database);

    // Followed live from the store, while it is written.
    let source = Source::Store(StoreTail::start(pool.clone(), WindowLimits::default()));
    let projectors = Projectors::start(&source, pool).await;
    RandomHistory::start(&writing.commands, seed).await.go_on(&writing.commands, 800).await;
    let head = read::head(pool).await.unwrap();
    reached(pool, head).await;
    projectors.stop().await;
    let from_store = dump(pool).await;
    let report = verify(pool).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(from_store.len() > 500, "{} rows are too few to show anything", from_store.len());

    // All of it dropped, and read again from the topics.
    for name in ALL {
        let schema = schema::Schema::named(name).unwrap();
        schema::recreate(&mut pool.acquire().await.unwrap(), schema).await.unwrap();
    }
    let bus = KafkaSettings {
        prefix: environment::topic_prefix().into(),
        ..KafkaSettings::new(environment::kafka_brokers())
    };
    topics::apply(&bus).await.unwrap();
    let stop = CancellationToken::new();
    let relay = tokio::spawn(relay::run(bus.clone(), pool.clone(), stop.clone()));
    let projectors = Projectors::start(&Source::Kafka(bus, pool.clone()), pool).await;
    reached(pool, head).await;
    projectors.stop().await;
    stop.cancel();
    relay.await.unwrap().unwrap();

    let from_kafka = dump(pool).await;
    let differing = from_store.iter().zip(&from_kafka).find(|(one, other)| one != other);
    assert_eq!(differing, None, "the first row that differs");
    assert_eq!(from_store.len(), from_kafka.len());
    // A row of risk names what it was computed from, and equals its recomputation.
    let report = verify(pool).await.unwrap();
    assert!(report.is_clean(), "{report}");
}
