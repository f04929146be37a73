//! How the installation is doing: the log, each read model beside it, the relay, who works on what, and what is stuck.
//!
//! Read models are asked one by one and by name, because one that is missing, or of another program's shape, is an answer
//! here and no failure. Rates are taken between two looks, a moment apart.

mod look;
mod work;

use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use tokio::time::Instant;

use self::look::{SetAside, look, set_aside, shape, topics, waiting_since};
pub use self::work::{Work, Worker, WorkerRun};
use super::Error;
use super::job_plan::SCHEDULER_LOCK;
use crate::event_store::read;
use crate::postgres::{LockHolder, lock_holders};

/// How long the two looks are apart.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// An event that has waited for longer is stuck.
const WAITS_MAX_SECONDS: f64 = 30.0;

/// Every read model, the shards it follows, and whether it joins prices.
const READ_MODELS: [(&str, RangeInclusive<i16>, bool); 7] = [
    ("directory", 0..=32, false),
    ("holdings", 0..=31, false),
    ("prices", 32..=32, false),
    ("valuations", 0..=31, true),
    ("activity", 0..=31, false),
    ("risk", 0..=31, true),
    ("jobs", 33..=40, false),
];

/// The whole of it.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Version of the program that answers.
    pub program: &'static str,
    /// The end of the log.
    pub head: Head,
    /// Events appended per second, just now.
    pub appended_per_second: f64,
    /// Each read model.
    pub read_models: Vec<ReadModel>,
    /// Scheduled work.
    pub work: Work,
    /// The way to the bus, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus: Option<Bus>,
    /// What does not get on, in words; empty when all is well.
    pub stuck: Vec<String>,
}

/// The end of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Head {
    /// The history.
    pub epoch: i32,
    /// The last position.
    pub position: i64,
    /// When the log took it.
    pub recorded_at: Option<DateTime<Utc>>,
}

/// A read model beside the log.
#[derive(Debug, Clone, Serialize)]
pub struct ReadModel {
    /// Its name.
    pub name: String,
    /// What its tables were made from; none if they are not there.
    pub shape: Option<String>,
    /// The version of that shape, which is part of the schema's name from the second on.
    pub shape_version: u32,
    /// Everything up to here is in its rows.
    pub position: i64,
    /// Events of the log beyond that.
    pub lag_events: i64,
    /// How long the first of them has waited.
    pub lag_seconds: f64,
    /// Positions it moves on by per second, just now.
    pub events_per_second: f64,
    /// Who works on which shards.
    pub owners: Vec<Owner>,
    /// How many streams are parked.
    pub parked_count: i64,
    /// The first hundred of them.
    pub parked: Vec<Parked>,
    /// How many events were skipped on purpose.
    pub skipped_count: i64,
}

/// Who works on shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// The process, as it calls itself.
    pub who: String,
    /// Where it is, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The shards, in order.
    pub shards: Vec<i16>,
}

/// A stream that holds an event which could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parked {
    /// The stream.
    pub stream_id: String,
    /// The first event whose effect is missing.
    pub position: i64,
    /// Its name.
    pub event_id: String,
    /// Why it could not be applied.
    pub reason: String,
}

/// The way to the bus.
#[derive(Debug, Clone, Serialize)]
pub struct Bus {
    /// Who copies the log; none if nobody does.
    pub relay: Option<Owner>,
    /// Each topic.
    pub topics: Vec<Topic>,
    /// Why the brokers could not be asked who owns which shards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// How far the log is in a topic.
#[derive(Debug, Clone, Serialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// The last position that is known to be in it.
    pub position: i64,
    /// Events that wait to be copied, as far as they were counted.
    pub lag_events: i64,
    /// How long the first of them has waited.
    pub lag_seconds: f64,
}

/// What the bus is called.
#[derive(Debug, Clone)]
pub struct BusNames {
    /// The lock of whoever relays.
    pub relay_lock: String,
    /// The topic of each shard.
    pub topics: Vec<(i16, String)>,
}

/// Takes two looks. Owners are the holders of locks; with a bus they are the members of groups, which somebody else adds.
///
/// # Errors
/// The log.
pub async fn load(pool: &PgPool, bus: Option<&BusNames>) -> Result<Status, Error> {
    let (first, began) = (look(pool).await?, Instant::now());
    tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    let (second, seconds) = (look(pool).await?, began.elapsed().as_secs_f64());

    let head = match read::find(pool, second.head).await? {
        Some(event) => {
            Head { epoch: event.epoch.0, position: event.position.0, recorded_at: Some(event.recorded_at) }
        }
        None => Head { epoch: read::epoch_at_head(pool).await?.0, position: 0, recorded_at: None },
    };
    let locks = READ_MODELS.map(|(name, ..)| lock_of(name));
    let mut names = locks.to_vec();
    names.extend(bus.map(|bus| bus.relay_lock.clone()));
    names.push(SCHEDULER_LOCK.to_owned());
    let holders = lock_holders(pool, &names).await?;

    let mut read_models = Vec::new();
    for (name, shards, _) in READ_MODELS {
        let found = second.read_models.get(name);
        let position = found.map_or(0, |found| found.least);
        let moved = match (first.read_models.get(name), found) {
            // Of a busy shard the newest place tells, of many that catch up the mean: idle ones are written now and then.
            (Some(before), Some(now)) => (now.mean - before.mean).max((now.newest - before.newest) as f64),
            _ => 0.0,
        };
        let shards: Vec<i16> = shards.collect();
        let owners = if bus.is_some() { Vec::new() } else { owners(&holders, &lock_of(name), &shards) };
        let set_aside = match found {
            Some(_) => set_aside(pool, name).await?,
            None => SetAside::default(),
        };
        read_models.push(ReadModel {
            name: name.to_owned(),
            shape: shape(pool, name).await?,
            shape_version: version_of(name),
            position,
            lag_events: (second.head.0 - position).max(0),
            lag_seconds: waiting_since(pool, position).await?,
            events_per_second: (moved / seconds).max(0.0),
            owners,
            parked_count: set_aside.parked_count,
            parked: set_aside.parked,
            skipped_count: set_aside.skipped_count,
        });
    }
    let bus = match bus {
        Some(names) => Some(Bus {
            relay: owners(&holders, &names.relay_lock, &[]).into_iter().next(),
            topics: topics(pool, names).await?,
            trouble: None,
        }),
        None => None,
    };
    let appended_per_second = (second.head.0 - first.head.0) as f64 / seconds;
    let program = env!("CARGO_PKG_VERSION");
    let work = work::work(pool, &holders).await?;
    let mut status = Status { program, head, appended_per_second, read_models, work, bus, stuck: Vec::new() };
    status.judge();
    Ok(status)
}

/// The name of the lock that the projector of a read model holds where there is no bus.
fn lock_of(read_model: &str) -> String {
    format!("feed projector.{read_model}")
}

/// `holdings` is a schema of the first version, `holdings_v2` one of the second.
fn version_of(schema: &str) -> u32 {
    schema.rsplit_once("_v").and_then(|(_, version)| version.parse().ok()).unwrap_or(1)
}

impl Status {
    /// Says what is stuck; again, when owners were added.
    pub fn judge(&mut self) {
        self.stuck.clear();
        for it in &self.read_models {
            let name = &it.name;
            if it.shape.is_none() {
                self.stuck.push(format!("{name} has no tables: nobody has projected it yet"));
                continue;
            }
            if it.lag_seconds > WAITS_MAX_SECONDS {
                let nobody = if it.owners.is_empty() { ", and nobody projects it" } else { "" };
                self.stuck.push(format!(
                    "{name} is {} events, {:.0} s, behind the log{nobody}",
                    it.lag_events, it.lag_seconds
                ));
            }
            if it.parked_count > 0 {
                self.stuck.push(format!(
                    "{name} has {} parked: see `insight parked list {name}`",
                    streams(it.parked_count)
                ));
            }
        }
        self.stuck.extend(self.work.stuck());
        let Some(bus) = &self.bus else { return };
        for topic in bus.topics.iter().filter(|topic| topic.lag_seconds > WAITS_MAX_SECONDS) {
            let nobody = if bus.relay.is_none() { ", and nobody relays" } else { "" };
            self.stuck.push(format!(
                "topic {} is {} events, {:.0} s, behind the log{nobody}",
                topic.name, topic.lag_events, topic.lag_seconds
            ));
        }
        if let Some(trouble) = &bus.trouble {
            self.stuck.push(format!("the brokers cannot be asked: {trouble}"));
        }
    }
}

fn streams(count: i64) -> String {
    if count == 1 { "1 stream".to_owned() } else { format!("{count} streams") }
}

fn owners(holders: &[(String, LockHolder)], lock: &str, shards: &[i16]) -> Vec<Owner> {
    let holding = holders.iter().filter(|(name, _)| name == lock);
    let owner = |(_, holder): &(String, LockHolder)| Owner {
        who: holder.application_name.clone(),
        host: holder.address.clone(),
        shards: shards.to_vec(),
    };
    holding.map(owner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_model(lag_seconds: f64, parked_count: i64) -> ReadModel {
        ReadModel {
            name: "holdings".into(),
            shape: Some("shape 1".into()),
            shape_version: 1,
            position: 5,
            lag_events: 7,
            lag_seconds,
            events_per_second: 0.0,
            owners: Vec::new(),
            parked_count,
            parked: Vec::new(),
            skipped_count: 0,
        }
    }

    fn stuck(read_model: ReadModel, bus: Option<Bus>) -> Vec<String> {
        let head = Head { epoch: 1, position: 12, recorded_at: None };
        let mut status = Status {
            program: "0",
            head,
            appended_per_second: 0.0,
            read_models: vec![read_model],
            work: Work::default(),
            bus,
            stuck: Vec::new(),
        };
        status.judge();
        status.stuck
    }

    #[test]
    fn what_is_stuck_is_said_and_what_only_lags_is_not() {
        assert!(stuck(read_model(29.0, 0), None).is_empty());
        assert_eq!(
            stuck(read_model(31.0, 0), None),
            ["holdings is 7 events, 31 s, behind the log, and nobody projects it"]
        );
        assert_eq!(
            stuck(read_model(0.0, 1), None),
            ["holdings has 1 stream parked: see `insight parked list holdings`"]
        );
        let missing = ReadModel { shape: None, ..read_model(0.0, 0) };
        assert_eq!(stuck(missing, None), ["holdings has no tables: nobody has projected it yet"]);
    }

    #[test]
    fn a_schema_says_which_version_of_a_shape_it_is() {
        assert_eq!(["name", "name_v2", "other_name_v13"].map(version_of), [1, 2, 13]);
    }

    #[test]
    fn a_topic_that_nobody_fills_is_stuck() {
        let topic = |lag_seconds| Topic { name: "t".into(), position: 1, lag_events: 3, lag_seconds };
        let bus = |lag| Some(Bus { relay: None, topics: vec![topic(lag)], trouble: None });
        assert!(stuck(read_model(0.0, 0), bus(1.0)).is_empty());
        assert_eq!(
            stuck(read_model(0.0, 0), bus(40.0)),
            ["topic t is 3 events, 40 s, behind the log, and nobody relays"]
        );
    }
}
