//! Both feeds on real servers: what a consumer gets, whatever happens on the way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use insight::domain::ids::{Epoch, Position, Shard};
use insight::event_store::{Place, read};
use insight::events::Envelope;
use insight::feed::{self, Feed, FeedItem, Mode, Source, StoreTail, Subscription, Topics, WindowLimits};
use insight::kafka::{Handed, KafkaSettings, Producer, topics};
use insight::relay;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::kafka_log::{append, begin_epoch, bus, database, forget_from, of_shard, until};

const PATIENCE: Duration = Duration::from_secs(30);

/// What consumers of one name share: checkpoints, and what was applied, under one lock as in one transaction.
#[derive(Clone, Default)]
struct ReadModel(Arc<Mutex<BTreeMap<Shard, Rows>>>);

#[derive(Clone, Default)]
struct Rows {
    /// Changes with every flush, and fences.
    revision: u64,
    events: Vec<Arc<Envelope>>,
    scanned_to: Position,
}

impl ReadModel {
    fn load(&self, shard: Shard) -> (u64, Place) {
        let rows = self.0.lock().unwrap();
        let Some(rows) = rows.get(&shard) else { return (0, Place::origin(Epoch(1))) };
        let place = rows.events.last().map_or(Place::origin(Epoch(1)), |event| Place::from(&**event));
        (rows.revision, place)
    }

    /// Compare-and-set; none if somebody else was quicker.
    fn flush(&self, shard: Shard, mine: u64, events: &[Arc<Envelope>], to: Option<Position>) -> Option<u64> {
        let mut all = self.0.lock().unwrap();
        let rows = all.entry(shard).or_default();
        if rows.revision != mine {
            return None;
        }
        rows.revision += 1;
        rows.events.extend(events.iter().cloned());
        rows.scanned_to = rows.scanned_to.max(to.unwrap_or_default());
        Some(rows.revision)
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().values().map(|rows| rows.events.len()).sum()
    }

    fn scanned_to(&self, shards: &[Shard]) -> Position {
        let all = self.0.lock().unwrap();
        shards.iter().map(|shard| all.get(shard).map_or(Position(0), |rows| rows.scanned_to)).min().unwrap()
    }

    /// Every shard has exactly the events of the store, in order.
    async fn assert_complete(&self, pool: &PgPool, shards: &[Shard]) {
        for shard in shards {
            let stored: Vec<_> = of_shard(pool, *shard).await;
            let applied = self.0.lock().unwrap().get(shard).cloned().unwrap_or_default().events;
            let applied: Vec<_> = applied.iter().map(|event| (**event).clone()).collect();
            assert_eq!(applied, stored, "shard {shard}");
        }
    }
}

/// A projector in little.
struct Consumer {
    stop: CancellationToken,
    task: JoinHandle<Result<(), feed::Error>>,
}

impl Consumer {
    async fn start(source: &Source, name: &str, topics: Topics, mode: Mode, model: &ReadModel) -> Self {
        let subscription = Subscription { name: name.to_owned(), topics, mode, batch_events_max: 500 };
        let mut feed = Feed::open(source, subscription).await.unwrap();
        let (stop, model) = (CancellationToken::new(), model.clone());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut revisions = BTreeMap::new();
            loop {
                let item = tokio::select! {
                    item = feed.next() => item?,
                    () = stopped.cancelled() => break,
                };
                match item {
                    FeedItem::Assigned(shards) => resume(&mut feed, &model, &mut revisions, shards).await?,
                    FeedItem::Revoked(shards) => revisions.retain(|shard, _| !shards.contains(shard)),
                    FeedItem::Batch(batch) => {
                        let lost = apply(&model, &mut revisions, &batch);
                        feed.commit_hint(&batch.scanned_to).await;
                        if !lost.is_empty() {
                            resume(&mut feed, &model, &mut revisions, lost).await?;
                        }
                    }
                }
            }
            feed.close().await;
            Ok(())
        });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn resume(
    feed: &mut Feed,
    model: &ReadModel,
    revisions: &mut BTreeMap<Shard, u64>,
    shards: Vec<Shard>,
) -> Result<(), feed::Error> {
    let mut places = Vec::new();
    for shard in shards {
        let (revision, place) = model.load(shard);
        revisions.insert(shard, revision);
        places.push((shard, place));
    }
    feed.resume(places).await
}

/// Flushes each shard of a batch; returns those whose checkpoint was somebody else's.
fn apply(model: &ReadModel, revisions: &mut BTreeMap<Shard, u64>, batch: &feed::Batch) -> Vec<Shard> {
    let mut by_shard: BTreeMap<Shard, (Vec<Arc<Envelope>>, Option<Position>)> = BTreeMap::new();
    for event in &batch.events {
        by_shard.entry(event.shard).or_default().0.push(event.clone());
    }
    for (shard, position) in &batch.scanned_to {
        by_shard.entry(*shard).or_default().1 = Some(*position);
    }
    let mut lost = Vec::new();
    for (shard, (events, scanned_to)) in by_shard {
        let mine = revisions.get_mut(&shard).expect("events come only of resumed shards");
        match model.flush(shard, *mine, &events, scanned_to) {
            Some(revision) => *mine = revision,
            None => lost.push(shard),
        }
    }
    lost
}

fn store(pool: &PgPool) -> Source {
    Source::Store(StoreTail::start(pool.clone(), WindowLimits::default()))
}

async fn start_relay(bus: &KafkaSettings, pool: &PgPool) -> CancellationToken {
    topics::apply(bus).await.unwrap();
    let shutdown = CancellationToken::new();
    tokio::spawn(relay::run(bus.clone(), pool.clone(), shutdown.clone()));
    shutdown
}

/// Every session but this one: locks, listeners, pools.
async fn end_sessions(pool: &PgPool) {
    const SQL: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
        where datname = current_database() and pid <> pg_backend_pid()";
    sqlx::query(SQL).execute(pool).await.unwrap();
}

fn all() -> Vec<Shard> {
    Topics::PortfolioAndMarket.shards()
}

const SHARDS: [i16; 6] = [0, 1, 7, 16, 31, 32];

/// Appends for a while, from nowhere in particular.
async fn trickle(pool: &PgPool, rounds: usize) -> i64 {
    let mut head = Position(0);
    for _ in 0..rounds {
        head = append(pool, &SHARDS, 60).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    head.0
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_feed_gives_every_event_once_and_in_order() {
    let database = database().await;
    append(&database.pool, &SHARDS, 1_000).await;
    let source = store(&database.pool);
    let (group, alone, market) = (ReadModel::default(), ReadModel::default(), ReadModel::default());
    let consumers = [
        Consumer::start(&source, "group", Topics::PortfolioAndMarket, Mode::Group, &group).await,
        Consumer::start(&source, "alone", Topics::PortfolioAndMarket, Mode::Manual, &alone).await,
        Consumer::start(&source, "market", Topics::Market, Mode::Manual, &market).await,
    ];
    let head = Position(trickle(&database.pool, 30).await);
    for (model, shards) in [(&group, all()), (&alone, all()), (&market, Topics::Market.shards())] {
        until("the head", PATIENCE, || async { model.scanned_to(&shards) == head }).await;
        model.assert_complete(&database.pool, &shards).await;
    }
    for consumer in consumers {
        consumer.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_falls_behind_the_window_reads_the_store() {
    let database = database().await;
    let tiny = WindowLimits { events_max: 50, bytes_max: 1 << 20 };
    let source = Source::Store(StoreTail::start(database.pool.clone(), tiny));
    let model = ReadModel::default();
    let consumer = Consumer::start(&source, "behind", Topics::PortfolioAndMarket, Mode::Manual, &model).await;
    for _ in 0..10 {
        append(&database.pool, &SHARDS, 2_000).await;
    }
    until("everything", PATIENCE, || async { model.count() == 20_000 }).await;
    model.assert_complete(&database.pool, &all()).await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_one_process_reads_and_another_takes_over() {
    let database = database().await;
    let (first, second) = (store(&database.pool), store(&database.pool));
    let model = ReadModel::default();
    let one = Consumer::start(&first, "shared", Topics::Portfolio, Mode::Group, &model).await;
    append(&database.pool, &[0, 1], 200).await;
    until("the first", PATIENCE, || async { model.count() == 200 }).await;
    let two = Consumer::start(&second, "shared", Topics::Portfolio, Mode::Group, &model).await;
    append(&database.pool, &[0, 1], 200).await;
    until("still the first", PATIENCE, || async { model.count() == 400 }).await;
    one.kill().await;
    append(&database.pool, &[0, 1], 200).await;
    until("the second", Duration::from_secs(3), || async { model.count() == 600 }).await;
    two.stop().await;
    model.assert_complete(&database.pool, &Topics::Portfolio.shards()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lock_is_taken_again() {
    let database = database().await;
    let source = store(&database.pool);
    let model = ReadModel::default();
    let consumer = Consumer::start(&source, "robbed", Topics::Portfolio, Mode::Group, &model).await;
    append(&database.pool, &[0, 1], 100).await;
    until("before", PATIENCE, || async { model.count() == 100 }).await;
    end_sessions(&database.pool).await;
    append(&database.pool, &[0, 1], 100).await;
    until("after", PATIENCE, || async { model.count() == 200 }).await;
    model.assert_complete(&database.pool, &Topics::Portfolio.shards()).await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_log_ends_every_feed() {
    let (database, bus) = (database().await, bus());
    let relay = start_relay(&bus, &database.pool).await;
    let pool = &database.pool;
    append(pool, &[0, 1], 100).await;
    let mut consumers = Vec::new();
    for (name, source) in [("store", store(pool)), ("kafka", Source::Kafka(bus.clone(), pool.clone()))] {
        let model = ReadModel::default();
        let consumer = Consumer::start(&source, name, Topics::Portfolio, Mode::Manual, &model).await;
        until("the first history", PATIENCE, || async { model.count() == 100 }).await;
        consumers.push(consumer);
    }
    relay.cancel();
    forget_from(pool, 51).await;
    begin_epoch(pool, 2).await;
    end_sessions(pool).await;
    append(pool, &[0, 1], 100).await;
    for consumer in consumers {
        let ended = tokio::time::timeout(PATIENCE, consumer.task).await.expect("in time").unwrap();
        assert!(matches!(ended, Err(feed::Error::Fork(_))), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_grows_and_shrinks_loses_and_doubles_nothing() {
    let (database, bus) = (database().await, bus());
    let relay = start_relay(&bus, &database.pool).await;
    let source = Source::Kafka(bus.clone(), database.pool.clone());
    let model = ReadModel::default();
    let appending = tokio::spawn({
        let pool = database.pool.clone();
        async move { trickle(&pool, 250).await }
    });
    let start = || Consumer::start(&source, "group", Topics::PortfolioAndMarket, Mode::Group, &model);
    let one = start().await;
    until("the first", PATIENCE, || async { model.count() > 500 }).await;
    let (two, three) = (start().await, start().await);
    tokio::time::sleep(Duration::from_secs(3)).await;
    one.stop().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    two.kill().await;
    let head = Position(appending.await.unwrap());
    until("the head", PATIENCE, || async { model.scanned_to(&all()) == head }).await;
    model.assert_complete(&database.pool, &all()).await;
    three.stop().await;
    relay.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_bus_costs_a_second() {
    let (database, bus) = (database().await, bus());
    topics::apply(&bus).await.unwrap();
    let source = Source::Kafka(bus, database.pool.clone());
    let model = ReadModel::default();
    let consumer = Consumer::start(&source, "silent", Topics::Portfolio, Mode::Group, &model).await;
    append(&database.pool, &[0, 1], 100).await;
    until("the first events", PATIENCE, || async { model.count() == 100 }).await;
    let head = append(&database.pool, &[0, 1], 100).await;
    let shards = Topics::Portfolio.shards();
    until("the head", Duration::from_secs(3), || async { model.scanned_to(&shards) == head }).await;
    model.assert_complete(&database.pool, &shards).await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_full_of_rubbish_changes_nothing() {
    let (database, bus) = (database().await, bus());
    topics::apply(&bus).await.unwrap();
    append(&database.pool, &[3], 5).await;
    begin_epoch(&database.pool, 2).await;
    append(&database.pool, &[3], 45).await;
    let source = Source::Kafka(bus.clone(), database.pool.clone());
    let model = ReadModel::default();
    let consumer = Consumer::start(&source, "rubbish", Topics::Portfolio, Mode::Manual, &model).await;
    until("the first events", PATIENCE, || async { model.count() == 50 }).await;

    append(&database.pool, &[3], 50).await;
    let stored = of_shard(&database.pool, Shard(3)).await;
    let producer = Producer::open(&bus).unwrap();
    let send = |i: usize, change: &dyn Fn(&mut Envelope)| {
        let mut event = stored[i].clone();
        change(&mut event);
        let previous = (i > 0).then(|| (stored[i - 1].position, stored[i - 1].event_id));
        assert!(matches!(producer.send(&event, previous), Handed::Over));
    };
    // Out of order, twice, with gaps, of a dead epoch, and beyond the head in this one.
    for i in [70, 3, 60, 60, 51, 52, 99, 10, 98, 50] {
        send(i, &|_| {});
        send(i, &|event| event.epoch = Epoch(1));
    }
    send(99, &|event| event.position = Position(200));
    until("all events", PATIENCE, || async { model.count() == 100 }).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    model.assert_complete(&database.pool, &[Shard(3)]).await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_committed_as_a_hint() {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let (database, bus) = (database().await, bus());
    let relay = start_relay(&bus, &database.pool).await;
    let source = Source::Kafka(bus.clone(), database.pool.clone());
    let model = ReadModel::default();
    let consumer = Consumer::start(&source, "hint", Topics::Market, Mode::Group, &model).await;
    append(&database.pool, &[32], 1).await;
    until("the first event", PATIENCE, || async { model.count() == 1 }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..20 {
        append(&database.pool, &[32], 5).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until("all events", PATIENCE, || async { model.count() == 101 }).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    consumer.stop().await;
    relay.cancel();
    let group = format!("{}hint", bus.prefix);
    let asked: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &*bus.brokers)
        .set("group.id", &group)
        .create()
        .unwrap();
    let topic = bus.topic_of(Shard(32)).unwrap();
    let committed = tokio::task::spawn_blocking(move || {
        let mut partitions = rdkafka::TopicPartitionList::new();
        partitions.add_partition(&topic, 0);
        asked.committed_offsets(partitions, Duration::from_secs(10)).unwrap()
    });
    let committed = committed.await.unwrap();
    assert_eq!(committed.elements()[0].offset(), rdkafka::Offset::Offset(101));
}

/// What a restore leaves in the topic: an event that continues the chain and is not in the store.
async fn send_of_another_history(bus: &KafkaSettings, pool: &PgPool, shard: Shard, epoch: Epoch) {
    let last = of_shard(pool, shard).await.pop().unwrap();
    let mut lost = last.clone();
    lost.epoch = epoch;
    lost.position = Position(read::head(pool).await.unwrap().0 + 1);
    lost.event_id.ordinal += 1;
    let mut producer = Producer::open(bus).unwrap();
    assert!(matches!(producer.send(&lost, Some((last.position, last.event_id))), Handed::Over));
    assert!(producer.delivery().await.outcome.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_does_not_have_is_never_applied() {
    let (database, bus) = (database().await, bus());
    let pool = &database.pool;
    topics::apply(&bus).await.unwrap();
    append(pool, &[0, 3], 40).await;
    let source = Source::Kafka(bus.clone(), pool.clone());
    let model = ReadModel::default();
    let consumer = Consumer::start(&source, "restored", Topics::Portfolio, Mode::Manual, &model).await;
    until("the first events", PATIENCE, || async { model.count() == 40 }).await;
    send_of_another_history(&bus, pool, Shard(3), Epoch(1)).await;
    let ended = tokio::time::timeout(PATIENCE, consumer.task).await.expect("in time").unwrap();
    let Err(feed::Error::Fork(reason)) = ended else { panic!("{ended:?}") };
    assert!(reason.contains("Kafka has another history"), "{reason}");
    model.assert_complete(pool, &Topics::Portfolio.shards()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_epoch_left_is_dropped_and_the_reader_goes_on() {
    let (database, bus) = (database().await, bus());
    let pool = &database.pool;
    topics::apply(&bus).await.unwrap();
    append(pool, &[0, 3], 40).await;
    let source = Source::Kafka(bus.clone(), pool.clone());
    let model = ReadModel::default();
    let consumer = Consumer::start(&source, "restored", Topics::Portfolio, Mode::Manual, &model).await;
    until("the first events", PATIENCE, || async { model.count() == 40 }).await;
    begin_epoch(pool, 2).await;
    send_of_another_history(&bus, pool, Shard(3), Epoch(1)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    append(pool, &[0, 3], 40).await;
    until("the new epoch", PATIENCE, || async { model.count() == 80 }).await;
    model.assert_complete(pool, &Topics::Portfolio.shards()).await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_with_its_checkpoints_a_reader_still_knows_what_it_has_read() {
    let (database, bus) = (database().await, bus());
    let pool = &database.pool;
    topics::apply(&bus).await.unwrap();
    append(pool, &[0, 3], 40).await;
    let source = Source::Kafka(bus.clone(), pool.clone());
    let subscription = Subscription {
        name: "knows".into(),
        topics: Topics::Portfolio,
        mode: Mode::Manual,
        batch_events_max: 500,
    };
    let mut feed = Feed::open(&source, subscription).await.unwrap();
    let mut read = 0;
    let origin =
        |shards: Vec<Shard>| shards.into_iter().map(|shard| (shard, Place::origin(Epoch(1)))).collect();
    while read < 40 {
        match feed.next().await.unwrap() {
            FeedItem::Assigned(shards) => feed.resume(origin(shards)).await.unwrap(),
            FeedItem::Revoked(_) => {}
            FeedItem::Batch(batch) => read += batch.events.len(),
        }
    }
    forget_from(pool, 31).await;
    // As after a flush that finds the checkpoints of the backup: the places say nothing of another history.
    feed.resume(origin(Topics::Portfolio.shards())).await.unwrap();
    let ended = async {
        loop {
            if let Err(error) = feed.next().await {
                return error;
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("in time");
    assert!(matches!(ended, feed::Error::Fork(_)), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_a_reader_of_its_own_has_the_store_and_a_group_waits() {
    let database = database().await;
    let nowhere = KafkaSettings { brokers: "127.0.0.1:1".into(), ..bus() };
    let source = Source::Kafka(nowhere, database.pool.clone());
    append(&database.pool, &[0, 32], 40).await;
    let (alone, shared) = (ReadModel::default(), ReadModel::default());
    let follower = Consumer::start(&source, "alone", Topics::PortfolioAndMarket, Mode::Manual, &alone).await;
    let member = Consumer::start(&source, "shared", Topics::PortfolioAndMarket, Mode::Group, &shared).await;
    until("what was there", PATIENCE, || async { alone.count() == 40 }).await;
    let head = append(&database.pool, &[0, 32], 40).await;
    until("the head", Duration::from_secs(5), || async { alone.scanned_to(&all()) == head }).await;
    alone.assert_complete(&database.pool, &all()).await;
    assert_eq!(shared.count(), 0, "nobody has said whose the shards are");
    follower.stop().await;
    member.stop().await;
}
