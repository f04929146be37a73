//! Reading a known stretch of some partitions once: for the relay's walk at its start, and for comparing a topic with the log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::headers::{self, Record};
use super::{Error, KafkaSettings, topics};
use crate::domain::ids::Shard;

/// How long nothing may come although there is more.
const STALLED_AFTER: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
const RECORDS_MAX: usize = 1_000;

/// The offsets a partition holds: from `low`, up to but without `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first one.
    pub low: i64,
    /// One after the last one.
    pub end: i64,
}

/// Asks what the partitions of these shards hold.
///
/// # Errors
/// Brokers that do not answer, topics that do not exist.
pub async fn extents(settings: &KafkaSettings, shards: Vec<Shard>) -> Result<BTreeMap<Shard, Extent>, Error> {
    let settings = settings.clone();
    let asking = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = settings.client().create().map_err(Error::Settings)?;
        let mut extents = BTreeMap::new();
        for shard in shards {
            let Some((topic, partition)) = topics::partition_of(shard) else { continue };
            let name = settings.topic_name(topic);
            let (low, end) = client
                .fetch_watermarks(&name, partition, settings.request_timeout)
                .map_err(Error::request(format!("asking for the offsets of {name}/{partition}")))?;
            extents.insert(shard, Extent { low, end });
        }
        Ok(extents)
    });
    asking.await.expect("asking for offsets does not panic")
}

/// Reads these extents; records of a shard come in order, those that are not ours are left out. The channel ends when
/// everything was read, or with the error that was in the way.
pub fn scan(
    settings: &KafkaSettings,
    extents: BTreeMap<Shard, Extent>,
) -> mpsc::Receiver<Result<Vec<Record>, Error>> {
    let (sender, receiver) = mpsc::channel(4);
    let settings = settings.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read(&settings, extents, &sender) {
            // Nobody may be listening any more.
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

fn read(
    settings: &KafkaSettings,
    mut open: BTreeMap<Shard, Extent>,
    sender: &mpsc::Sender<Result<Vec<Record>, Error>>,
) -> Result<(), Error> {
    open.retain(|_, extent| extent.low < extent.end);
    if open.is_empty() {
        return Ok(());
    }
    let client = assigned(settings, &open)?;
    let mut moved = Instant::now();
    while !open.is_empty() {
        let records = poll(settings, &client, &mut open)?;
        if records.is_empty() {
            if moved.elapsed() >= STALLED_AFTER {
                return Err(Error::Stalled(STALLED_AFTER));
            }
            if sender.is_closed() {
                return Ok(());
            }
            continue;
        }
        moved = Instant::now();
        if sender.blocking_send(Ok(records)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn assigned(settings: &KafkaSettings, extents: &BTreeMap<Shard, Extent>) -> Result<BaseConsumer, Error> {
    let what = || Error::request("assigning partitions");
    let mut config = settings.client();
    config
        .set("group.id", settings.group_name("alone"))
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50");
    let client: BaseConsumer = config.create().map_err(Error::Settings)?;
    let mut partitions = TopicPartitionList::new();
    for (shard, extent) in extents {
        if let Some((topic, partition)) = topics::partition_of(*shard) {
            let name = settings.topic_name(topic);
            partitions.add_partition_offset(&name, partition, Offset::Offset(extent.low)).map_err(what())?;
        }
    }
    client.assign(&partitions).map_err(what())?;
    Ok(client)
}

/// Takes what there is, and closes the extents that are read to their end.
fn poll(
    settings: &KafkaSettings,
    client: &BaseConsumer,
    open: &mut BTreeMap<Shard, Extent>,
) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    let mut wait = POLL;
    while records.len() < RECORDS_MAX && !open.is_empty() {
        let message = match client.poll(wait) {
            None => break,
            // Brokers that are away come back, or the scan counts as stalled.
            Some(Err(error)) => {
                tracing::debug!(%error, "scan");
                break;
            }
            Some(Ok(message)) => message,
        };
        wait = Duration::ZERO;
        let Some(shard) = settings.shard_of(message.topic(), message.partition()) else { continue };
        let Some(extent) = open.get(&shard) else { continue };
        if message.offset() < extent.end {
            match headers::decode(shard, &message) {
                Ok(record) => records.push(record),
                Err(reason) => {
                    tracing::warn!(%shard, offset = message.offset(), %reason, "not a record of ours")
                }
            }
        }
        if message.offset() + 1 >= extent.end {
            open.remove(&shard);
        }
    }
    Ok(records)
}
