//! What is done to a system in good order, while everything else goes wrong: rebuilds, and records that retention removes.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use insight::domain::ids::{PORTFOLIO_SHARDS, Shard};
use insight::kafka::{KafkaSettings, scan, topics};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::read_models::ALL;
use crate::system::{Role, System};

/// How long a rebuild may take once nothing is in its way.
const REBUILT_WITHIN: Duration = Duration::from_secs(120);
/// How long the broker may take to answer; away, it is not waited for.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The hand in the control room.
#[derive(Default)]
pub struct Operator {
    rebuild: Option<Rebuild>,
    /// Killed on their way, to be gone on with.
    unfinished: Vec<&'static str>,
    rebuilds_so_far: usize,
}

/// A rebuild that goes on.
struct Rebuild {
    role: Role,
    read_model: &'static str,
    /// When it is killed.
    killed: Option<Instant>,
}

impl Operator {
    /// Begins to rebuild the read model of this number, unless another is being rebuilt.
    pub async fn rebuild(&mut self, system: &System, number: usize, until: Instant) -> Option<String> {
        if self.rebuild.is_some() || system.servers.is_none() {
            return None;
        }
        let read_model = ALL[number % ALL.len()];
        let killed = (number / ALL.len()).is_multiple_of(2).then_some(until);
        self.begin(system, read_model, killed).await;
        Some(format!("{read_model}{}", if killed.is_some() { ", killed" } else { "" }))
    }

    async fn begin(&mut self, system: &System, read_model: &'static str, killed: Option<Instant>) {
        self.rebuilds_so_far += 1;
        let name = format!("rebuild-{}", self.rebuilds_so_far);
        let role = system.start_role(&name, &["rebuild", read_model]).await;
        self.rebuild = Some(Rebuild { role, read_model, killed });
    }

    /// Nothing is being rebuilt, and nothing waits for it.
    pub fn is_idle(&self) -> bool {
        self.rebuild.is_none() && self.unfinished.is_empty()
    }

    /// Kills what is to be killed, and, once all is calm, finishes what was not.
    pub async fn look_after(&mut self, system: &System, is_calm: bool, forgiven: bool) {
        if let Some(Rebuild { role, read_model, killed }) = &mut self.rebuild {
            let ended = role.process.ended();
            let is_unfinished = match ended {
                None if killed.is_some_and(|at| Instant::now() >= at) => {
                    role.process.kill();
                    true
                }
                None => {
                    let in_time = !is_calm || role.started.elapsed() < REBUILT_WITHIN;
                    assert!(in_time, "a rebuild under load ends: {}", role.process.last_words());
                    return;
                }
                Some(ended) => {
                    assert!(
                        ended.success() || forgiven,
                        "a rebuild ends well, killed before or not: of {read_model}, {ended}: {}",
                        role.process.last_words()
                    );
                    !ended.success()
                }
            };
            if is_unfinished {
                self.unfinished.push(read_model);
            } else {
                self.unfinished.retain(|name| name != read_model);
            }
            self.rebuild = None;
        }
        if is_calm && let Some(read_model) = self.unfinished.first() {
            self.begin(system, read_model, None).await;
        }
    }

    /// Deletes older records of a partition. Nobody waits for it: the broker may be away.
    pub fn delete_records(&self, system: &System, number: usize) -> Option<String> {
        let bus = system.bus()?;
        let shard = Shard((number % (PORTFOLIO_SHARDS as usize + 1)) as i16);
        let quarters = 1 + (number as i64 / 64) % 4;
        tokio::spawn(delete(bus, Arc::clone(&system.deleted), shard, quarters));
        Some(format!("shard {shard}, {quarters} quarters"))
    }
}

/// The last position of a shard that records were deleted of.
pub type Deleted = Mutex<std::collections::BTreeMap<Shard, i64>>;

async fn delete(bus: KafkaSettings, deleted: Arc<Deleted>, shard: Shard, quarters: i64) {
    let Ok(Ok(mut extents)) = tokio::time::timeout(ANSWERS_WITHIN, scan::extents(&bus, vec![shard])).await
    else {
        return;
    };
    let Some(extent) = extents.get_mut(&shard) else { return };
    extent.end = extent.low + (extent.end - extent.low) * quarters / 4;
    let end = extent.end;
    let mut last = 0;
    let mut records = scan::scan(&bus, extents);
    loop {
        match tokio::time::timeout(ANSWERS_WITHIN, records.recv()).await {
            Ok(Some(Ok(slice))) => {
                last = slice.iter().map(|record| record.event.position.0).fold(last, i64::max);
            }
            Ok(None) => break,
            // What it does not know it does not delete.
            Ok(Some(Err(_))) | Err(_) => return,
        }
    }
    let (Some(name), Some((_, partition))) = (bus.topic_of(shard), topics::partition_of(shard)) else {
        return;
    };
    {
        // Known before it is done, for nobody may live to hear that it was done.
        let mut deleted = deleted.lock().expect("nobody panicked");
        let known = deleted.entry(shard).or_default();
        *known = last.max(*known);
    }
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &*bus.brokers).create().expect("an admin client");
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&name, partition, Offset::Offset(end)).expect("an offset");
    let options =
        AdminOptions::new().operation_timeout(Some(ANSWERS_WITHIN)).request_timeout(Some(ANSWERS_WITHIN));
    let _ = admin.delete_records(&before, &options).await;
}
