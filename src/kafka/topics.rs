//! The topics, as `kafka/topics.toml` declares them: which shard is which partition, and making it so.
//!
//! A partition is a shard for ever. So a topic with another number of partitions is refused rather than repaired: the way
//! out is a new topic, which the relay fills from the log.

use std::sync::LazyLock;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use serde::Deserialize;

use super::{Error, KafkaSettings};
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

    fn retention_ms(&self) -> String {
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

/// What there is of a declared topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name on the broker.
    pub name: String,
    /// As declared.
    pub declared: &'static Topic,
    /// How many partitions there are; none if the topic is missing.
    pub partitions: Option<usize>,
}

/// Compares what there is with what is declared.
///
/// # Errors
/// Brokers that do not answer.
pub async fn describe(settings: &KafkaSettings) -> Result<Vec<Description>, Error> {
    let settings = settings.clone();
    let describing = tokio::task::spawn_blocking(move || describe_blocking(&settings));
    describing.await.expect("asking for metadata does not panic")
}

fn describe_blocking(settings: &KafkaSettings) -> Result<Vec<Description>, Error> {
    let client: BaseConsumer = settings.client().create().map_err(Error::Settings)?;
    let metadata = client
        .fetch_metadata(None, settings.request_timeout)
        .map_err(Error::request(format!("asking {} for its topics", settings.brokers)))?;
    let describe = |declared: &'static Topic| {
        let name = settings.topic_name(declared);
        let found = metadata.topics().iter().find(|topic| topic.name() == name);
        let partitions = found.map(|topic| topic.partitions().len()).filter(|partitions| *partitions > 0);
        Description { name, declared, partitions }
    };
    Ok(declared().iter().map(describe).collect())
}

/// Creates the topics that are missing, sets what may change, and returns the names of those created.
///
/// # Errors
/// A number of partitions that differs, a broker that refuses or does not answer.
pub async fn apply(settings: &KafkaSettings) -> Result<Vec<String>, Error> {
    let described = describe(settings).await?;
    for Description { name, declared, partitions } in &described {
        let declared = usize::try_from(declared.partitions).expect("partitions are counted from one");
        if let Some(found) = partitions.filter(|found| *found != declared) {
            return Err(Error::Partitions { topic: name.clone(), found, declared });
        }
    }
    let (present, missing): (Vec<_>, Vec<_>) =
        described.into_iter().partition(|topic| topic.partitions.is_some());
    let admin: AdminClient<DefaultClientContext> = settings.client().create().map_err(Error::Settings)?;
    let options = AdminOptions::new()
        .request_timeout(Some(settings.request_timeout))
        .operation_timeout(Some(settings.request_timeout));
    set_retention(&admin, &options, &present).await?;
    create(&admin, &options, &missing).await
}

async fn create(
    admin: &AdminClient<DefaultClientContext>,
    options: &AdminOptions,
    missing: &[Description],
) -> Result<Vec<String>, Error> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let retentions: Vec<_> = missing.iter().map(|topic| topic.declared.retention_ms()).collect();
    let new = missing.iter().zip(&retentions).map(|(topic, retention_ms)| {
        // As many copies as the brokers' own default says.
        let replication = TopicReplication::Fixed(-1);
        NewTopic::new(&topic.name, i32::from(topic.declared.partitions), replication)
            .set("cleanup.policy", "delete")
            .set("retention.ms", retention_ms)
    });
    let new: Vec<_> = new.collect();
    let answers = admin.create_topics(&new, options).await.map_err(Error::request("creating topics"))?;
    let mut created = Vec::new();
    for answer in answers {
        match answer {
            Ok(name) => created.push(name),
            // Somebody else was quicker.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(Error::Topic { topic, reason: code.to_string() }),
        }
    }
    Ok(created)
}

/// Sets the retention where it differs. The request replaces all settings of a topic, so the others are sent with it.
async fn set_retention(
    admin: &AdminClient<DefaultClientContext>,
    options: &AdminOptions,
    present: &[Description],
) -> Result<(), Error> {
    for topic in present {
        let resource = ResourceSpecifier::Topic(&topic.name);
        let what = || Error::request(format!("settings of topic {}", topic.name));
        let answers = admin.describe_configs([&resource], options).await.map_err(what())?;
        let Some(Ok(current)) = answers.into_iter().next() else { continue };
        let retention_ms = topic.declared.retention_ms();
        let wanted = [("retention.ms", retention_ms.as_str()), ("cleanup.policy", "delete")];
        let has = |(name, value)| current.get(name).and_then(|entry| entry.value.as_deref()) == Some(value);
        if wanted.into_iter().all(has) {
            continue;
        }
        let own = current.entries.iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
        let kept = own.filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)));
        let kept = kept.filter(|(name, _)| wanted.iter().all(|(wanted, _)| wanted != name));
        let change = wanted
            .into_iter()
            .chain(kept)
            .fold(AlterConfig::new(resource), |change, (name, value)| change.set(name, value));
        for answer in admin.alter_configs([&change], options).await.map_err(what())? {
            answer
                .map_err(|(_, code)| Error::Topic { topic: topic.name.clone(), reason: code.to_string() })?;
        }
    }
    Ok(())
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
