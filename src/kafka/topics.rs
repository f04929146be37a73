//! The topics, as `kafka/topics.toml` declares them: which shard is which partition.

use std::sync::LazyLock;

use serde::Deserialize;

use super::KafkaSettings;
pub use super::topic_admin::{Applied, Description, Difference, apply, describe, differences};
use crate::domain::ids::{SHARDS, Shard};

const DECLARED: &str = include_str!("../../kafka/topics.toml");

static TOPICS: LazyLock<Vec<Topic>> = LazyLock::new(|| {
    let file: File = toml::from_str(DECLARED).expect("kafka/topics.toml is tested");
    file.topics
});

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    topics: Vec<Topic>,
}

/// A topic as declared.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// Its name, without a prefix.
    pub name: String,
    /// What is in it, for people.
    pub holds: String,
    /// What the key of a record is.
    pub key: Key,
    /// How many partitions it has, for ever.
    pub partitions: i16,
    /// The shard of partition 0.
    pub first_shard: i16,
    /// How long records are kept.
    pub retention_days: u32,
}

/// What the key of a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// The stream of the event.
    StreamId,
}

impl Topic {
    fn holds_shard(&self, shard: Shard) -> bool {
        (self.first_shard..self.first_shard + self.partitions).contains(&shard.0)
    }

    /// The same as the broker wants it.
    pub(super) fn retention_ms(&self) -> String {
        (u64::from(self.retention_days) * 24 * 60 * 60 * 1_000).to_string()
    }
}

/// All topics of the installation, in order of their shards.
pub fn declared() -> &'static [Topic] {
    &TOPICS
}

/// Topic and partition of a shard; none for a number that is no shard.
pub fn partition_of(shard: Shard) -> Option<(&'static Topic, i32)> {
    let topic = declared().iter().find(|topic| topic.holds_shard(shard))?;
    Some((topic, i32::from(shard.0 - topic.first_shard)))
}

/// All shards, in order.
pub fn all_shards() -> impl Iterator<Item = Shard> {
    (0..SHARDS).map(Shard)
}

impl KafkaSettings {
    /// The name of a topic on the broker.
    pub(super) fn topic_name(&self, topic: &Topic) -> String {
        format!("{}{}", self.prefix, topic.name)
    }

    /// The name on the broker of the topic that holds a shard.
    pub fn topic_of(&self, shard: Shard) -> Option<String> {
        partition_of(shard).map(|(topic, _)| self.topic_name(topic))
    }

    /// The name of a group on the broker.
    pub(super) fn group_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The shard of a partition of a topic, by its name on the broker.
    pub(super) fn shard_of(&self, topic_name: &str, partition: i32) -> Option<Shard> {
        let name = topic_name.strip_prefix(&*self.prefix)?;
        let topic = declared().iter().find(|topic| topic.name == name)?;
        let partition = i16::try_from(partition).ok().filter(|p| (0..topic.partitions).contains(p))?;
        Some(Shard(topic.first_shard + partition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{MARKET_SHARD, PORTFOLIO_SHARDS};

    #[test]
    fn the_declaration_covers_every_shard_once() {
        for shard in all_shards() {
            let holders = declared().iter().filter(|topic| topic.holds_shard(shard)).count();
            assert_eq!(holders, 1, "shard {shard}");
        }
        let partitions: i16 = declared().iter().map(|topic| topic.partitions).sum();
        assert_eq!(partitions, SHARDS);
    }

    #[test]
    fn shards_are_where_the_domain_says() {
        let place = |shard| partition_of(shard).map(|(topic, partition)| (topic.name.as_str(), partition));
        assert_eq!(place(Shard(0)), Some(("portfolio.events.v1", 0)));
        assert_eq!(place(Shard(PORTFOLIO_SHARDS - 1)), Some(("portfolio.events.v1", 31)));
        assert_eq!(place(MARKET_SHARD), Some(("market.events.v1", 0)));
        assert_eq!(place(Shard(SHARDS - 1)), Some(("jobs.v1", 7)));
        assert_eq!(place(Shard(SHARDS)), None);
    }

    #[test]
    fn a_partition_gives_its_shard_back() {
        let settings = KafkaSettings { prefix: "test-1.".into(), ..KafkaSettings::new("nowhere:1") };
        for shard in all_shards() {
            let (topic, partition) = partition_of(shard).unwrap();
            assert_eq!(settings.shard_of(&settings.topic_name(topic), partition), Some(shard));
        }
        assert_eq!(settings.shard_of("portfolio.events.v1", 0), None, "somebody else's topic");
        assert_eq!(settings.shard_of("test-1.portfolio.events.v1", 32), None);
    }
}
