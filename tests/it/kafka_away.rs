//! The broker is away and comes back: commands never notice, read models go on from the store, and the topics are filled up.

use std::path::Path;
use std::time::{Duration, Instant};

use insight::domain::ids::Position;
use insight::event_store::read;
use insight::kafka::{KafkaSettings, scan, topics};
use insight::verify::verify;
use sqlx::PgPool;

use crate::environment;
use crate::kafka_log::{of_shard, until};
use crate::own_servers::{Ground, Kafka};
use crate::processes::{Process, answers, free_address};
use crate::read_models::reached;
use crate::trader::Trader;

/// How long the broker is away. Set for the long run by hand.
const AWAY: &str = "INSIGHT_TEST_BROKER_AWAY_SECONDS";
/// Longer than any command takes on a loaded machine, and far shorter than any time-out of a client of Kafka.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// Deposits for a while; the median and the longest answer.
async fn trade_for(trader: &Trader, how_long: Duration) -> (Duration, Duration) {
    let began = Instant::now();
    let mut took = Vec::new();
    while began.elapsed() < how_long {
        took.push(trader.deposit().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    took.sort();
    (took[took.len() / 2], took[took.len() - 1])
}

async fn topics_hold(bus: &KafkaSettings, head: Position) -> bool {
    let Ok(extents) = scan::extents(bus, topics::all_shards().collect()).await else { return false };
    extents.values().map(|extent| extent.end - extent.low).sum::<i64>() >= head.0
}

async fn assert_topics_equal_log(bus: &KafkaSettings, pool: &PgPool) {
    let extents = scan::extents(bus, topics::all_shards().collect()).await.unwrap();
    let mut scanning = scan::scan(bus, extents);
    let mut records = Vec::new();
    while let Some(some) = scanning.recv().await {
        records.extend(some.unwrap());
    }
    for shard in topics::all_shards() {
        let mut there: Vec<_> = records.iter().map(|record| &*record.event).collect();
        there.retain(|event| event.shard == shard);
        let mut seen = Position(0);
        there.retain(|event| {
            let is_first = event.position > seen;
            seen = seen.max(event.position);
            is_first
        });
        let stored = of_shard(pool, shard).await;
        assert_eq!(there, stored.iter().collect::<Vec<_>>(), "shard {shard}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_waited_for_and_commands_never_notice() {
    let (ground, database) = (Ground::new(), environment::database().await);
    let broker = Kafka::start(ground.folder("kafka"), None);
    let (url, address, brokers) = (database.url(), free_address(), broker.listener().to_string());
    let environment = [("DATABASE_URL", url.as_str()), ("KAFKA_BROKERS", &brokers), ("POOL_SIZE", "4")];
    let start = |name: &str, arguments: &[&str]| Process::start(ground.path(), name, arguments, &environment);
    assert!(start("topics", &["topics", "apply"]).finish());
    let mut roles = [
        start("api", &["api", "--listen-address", &address.to_string()]),
        start("relay", &["relay"]),
        start("models", &["project", "directory", "holdings", "prices", "activity", "valuations", "jobs"]),
        start("risk", &["risk"]),
    ];
    answers(address).await;
    let trader = Trader::start(address).await;
    let there = trade_for(&trader, Duration::from_secs(4)).await;
    let pool = &database.pool;
    reached(pool, read::head(pool).await.unwrap()).await;

    broker.stop();
    let seconds = std::env::var(AWAY).ok().map_or(20, |seconds| seconds.parse().unwrap());
    let away = trade_for(&trader, Duration::from_secs(seconds)).await;
    // More than the relay has on its way at a time.
    let posting = Instant::now();
    trader.post_prices(22_000).await;
    println!("22,000 events more took {:?}", posting.elapsed());
    println!("median and longest answer: with the broker {there:?}, without it for {seconds} s {away:?}");
    assert!(away.1 < ANSWERED_WITHIN, "{away:?}");
    // The store has it all, and is asked instead.
    let asked = Instant::now();
    let head = read::head(pool).await.unwrap();
    reached(pool, head).await;
    println!("without a broker the rows had everything {:?} later", asked.elapsed());

    broker.start_again();
    let bus = KafkaSettings::new(brokers.as_str());
    let back = Instant::now();
    until("the topics", Duration::from_secs(60), || topics_hold(&bus, head)).await;
    println!("the topics had everything {:?} after the broker was back", back.elapsed());
    trader.deposit().await;
    let head = read::head(pool).await.unwrap();
    reached(pool, head).await;
    until("the topics", Duration::from_secs(60), || topics_hold(&bus, head)).await;
    roles.iter_mut().for_each(Process::stop);
    assert_topics_equal_log(&bus, pool).await;
    let report = verify(pool).await.unwrap();
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_not_as_declared_are_named_and_made_so_where_that_is_possible() {
    use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
    let (brokers, prefix) = (environment::kafka_brokers(), environment::topic_prefix());
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_insight"))
            .args(arguments)
            .current_dir(Path::new("/"))
            .envs([("KAFKA_BROKERS", &brokers), ("KAFKA_TOPIC_PREFIX", &prefix)])
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let (well, said) = run(&["topics", "show"]);
    assert!(!well && said.contains("portfolio.events.v1: missing partitions, 32 declared"), "{said}");
    let (well, said) = run(&["topics", "apply"]);
    assert!(well && said.contains("created "), "{said}");
    let (well, said) = run(&["topics", "apply"]);
    assert!(well && said.contains("nothing to do"), "{said}");

    let admin: AdminClient<_> =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let name = format!("{prefix}market.events.v1");
    let setting = async |setting: &str| {
        let asked = [ResourceSpecifier::Topic(&name)];
        let found = admin.describe_configs(&asked, &AdminOptions::new()).await.unwrap();
        let found = found.into_iter().next().unwrap().unwrap();
        found.get(setting).unwrap().value.clone().unwrap()
    };
    assert_eq!(setting("max.message.bytes").await, "524288", "a new topic is as declared in every setting");
    let change = AlterConfig::new(ResourceSpecifier::Topic(&name))
        .set("retention.ms", "1000")
        .set("max.message.bytes", "2000")
        .set("segment.ms", "123456789");
    admin.alter_configs([&change], &AdminOptions::new()).await.unwrap();
    // A broker tells of a change a moment after it has taken it.
    let shows = |text: &str| {
        let began = Instant::now();
        loop {
            let (well, said) = run(&["topics", "show"]);
            if said.contains(text) || began.elapsed() > Duration::from_secs(20) {
                return (well, said);
            }
        }
    };
    let (well, said) = shows("  retention.ms is 1000, 604800000 is wanted");
    assert!(!well && said.contains("  retention.ms is 1000, 604800000 is wanted"), "{said}");
    assert!(said.contains("  max.message.bytes is 2000, 524288 is wanted"), "{said}");
    let (well, said) = run(&["topics", "apply"]);
    assert!(well && said.contains(&format!("set retention.ms of {name} to 604800000")), "{said}");
    let (well, said) = run(&["topics", "show"]);
    assert!(well, "{said}");
    assert_eq!(setting("segment.ms").await, "123456789", "a setting that is not ours");

    admin.create_partitions([&NewPartitions::new(&name, 2)], &AdminOptions::new()).await.unwrap();
    let (well, said) = shows("market.events.v1: 2 partitions, 1 declared");
    assert!(!well && said.contains("market.events.v1: 2 partitions, 1 declared"), "{said}");
    let (well, said) = run(&["topics", "apply"]);
    assert!(
        !well && said.contains("has 2 partitions and must have 1: a partition is a shard for ever"),
        "{said}"
    );
}
