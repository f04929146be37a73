//! The relay on a real broker: what is in the topics afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use insight::domain::ids::{Position, Shard};
use insight::events::Envelope;
use insight::kafka::{Handed, KafkaSettings, Producer, Record, scan, topics};
use insight::relay;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::kafka_log::{
    append, append_huge, begin_epoch, bus, database, delete_topic, delete_whole_topic, forget_from, of_shard,
    until,
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Relay {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), relay::Error>>,
}

impl Relay {
    fn start(settings: &KafkaSettings, pool: &PgPool) -> Self {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(relay::run(settings.clone(), pool.clone(), shutdown.clone()));
        Self { shutdown, task }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// As good as a `kill -9`.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn topic(settings: &KafkaSettings) -> BTreeMap<Shard, Vec<Record>> {
    let extents = scan::extents(settings, topics::all_shards().collect()).await.unwrap();
    let mut records: BTreeMap<Shard, Vec<Record>> = BTreeMap::new();
    let mut scanning = scan::scan(settings, extents);
    while let Some(some) = scanning.recv().await {
        for record in some.unwrap() {
            records.entry(record.event.shard).or_default().push(record);
        }
    }
    records
}

async fn holds(settings: &KafkaSettings, count: i64) -> bool {
    let Ok(extents) = scan::extents(settings, topics::all_shards().collect()).await else { return false };
    extents.values().map(|extent| extent.end - extent.low).sum::<i64>() >= count
}

/// Whether every position of the log is in the topics, however many duplicates there are.
async fn has_all(settings: &KafkaSettings, head: Position) -> bool {
    if !holds(settings, head.0).await {
        return false;
    }
    let topic = topic(settings).await;
    let positions = topic.values().flatten().map(|record| record.event.position);
    positions.collect::<std::collections::BTreeSet<_>>().len() as i64 >= head.0
}

/// Per shard the topic holds what the store holds, first occurrences in order.
async fn assert_complete(settings: &KafkaSettings, pool: &PgPool) {
    let topic = topic(settings).await;
    for shard in topics::all_shards() {
        let stored = of_shard(pool, shard).await;
        let mut previous = None;
        let mut first = Vec::<&Envelope>::new();
        for record in topic.get(&shard).into_iter().flatten() {
            if first.iter().any(|event| event.event_id == record.event.event_id) {
                continue;
            }
            assert_eq!(record.previous, previous, "shard {shard}");
            previous = Some((record.event.position, record.event.event_id));
            first.push(&record.event);
        }
        assert_eq!(first, stored.iter().collect::<Vec<_>>(), "shard {shard}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topics_hold_what_the_log_holds() {
    let (database, bus) = (database().await, bus());
    append(&database.pool, &[0, 1, 5, 31, 32, 33], 500).await;
    let relay = Relay::start(&bus, &database.pool);
    until("the first events", PATIENCE, || holds(&bus, 500)).await;
    append(&database.pool, &[0, 32, 40], 300).await;
    until("the later events", PATIENCE, || holds(&bus, 800)).await;
    relay.stop().await;
    assert_complete(&bus, &database.pool).await;
    assert!(!holds(&bus, 801).await, "nothing twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_again_and_again_leaves_no_hole() {
    let (database, bus) = (database().await, bus());
    let appending = {
        let pool = database.pool.clone();
        tokio::spawn(async move {
            for _ in 0..40 {
                append(&pool, &[0, 1, 2, 32], 100).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    };
    for round in 0..5u64 {
        let relay = Relay::start(&bus, &database.pool);
        tokio::time::sleep(Duration::from_millis(300 + 250 * round)).await;
        relay.kill().await;
    }
    appending.await.unwrap();
    let relay = Relay::start(&bus, &database.pool);
    until("everything", PATIENCE, || holds(&bus, 4_000)).await;
    relay.stop().await;
    assert_complete(&bus, &database.pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_relays_one_copies_and_the_other_takes_over() {
    let (database, bus) = (database().await, bus());
    let one = Relay::start(&bus, &database.pool);
    append(&database.pool, &[0, 1, 32], 300).await;
    until("the first relay", PATIENCE, || holds(&bus, 300)).await;
    let two = Relay::start(&bus, &database.pool);
    append(&database.pool, &[0, 1, 32], 300).await;
    until("still the first relay", PATIENCE, || holds(&bus, 600)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!holds(&bus, 601).await, "the second one waits");
    one.kill().await;
    append(&database.pool, &[0, 1, 32], 300).await;
    until("the second relay", PATIENCE, || holds(&bus, 900)).await;
    two.stop().await;
    assert_complete(&bus, &database.pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_filled_anew() {
    let (database, bus) = (database().await, bus());
    append(&database.pool, &[0, 1, 32], 300).await;
    let relay = Relay::start(&bus, &database.pool);
    until("the first topics", PATIENCE, || holds(&bus, 300)).await;
    relay.stop().await;
    // The progress rows know what is no longer there.
    for shard in [Shard(0), Shard(32)] {
        delete_whole_topic(&bus, shard).await;
    }
    let relay = Relay::start(&bus, &database.pool);
    until("the new topics", PATIENCE, || holds(&bus, 300)).await;
    relay.stop().await;
    assert_complete(&bus, &database.pool).await;
    assert!(!holds(&bus, 301).await, "nothing twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deleted_while_nothing_is_sent_to_it_is_made_and_filled_anew() {
    let (database, bus) = (database().await, bus());
    append(&database.pool, &[0, 1, 32], 300).await;
    let relay = Relay::start(&bus, &database.pool);
    until("the first topics", PATIENCE, || holds(&bus, 300)).await;
    let market = Shard(32);
    delete_whole_topic(&bus, market).await;
    // Others go on, and tell nothing of it.
    let head = append(&database.pool, &[0, 1], 100).await;
    until("all topics", PATIENCE * 2, || has_all(&bus, head)).await;
    // Made anew by somebody else, it is empty.
    delete_whole_topic(&bus, market).await;
    topics::apply(&bus).await.unwrap();
    until("all topics again", PATIENCE * 2, || has_all(&bus, head)).await;
    relay.stop().await;
    assert_complete(&bus, &database.pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deleted_under_a_running_relay_is_made_and_filled_anew() {
    let (database, bus) = (database().await, bus());
    append(&database.pool, &[0, 1, 32], 300).await;
    let relay = Relay::start(&bus, &database.pool);
    until("the first topics", PATIENCE, || holds(&bus, 300)).await;
    delete_topic(&bus, Shard(0)).await;
    append(&database.pool, &[0, 1, 32], 300).await;
    until("all topics", PATIENCE, || holds(&bus, 600)).await;
    relay.stop().await;
    assert_complete(&bus, &database.pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_refused_twice_halts_the_relay_with_its_position() {
    let (database, bus) = (database().await, bus());
    append(&database.pool, &[0], 10).await;
    append_huge(&database.pool).await;
    let halted = Relay::start(&bus, &database.pool).task.await.unwrap().unwrap_err();
    assert!(matches!(halted, relay::Error::Refused { position: Position(11), .. }), "{halted}");
    let topic = topic(&bus).await;
    // What stands before it may be there or not; what comes after it must not.
    let mut records = topic.values().flatten();
    assert!(records.all(|record| record.event.position <= Position(10)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_log_halts_the_relay_until_the_next_epoch() {
    let (database, bus) = (database().await, bus());
    let pool = &database.pool;
    append(pool, &[0, 1], 100).await;
    let relay = Relay::start(&bus, pool);
    until("the first history", PATIENCE, || holds(&bus, 100)).await;
    relay.stop().await;

    // The progress was restored as well, to when the topic held a third of what it holds: only the topic knows more.
    sqlx::query("delete from relay_progress").execute(pool).await.unwrap();
    forget_from(pool, 61).await;
    let halted = Relay::start(&bus, pool).task.await.unwrap().unwrap_err();
    assert!(
        matches!(&halted, relay::Error::Fork(reason) if reason.contains("the topic holds event")),
        "{halted}"
    );
    append(pool, &[0, 1], 100).await;
    let halted = Relay::start(&bus, pool).task.await.unwrap().unwrap_err();
    assert!(matches!(halted, relay::Error::Fork(_)), "{halted}");

    forget_from(pool, 61).await;
    begin_epoch(pool, 2).await;
    append(pool, &[0, 1], 80).await;
    let relay = Relay::start(&bus, pool);
    until("the second history", PATIENCE, || holds(&bus, 180)).await;
    relay.stop().await;
    let topic = topic(&bus).await;
    for shard in [Shard(0), Shard(1)] {
        let alive = topic[&shard]
            .iter()
            .filter(|record| record.event.epoch.0 == 2 || record.event.position < Position(61));
        let alive: Vec<_> = alive.map(|record| record.event.position).collect();
        let stored: Vec<_> = of_shard(pool, shard).await.iter().map(|event| event.position).collect();
        assert_eq!(alive, stored);
    }
}

/// The store's events of each shard are in the topic in this order, whatever stands between them.
async fn assert_in_order(settings: &KafkaSettings, pool: &PgPool) {
    let topic = topic(settings).await;
    for shard in topics::all_shards() {
        let mut records = topic.get(&shard).into_iter().flatten();
        for stored in of_shard(pool, shard).await {
            let found = records.any(|record| *record.event == stored);
            assert!(found, "shard {shard}: position {} is missing or out of order", stored.position);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_written_into_the_topic_the_log_is_in_it_in_order() {
    let (database, bus) = (database().await, bus());
    let pool = &database.pool;
    topics::apply(&bus).await.unwrap();
    append(pool, &[0, 1], 200).await;
    let stored = of_shard(pool, Shard(0)).await;
    let mut producer = Producer::open(&bus).unwrap();
    // In order and without the end, then with a hole, twice, backwards.
    let rubbish = (0..30).chain(40..45).chain(40..45).chain((5..20).rev()).chain([99, 30]);
    for i in rubbish {
        let previous = (i > 0).then(|| (stored[i - 1].position, stored[i - 1].event_id));
        assert!(matches!(producer.send(&stored[i], previous), Handed::Over));
        assert!(producer.delivery().await.outcome.is_ok());
    }
    let relay = Relay::start(&bus, pool);
    until("everything", PATIENCE, || holds(&bus, 100 + 57 + 69)).await;
    relay.stop().await;
    assert_in_order(&bus, pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_deleted_are_not_missed_by_the_relay() {
    use rdkafka::admin::{AdminClient, AdminOptions};
    let (database, bus) = (database().await, bus());
    let pool = &database.pool;
    append(pool, &[0, 1], 200).await;
    let relay = Relay::start(&bus, pool);
    until("the first events", PATIENCE, || holds(&bus, 200)).await;
    let admin: AdminClient<_> =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &*bus.brokers).create().unwrap();
    let mut below = rdkafka::TopicPartitionList::new();
    let name = bus.topic_of(Shard(0)).unwrap();
    // Some of a partition while the relay runs, and all of another while it does not.
    below.add_partition_offset(&name, 0, rdkafka::Offset::Offset(60)).unwrap();
    admin.delete_records(&below, &AdminOptions::new()).await.unwrap();
    append(pool, &[0, 1], 100).await;
    until("later events", PATIENCE, || holds(&bus, 240)).await;
    relay.kill().await;
    let mut all = rdkafka::TopicPartitionList::new();
    all.add_partition_offset(&name, 1, rdkafka::Offset::End).unwrap();
    admin.delete_records(&all, &AdminOptions::new()).await.unwrap();
    append(pool, &[0, 1], 100).await;
    let relay = Relay::start(&bus, pool);
    until("the end", PATIENCE, || async {
        let extents = scan::extents(&bus, vec![Shard(0), Shard(1)]).await.unwrap();
        extents.values().all(|extent| extent.end >= 200)
    })
    .await;
    relay.stop().await;
    let records = topic(&bus).await;
    for (shard, kept) in [(Shard(0), 140), (Shard(1), 50)] {
        let mut there: Vec<&Envelope> = Vec::new();
        for record in &records[&shard] {
            if !there.contains(&&*record.event) {
                there.push(&record.event);
            }
        }
        assert!(there.len() >= kept, "shard {shard}: {} records", there.len());
        let stored = of_shard(pool, shard).await;
        let end: Vec<&Envelope> = stored[stored.len() - there.len()..].iter().collect();
        assert_eq!(there, end, "shard {shard}: what is there is the end of the log, without a hole");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_relay_loses_its_lock_and_what_it_writes_afterwards_are_duplicates() {
    use crate::processes::{Place, Process};
    let (place, database, bus) = (Place::new(), database().await, bus());
    let url = database.url();
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("KAFKA_BROKERS", &*bus.brokers),
        ("KAFKA_TOPIC_PREFIX", &*bus.prefix),
    ];
    topics::apply(&bus).await.unwrap();
    let pool = &database.pool;
    let mut one = Process::start(place.path(), "one", &["relay"], &environment);
    append(pool, &[0, 1, 32], 300).await;
    until("the first relay", PATIENCE, || holds(&bus, 300)).await;
    let mut two = Process::start(place.path(), "two", &["relay"], &environment);
    tokio::time::sleep(Duration::from_secs(2)).await;
    append(pool, &[0, 1, 32], 3_000).await;
    one.freeze();
    let head = append(pool, &[0, 1, 32], 3_000).await;
    let began = std::time::Instant::now();
    until("the second relay", PATIENCE, || has_all(&bus, head)).await;
    println!("taken over {:?} after the freeze", began.elapsed());
    one.thaw();
    let head = append(pool, &[0, 1, 32], 300).await;
    until("still the second relay", PATIENCE, || has_all(&bus, head)).await;
    until("the first one to notice", PATIENCE, || async { one.said().contains("the relay begins again") })
        .await;
    two.kill();
    let head = append(pool, &[0, 1, 32], 300).await;
    until("the first relay again", PATIENCE, || has_all(&bus, head)).await;
    one.stop();
    assert_complete(&bus, pool).await;
}
