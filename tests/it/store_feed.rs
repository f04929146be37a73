//! The feed straight from the store, where its reader does not wait for it.

use std::time::Duration;

use insight::domain::ids::Epoch;
use insight::event_store::Place;
use insight::feed::{Feed, FeedItem, Mode, Source, StoreTail, Subscription, Topics, WindowLimits};

use crate::kafka_log::{append, database};

const TURNS_AWAY: usize = 10;
const EVENTS: i64 = 30;

/// A projector asks for what comes next while it writes a batch, and stops waiting whenever the batch is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_is_not_waited_for_is_under_way_once() {
    let database = database().await;
    append(&database.pool, &[0, 1, 32], EVENTS).await;
    let tail = StoreTail::start(database.pool.clone(), WindowLimits::default());
    let subscription = Subscription {
        name: "impatient".into(),
        topics: Topics::PortfolioAndMarket,
        mode: Mode::Manual,
        batch_events_max: 500,
    };
    let mut feed = Feed::open(&Source::Store(tail), subscription).await.unwrap();
    let FeedItem::Assigned(shards) = feed.next().await.unwrap() else { panic!("it begins with its shards") };

    // Every statement about events waits from here on.
    let mut locked = database.pool.begin().await.unwrap();
    sqlx::query("lock table events in access exclusive mode").execute(&mut *locked).await.unwrap();
    let places = shards.into_iter().map(|shard| (shard, Place::origin(Epoch(1))));
    feed.resume(places.collect()).await.unwrap();
    for _ in 0..TURNS_AWAY {
        let said = tokio::time::timeout(Duration::from_millis(100), feed.next()).await;
        assert!(said.is_err(), "nothing can be read: {said:?}");
    }
    let waiting: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    )
    .fetch_one(&mut *locked)
    .await
    .unwrap();
    // The other one is the tail's.
    assert!((1..=2).contains(&waiting), "{waiting} statements wait");
    locked.rollback().await.unwrap();

    let mut positions = Vec::new();
    while (positions.len() as i64) < EVENTS {
        if let FeedItem::Batch(batch) = feed.next().await.unwrap() {
            positions.extend(batch.events.iter().map(|event| event.position.0));
        }
    }
    positions.sort_unstable();
    positions.dedup();
    assert_eq!(positions.len() as i64, EVENTS, "each came once");
}
