//! A rebuild, stopped and killed between any two of its steps: load a shard, follow the log, put the new rows in the place of
//! the live ones.
//!
//! Where it stands is in the new tables and nowhere else, so being killed changes nothing but who goes on.

use super::projector::Rows;
use super::world::World;
use crate::domain::ids::Shard;
use crate::event_store::Place;
use crate::projectors::checkpoint::Checkpoint;

impl World {
    /// Loads a shard into the new tables, rows and checkpoint together, or follows the log there.
    pub(super) fn rebuild_shard(&mut self, shard: Shard) {
        if self.next.get(&shard).is_some_and(|rows| !self.store.has(&rows.checkpoint.place)) {
            // The new tables are of another history: they are dropped, and the rebuild begins again.
            self.next.clear();
        }
        let head = self.store.head();
        let mut rows = self.next.remove(&shard).unwrap_or_else(|| self.empty(shard));
        for event in self.store.shard_after(shard, rows.checkpoint.place.position) {
            rows.applied.push((event.position, event.event_id));
            rows.checkpoint.place = Place::from(&**event);
        }
        rows.checkpoint.scanned_to = head;
        self.next.insert(shard, rows);
    }

    fn empty(&self, shard: Shard) -> Rows {
        let place = Place::origin(self.store.epoch());
        let zero = crate::domain::ids::Position(0);
        let checkpoint = Checkpoint { shard, place, scanned_to: zero, price_position: zero, revision: 0 };
        Rows { checkpoint, applied: Vec::new() }
    }

    /// Once every shard is loaded, one transaction: the rest of the log is folded, the new rows take the place of the live ones,
    /// and whoever holds the revisions before has lost its shards.
    pub(super) fn promote(&mut self) {
        if !self.shards.iter().all(|shard| self.next.contains_key(shard)) {
            return;
        }
        for shard in self.shards.clone() {
            self.rebuild_shard(shard);
        }
        // A shard of a dead history was found on the way.
        if self.next.len() < self.shards.len() {
            return;
        }
        self.rows = std::mem::take(&mut self.next);
        for rows in self.rows.values_mut() {
            self.revisions += 1;
            rows.checkpoint.revision = self.revisions;
        }
        for shard in self.shards.clone() {
            super::judge::flushed(self, shard);
        }
    }
}
