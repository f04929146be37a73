//! Comparing the topics on the broker with what is declared, and making it so.
//!
//! A partition is a shard for ever. So a topic with another number of partitions is refused rather than repaired: the way
//! out is a new topic, which the relay fills from the log. Settings may change, and are set; those that are not ours are
//! left as they are.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::topics::{Topic, declared};
use super::{Error, KafkaSettings};

/// What a record may need: an event of 256 KiB with its headers, and room.
const MESSAGE_BYTES_MIN: &str = "524288";

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

impl Description {
    /// How many partitions it must have.
    pub fn wanted(&self) -> usize {
        usize::try_from(self.declared.partitions).expect("partitions are counted from one")
    }

    /// Why it cannot be made as declared, if it cannot.
    fn refusal(&self) -> Option<Error> {
        let (topic, declared) = (self.name.clone(), self.wanted());
        let found = self.partitions.filter(|found| *found != declared)?;
        Some(Error::Partitions { topic, found, declared })
    }
}

/// A setting of a topic that is not as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The broker's name for it.
    pub setting: &'static str,
    /// What it is; none if the broker does not say.
    pub found: Option<String>,
    /// What it is to be.
    pub wanted: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found.as_deref().unwrap_or("not set");
        write!(f, "{} is {found}, {} is wanted", self.setting, self.wanted)
    }
}

/// What [`apply`] has done.
#[derive(Debug, Default)]
pub struct Applied {
    /// Topics that were missing.
    pub created: Vec<String>,
    /// Topics with settings that were not as declared, and what these were.
    pub changed: BTreeMap<String, Vec<Difference>>,
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

/// The settings of the topics that exist, as far as they are not as declared.
///
/// # Errors
/// Brokers that do not answer, or refuse.
pub async fn differences(
    settings: &KafkaSettings,
    described: &[Description],
) -> Result<BTreeMap<String, Vec<Difference>>, Error> {
    let admin = Admin::open(settings)?;
    let mut all = BTreeMap::new();
    for topic in described.iter().filter(|topic| topic.partitions.is_some()) {
        let different = compare(topic.declared, &admin.settings_of(&topic.name).await?);
        if !different.is_empty() {
            all.insert(topic.name.clone(), different);
        }
    }
    Ok(all)
}

/// Creates the topics that are missing, and sets what is not as declared.
///
/// # Errors
/// A number of partitions that differs, a broker that refuses or does not answer.
pub async fn apply(settings: &KafkaSettings) -> Result<Applied, Error> {
    let described = describe(settings).await?;
    if let Some(refusal) = described.iter().find_map(Description::refusal) {
        return Err(refusal);
    }
    let admin = Admin::open(settings)?;
    let (present, missing): (Vec<_>, Vec<_>) =
        described.into_iter().partition(|topic| topic.partitions.is_some());
    let mut applied = Applied::default();
    for topic in present {
        let current = admin.settings_of(&topic.name).await?;
        let different = compare(topic.declared, &current);
        if !different.is_empty() {
            admin.set(&topic.name, &current, &different).await?;
            applied.changed.insert(topic.name, different);
        }
    }
    applied.created = admin.create(&missing).await?;
    Ok(applied)
}

/// What a topic's settings are to be.
fn wanted(topic: &Topic) -> [(&'static str, String); 3] {
    [
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", topic.retention_ms()),
        ("max.message.bytes", MESSAGE_BYTES_MIN.to_owned()),
    ]
}

fn compare(topic: &Topic, current: &ConfigResource) -> Vec<Difference> {
    let differences = wanted(topic).into_iter().filter_map(|(setting, wanted)| {
        let found = current.get(setting).and_then(|entry| entry.value.clone());
        let fits = found.as_ref().is_some_and(|found| fits(setting, found, &wanted));
        (!fits).then_some(Difference { setting, found, wanted })
    });
    differences.collect()
}

/// A topic may take larger records than ours.
fn fits(setting: &str, found: &str, wanted: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    found == wanted || (setting == "max.message.bytes" && number(found) > number(wanted))
}

/// A client that may change topics.
struct Admin {
    client: AdminClient<DefaultClientContext>,
    options: AdminOptions,
}

impl Admin {
    fn open(settings: &KafkaSettings) -> Result<Self, Error> {
        let client = settings.client().create().map_err(Error::Settings)?;
        let options = AdminOptions::new()
            .request_timeout(Some(settings.request_timeout))
            .operation_timeout(Some(settings.request_timeout));
        Ok(Self { client, options })
    }

    async fn settings_of(&self, name: &str) -> Result<ConfigResource, Error> {
        let resource = ResourceSpecifier::Topic(name);
        let answers = self.client.describe_configs([&resource], &self.options).await;
        let answers = answers.map_err(Error::request(format!("settings of topic {name}")))?;
        // A broker that says nothing about it has answered in part.
        let answer = answers.into_iter().next().unwrap_or(Err(RDKafkaErrorCode::Partial));
        answer.map_err(|code| Error::Topic { topic: name.to_owned(), code })
    }

    /// The request replaces all settings of a topic, so its own others are sent with it.
    async fn set(&self, name: &str, current: &ConfigResource, different: &[Difference]) -> Result<(), Error> {
        let own = current.entries.iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
        let kept = own.filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)));
        let kept = kept.filter(|(name, _)| different.iter().all(|it| it.setting != *name));
        let changed = different.iter().map(|it| (it.setting, it.wanted.as_str()));
        let change = AlterConfig::new(ResourceSpecifier::Topic(name));
        let change = kept.chain(changed).fold(change, |change, (name, value)| change.set(name, value));
        let answers = self.client.alter_configs([&change], &self.options).await;
        for answer in answers.map_err(Error::request(format!("settings of topic {name}")))? {
            answer.map_err(|(_, code)| Error::Topic { topic: name.to_owned(), code })?;
        }
        Ok(())
    }

    async fn create(&self, missing: &[Description]) -> Result<Vec<String>, Error> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let settings: Vec<_> = missing.iter().map(|topic| wanted(topic.declared)).collect();
        let new = missing.iter().zip(&settings).map(|(topic, settings)| {
            // As many copies as the brokers' own default says.
            let replication = TopicReplication::Fixed(-1);
            let new = NewTopic::new(&topic.name, i32::from(topic.declared.partitions), replication);
            settings.iter().fold(new, |new, (setting, value)| new.set(setting, value))
        });
        let new: Vec<_> = new.collect();
        let answers = self.client.create_topics(&new, &self.options).await;
        let mut created = Vec::new();
        for answer in answers.map_err(Error::request("creating topics"))? {
            match answer {
                Ok(name) => created.push(name),
                // Somebody else was quicker.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(Error::Topic { topic, code }),
            }
        }
        Ok(created)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_fits_when_it_is_the_one_or_room_enough() {
        assert!(fits("retention.ms", "604800000", "604800000"));
        assert!(!fits("retention.ms", "604800001", "604800000"));
        assert!(fits("max.message.bytes", "1048588", MESSAGE_BYTES_MIN));
        assert!(!fits("max.message.bytes", "1000", MESSAGE_BYTES_MIN));
    }
}
