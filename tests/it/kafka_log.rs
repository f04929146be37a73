//! A log to read, for the tests of feed and relay: events written straight into the table, many at a time.

use std::time::{Duration, Instant};

use insight::domain::ids::{Position, Shard};
use insight::event_store::read;
use insight::events::Envelope;
use insight::kafka::{KafkaSettings, topics};
use rdkafka::admin::{AdminClient, AdminOptions};
use sqlx::{AssertSqlSafe, PgPool};

use crate::environment::{self, TestDatabase};

/// A database with the schema of the log.
pub async fn database() -> TestDatabase {
    let database = environment::database().await;
    insight::event_store::schema::apply(&database.pool).await.unwrap();
    database
}

/// The broker of the run, with topics of this test's own.
pub fn bus() -> KafkaSettings {
    KafkaSettings {
        prefix: environment::topic_prefix().into(),
        session_timeout: Duration::from_secs(3),
        ..KafkaSettings::new(environment::kafka_brokers())
    }
}

/// Appends this many events, dealt out to the shards in turn, and notifies. Returns the head.
pub async fn append(pool: &PgPool, shards: &[i16], count: i64) -> Position {
    const SQL: &str = "\
        with head as (select coalesce(max(position), 0) as position from events), written as ( \
            insert into events (position, command_id, ordinal, stream_id, version, shard, event_type, schema_version, \
                request_hash, correlation_id, occurred_at, recorded_at, payload, metadata) \
            select head.position + i, gen_random_uuid(), 0, 'shard-' || dealt.shard, head.position + i, dealt.shard, \
                'CashDeposited', 1, sha256(i::text::bytea), gen_random_uuid(), clock_timestamp(), clock_timestamp(), \
                json_build_object('i', i, 'text', repeat('x', 200)), '{\"actor\":\"test\"}' \
            from head, generate_series(1, $2) as i, \
                lateral (select ($1::smallint[])[1 + (i % cardinality($1))] as shard) as dealt \
            returning position) \
        select max(position), pg_notify('insight_head', max(position)::text)::text from written";
    let (head, _): (i64, String) =
        sqlx::query_as(SQL).bind(shards).bind(count).fetch_one(pool).await.unwrap();
    Position(head)
}

/// Appends one event that no topic takes; the store itself would never let it in.
pub async fn append_huge(pool: &PgPool) {
    const SQL: &str = "\
        insert into events (position, command_id, ordinal, stream_id, version, shard, event_type, schema_version, \
            request_hash, correlation_id, occurred_at, recorded_at, payload, metadata) \
        select position + 1, gen_random_uuid(), 0, stream_id, version + 1, shard, event_type, schema_version, \
            request_hash, gen_random_uuid(), occurred_at, recorded_at, \
            json_build_object('text', repeat('x', 2000000)), metadata \
        from events order by position desc limit 1";
    // The log refuses it by itself; a broker may have a smaller limit.
    for statement in ["alter table events drop constraint events_size", SQL] {
        sqlx::query(statement).execute(pool).await.unwrap();
    }
}

/// Deletes the topic of a shard.
pub async fn delete_topic(settings: &KafkaSettings, shard: Shard) {
    let admin: AdminClient<_> =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &*settings.brokers).create().unwrap();
    let name = settings.topic_of(shard).unwrap();
    admin.delete_topics(&[&name], &AdminOptions::new()).await.unwrap();
}

/// The same, and waits until it is gone.
pub async fn delete_whole_topic(settings: &KafkaSettings, shard: Shard) {
    delete_topic(settings, shard).await;
    let name = settings.topic_of(shard).unwrap();
    until("the topic to be gone", Duration::from_secs(30), || async {
        let described = topics::describe(settings).await.unwrap();
        described.iter().any(|topic| topic.name == name && topic.partitions.is_none())
    })
    .await;
}

/// What a restore does: another history from `first` on.
pub async fn forget_from(pool: &PgPool, first: i64) {
    for statement in [
        "alter table events disable trigger events_immutable".to_owned(),
        format!("delete from events where position >= {first}"),
        "alter table events enable trigger events_immutable".to_owned(),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(pool).await.unwrap();
    }
}

/// What `insight epoch new` does.
pub async fn begin_epoch(pool: &PgPool, epoch: i32) {
    const SQL: &str = "insert into log_epochs (epoch, first_position, reason) \
        select $1, coalesce(max(position), 0) + 1, 'test' from events";
    sqlx::query(SQL).bind(epoch).execute(pool).await.unwrap();
}

/// Every event of a shard.
pub async fn of_shard(pool: &PgPool, shard: Shard) -> Vec<Envelope> {
    read::shard_after(pool, shard, Position(0), i64::MAX).await.unwrap().events
}

/// Asks until the answer is yes.
pub async fn until<F: Future<Output = bool>>(what: &str, within: Duration, ask: impl Fn() -> F) {
    let began = Instant::now();
    while !ask().await {
        assert!(began.elapsed() < within, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
