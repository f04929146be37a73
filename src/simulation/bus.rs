//! The topics in memory: partitions of records at rising offsets, and everything that may befall them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::ids::{Epoch, Shard};
use crate::events::Envelope;
use crate::feed::chain::Link;
use crate::kafka::scan::Extent;
use crate::relay::window::Tail;

/// A record as a relay sent it.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) link: Link,
    pub(super) event: Arc<Envelope>,
}

impl Sent {
    pub(super) fn new(event: Arc<Envelope>, previous: Option<Tail>) -> Self {
        let previous = previous.map(|tail| (tail.position, tail.event_id));
        let Envelope { epoch, position, event_id, .. } = *event;
        Self { link: Link { epoch, position, event_id, previous }, event }
    }
}

/// Everything a partition ever took, and what of it can still be read.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// The first offset that retention has left.
    low: usize,
    records: Vec<Sent>,
    /// Records were taken from its end while others may have been on their way: these come before what is sent again.
    pub(super) disordered: bool,
    /// And then something came from another hand than the leader's, so that offsets rose as if nothing had been lost. No
    /// relay can notice that; readers of the topic find the gap, and fill it from the store.
    pub(super) deceiving: bool,
    /// Records have changed places, which no broker does. Readers pass over what does not come next and fill it from the store.
    pub(super) swapped: bool,
}

/// Who writes a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hand {
    Leader,
    Another,
}

/// All partitions.
#[derive(Debug, Default)]
pub(super) struct Bus {
    partitions: BTreeMap<Shard, Partition>,
    deleted: bool,
}

impl Bus {
    pub(super) fn partition(&self, shard: Shard) -> Option<&Partition> {
        self.partitions.get(&shard)
    }

    /// Appends a record and returns its offset.
    pub(super) fn write(&mut self, record: Sent, hand: Hand) -> i64 {
        let new = || Partition { disordered: self.deleted, ..Partition::default() };
        let partition = self.partitions.entry(record.event.shard).or_insert_with(new);
        partition.deceiving |= partition.disordered && hand == Hand::Another;
        partition.records.push(record);
        partition.records.len() as i64 - 1
    }

    pub(super) fn extent(&self, shard: Shard) -> Extent {
        let of = |it: &Partition| Extent { low: it.low as i64, end: it.records.len() as i64 };
        self.partitions.get(&shard).map_or(Extent { low: 0, end: 0 }, of)
    }

    /// The record at an offset.
    pub(super) fn read(&self, shard: Shard, offset: i64) -> Option<&Sent> {
        let partition = self.partitions.get(&shard)?;
        partition.records.get(usize::try_from(offset).ok().filter(|offset| *offset >= partition.low)?)
    }

    /// The highest epoch of any record.
    pub(super) fn newest_epoch(&self) -> Epoch {
        let records = self.partitions.values().flat_map(|partition| &partition.records);
        records.map(|record| record.link.epoch).max().unwrap_or(Epoch(0))
    }

    /// The topic is deleted and made anew.
    pub(super) fn delete(&mut self) {
        self.partitions.clear();
        self.deleted = true;
    }

    /// Retention takes the first records of a partition.
    pub(super) fn expire(&mut self, shard: Shard, count: usize) {
        if let Some(partition) = self.partitions.get_mut(&shard) {
            partition.low = (partition.low + count).min(partition.records.len());
        }
    }

    /// An unclean election takes the last records, and their offsets are used again.
    pub(super) fn cut(&mut self, shard: Shard, count: usize) {
        if let Some(partition) = self.partitions.get_mut(&shard) {
            let kept = partition.records.len().saturating_sub(count).max(partition.low);
            partition.disordered |= kept < partition.records.len();
            partition.records.truncate(kept);
        }
    }

    /// An earlier record is there once more.
    pub(super) fn double(&mut self, shard: Shard, which: usize) {
        if let Some(partition) = self.partitions.get_mut(&shard)
            && !partition.records.is_empty()
        {
            let doubled = partition.records[which % partition.records.len()].clone();
            partition.deceiving |= partition.disordered;
            partition.records.push(doubled);
        }
    }

    /// A record that can still be read and the one after it change places.
    pub(super) fn swap(&mut self, shard: Shard, which: usize) {
        let Some(partition) = self.partitions.get_mut(&shard) else { return };
        let pairs = partition.records.len().saturating_sub(partition.low + 1);
        if pairs > 0 {
            let first = partition.low + which % pairs;
            partition.records.swap(first, first + 1);
            partition.swapped = true;
        }
    }
}

impl Partition {
    /// All that it took, also what retention has removed since.
    pub(super) fn records(&self) -> &[Sent] {
        &self.records
    }
}
