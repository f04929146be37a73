//! A member of a consumer group, stopped and killed between any two of its steps: fetch, judge, fold, commit.
//!
//! Its rows are the list of the events that were applied: whatever is lost, doubled, stale or out of order shows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::world::{PROJECTORS, World};
use crate::domain::ids::{Epoch, Position, Shard};
use crate::event_store::Place;
use crate::events::{Envelope, EventId};
use crate::feed::chain::Dropped;
use crate::feed::tracks::{Seen, Taken, Tracks};
use crate::projectors::checkpoint::{Checkpoint, Checkpoints, Idle};

/// Events of a shard that one answer of the store brings.
const LIMIT_PER_SHARD: usize = 4;

/// What a read model holds of a shard.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) checkpoint: Checkpoint,
    pub(super) applied: Vec<(Position, EventId)>,
}

impl Rows {
    pub(super) fn scanned_to(&self) -> Position {
        self.checkpoint.scanned_to
    }
}

/// A process.
#[derive(Default)]
pub(super) struct Projector {
    tracks: Tracks,
    /// Where it reads each partition next.
    offsets: BTreeMap<Shard, i64>,
    /// Come next, and not yet confirmed by the store.
    gathered: Vec<Arc<Envelope>>,
    items: VecDeque<Item>,
    checkpoints: Checkpoints,
    /// Applied in memory.
    unwritten: BTreeMap<Shard, Vec<(Position, EventId)>>,
    /// The newest event that it has seen in the log.
    newest: Option<Place>,
    /// Its flush waited for a lock, as of so many promotions: it means the tables that were live then.
    waited: Option<usize>,
    /// Misses everything that the group is told.
    pub(super) frozen: bool,
    /// It has found that the log is another history, and does nothing more.
    pub(super) halted: bool,
}

enum Item {
    Assigned(Vec<Shard>),
    Revoked(Vec<Shard>),
    Batch(Vec<Arc<Envelope>>, Vec<(Shard, Position)>),
}

impl Projector {
    pub(super) fn has_items(&self) -> bool {
        !self.items.is_empty()
    }

    /// The partition is read again from an earlier offset.
    pub(super) fn go_back(&mut self, back: usize) {
        for offset in self.offsets.values_mut() {
            *offset = (*offset - back as i64).max(0);
        }
    }

    /// Records are never seen, as if they had not been there.
    pub(super) fn skip(&mut self, records: usize) {
        for offset in self.offsets.values_mut() {
            *offset += records as i64;
        }
    }

    fn saw(&mut self, place: Place) {
        if self.newest.as_ref().is_none_or(|newest| newest.position < place.position) {
            self.newest = Some(place);
        }
    }

    /// Every connection was lost: the store may be another one.
    pub(super) fn doubt(&mut self) {
        self.waited = None;
        self.tracks.doubt_all();
    }

    fn told(&mut self, events: Vec<Arc<Envelope>>, now: tokio::time::Instant) {
        let scanned_to = self.tracks.tell(&events, now);
        if !events.is_empty() || !scanned_to.is_empty() {
            self.items.push_back(Item::Batch(events, scanned_to));
        }
    }

    fn drop_state(&mut self, shards: &[Shard]) {
        self.checkpoints.remove(shards);
        for shard in shards {
            self.unwritten.remove(shard);
        }
    }

    fn assign(&mut self, shards: &[Shard]) {
        let change = self.tracks.assign(shards);
        if !change.revoked.is_empty() {
            self.items.push_back(Item::Revoked(change.revoked));
        }
        if !change.assigned.is_empty() {
            self.items.push_back(Item::Assigned(change.assigned));
        }
        for shard in shards {
            self.offsets.entry(*shard).or_default();
        }
    }

    fn revoke(&mut self, shards: &[Shard]) {
        self.offsets.retain(|shard, _| !shards.contains(shard));
        let mine = self.tracks.revoke(shards);
        if !mine.is_empty() {
            self.items.push_back(Item::Revoked(mine));
        }
    }
}

impl World {
    /// Deals the shards out anew among those who answer. A frozen one hears nothing of it.
    pub(super) fn rebalance(&mut self, draw: usize) {
        let awake: Vec<usize> =
            (0..PROJECTORS).filter(|n| !self.projectors[*n].frozen && !self.projectors[*n].halted).collect();
        if awake.is_empty() {
            return;
        }
        let mut dealt: BTreeMap<usize, Vec<Shard>> = awake.iter().map(|n| (*n, Vec::new())).collect();
        for (k, shard) in self.shards.iter().enumerate() {
            dealt.entry(awake[(k + draw) % awake.len()]).or_default().push(*shard);
        }
        for (n, shards) in dealt {
            let projector = &mut self.projectors[n];
            let gone: Vec<Shard> =
                projector.offsets.keys().copied().filter(|shard| !shards.contains(shard)).collect();
            projector.revoke(&gone);
            projector.assign(&shards);
        }
    }

    /// What one turn of the feed does: first the store is asked about what is in doubt, then records are taken.
    pub(super) fn fetch(&mut self, projector: usize, records: usize) {
        self.projectors[projector].tracks.notice_silence(Taken::Everything, self.now);
        if let Err(reason) = self.ask(projector) {
            self.halt(projector, &reason);
        }
        self.take(projector, records);
        match self.confirm(projector) {
            Ok(()) => {}
            Err(reason) => self.halt(projector, &reason),
        }
    }

    /// The same while the database does not answer: what the bus brings is let go, and asked for later.
    pub(super) fn fetch_alone(&mut self, projector: usize, records: usize) {
        self.take(projector, records);
        let Projector { tracks, gathered, .. } = &mut self.projectors[projector];
        tracks.doubt_all();
        tracks.go_back(None);
        gathered.clear();
    }

    fn halt(&mut self, projector: usize, reason: &str) {
        self.fork(reason);
        self.projectors[projector] = Projector { halted: true, ..Projector::default() };
    }

    /// Takes records from the bus, and judges each by the chain of its shard.
    fn take(&mut self, projector: usize, records: usize) {
        let mut forks = None;
        let Projector { tracks, offsets, gathered, .. } = &mut self.projectors[projector];
        for (shard, offset) in offsets {
            let extent = self.bus.extent(*shard);
            if *offset < extent.low || *offset > extent.end {
                *offset = extent.low;
            }
            for _ in 0..records {
                let Some(record) = self.bus.read(*shard, *offset) else { break };
                *offset += 1;
                match tracks.see(&record.link, &record.event, self.now) {
                    Seen::Next => gathered.push(Arc::clone(&record.event)),
                    Seen::Dropped(Dropped::Duplicate | Dropped::DeadHistory)
                    | Seen::Gap
                    | Seen::NotFollowed => {}
                    Seen::Fork(reason) => forks = Some(reason),
                }
            }
        }
        if let Some(reason) = forks {
            self.halt(projector, &reason);
        }
    }

    /// Shows the store what was gathered, and lets go of what it does not vouch for.
    fn confirm(&mut self, projector: usize) -> Result<(), String> {
        let Projector { tracks, gathered, .. } = &mut self.projectors[projector];
        let unsure = tracks.unsure();
        let missing: Vec<Place> = unsure.iter().filter(|place| !self.store.has(place)).cloned().collect();
        if missing.iter().any(|place| place.epoch >= self.store.epoch()) {
            return Err("the topic has another history".to_owned());
        }
        let back = tracks.go_back(Some(&missing));
        tracks.confirm(self.now);
        gathered.retain(|event| !back.contains(&event.shard));
        let gathered = std::mem::take(gathered);
        for event in &gathered {
            self.projectors[projector].saw(Place::from(&**event));
        }
        self.projectors[projector].told(gathered, self.now);
        Ok(())
    }

    /// The repair, about whatever is in doubt.
    fn ask(&mut self, projector: usize) -> Result<(), String> {
        loop {
            let Projector { tracks, .. } = &mut self.projectors[projector];
            let mut asked = tracks.doubtful();
            if asked.is_empty() {
                asked = tracks.unconfirmed(self.now);
            }
            if asked.is_empty() {
                return Ok(());
            }
            if self.projectors[projector].newest.as_ref().is_some_and(|newest| !self.store.has(newest)) {
                return Err("an event that was seen is not there".to_owned());
            }
            let slice = self.store.shards_after(&asked, LIMIT_PER_SHARD);
            slice.events.iter().for_each(|event| self.projectors[projector].saw(Place::from(event)));
            let Projector { tracks, .. } = &mut self.projectors[projector];
            let brought = tracks.repaired(&asked, slice, LIMIT_PER_SHARD, self.store.epoch(), self.now)?;
            self.projectors[projector].told(brought, self.now);
        }
    }

    /// Takes the next item and folds it in memory.
    pub(super) fn fold(&mut self, projector: usize) {
        let front = self.projectors[projector].items.front();
        if self.live_is_locked() && matches!(front, Some(Item::Assigned(_))) {
            // Checkpoints that are missing are inserted where they are locked.
            return;
        }
        let Some(item) = self.projectors[projector].items.pop_front() else { return };
        match item {
            Item::Assigned(shards) => self.load(projector, &shards),
            Item::Revoked(shards) => self.projectors[projector].drop_state(&shards),
            Item::Batch(events, scanned_to) => {
                let Projector { checkpoints, unwritten, .. } = &mut self.projectors[projector];
                for event in events {
                    if checkpoints.is_new(&event) {
                        checkpoints.fold(&event);
                        unwritten.entry(event.shard).or_default().push((event.position, event.event_id));
                    }
                }
                checkpoints.scan(&scanned_to);
            }
        }
    }

    fn load(&mut self, projector: usize, shards: &[Shard]) {
        if self.projectors[projector].newest.as_ref().is_some_and(|newest| !self.store.has(newest)) {
            self.halt(projector, "an event that was seen is not there");
            return;
        }
        self.projectors[projector].drop_state(shards);
        let stored: Vec<Checkpoint> = shards.iter().map(|shard| self.stored(*shard)).collect();
        let places = stored.iter().map(|mine| (mine.shard, mine.place.clone())).collect();
        self.projectors[projector].checkpoints.insert(stored);
        self.projectors[projector].gathered.retain(|event| !shards.contains(&event.shard));
        let Projector { tracks, items, .. } = &mut self.projectors[projector];
        for item in items {
            if let Item::Batch(events, scanned_to) = item {
                events.retain(|event| !shards.contains(&event.shard));
                scanned_to.retain(|(shard, _)| !shards.contains(shard));
            }
        }
        let given_up = tracks.resume(places, self.now);
        self.projectors[projector].drop_state(&given_up);
    }

    fn stored(&mut self, shard: Shard) -> Checkpoint {
        let revision = &mut self.revisions;
        let rows = self.rows.entry(shard).or_insert_with(|| {
            *revision += 1;
            let checkpoint = Checkpoint {
                shard,
                place: Place::origin(Epoch(1)),
                scanned_to: Position(0),
                price_position: Position(0),
                revision: *revision,
            };
            Rows { checkpoint, applied: Vec::new() }
        });
        rows.checkpoint.clone()
    }

    /// Rows and checkpoints in one transaction, which writes nothing where a revision is another one.
    pub(super) fn flush(&mut self, projector: usize) {
        let due = self.projectors[projector].checkpoints.due(&BTreeSet::new(), Idle::Write, Position(0));
        if self.live_is_locked() {
            if !due.is_empty() {
                self.projectors[projector].waited.get_or_insert(self.promotions);
            }
            return;
        }
        let waited = self.projectors[projector].waited.take();
        let means_old = waited.is_some_and(|promotions| promotions < self.promotions);
        let tables = if means_old { &self.old } else { &self.rows };
        let is_mine = |mine: &Checkpoint| {
            tables.get(&mine.shard).is_some_and(|rows| rows.checkpoint.revision == mine.revision)
                && self.store.has(&mine.place)
        };
        assert!(
            !means_old || due.is_empty() || !due.iter().any(is_mine),
            "whoever waited for a promotion is fenced off the tables that nobody reads any more"
        );
        if !due.iter().all(is_mine) {
            let shards = self.projectors[projector].checkpoints.shards();
            self.load(projector, &shards);
            return;
        }
        let mut written = Vec::new();
        for mut checkpoint in due {
            self.revisions += 1;
            checkpoint.revision = self.revisions;
            let applied = self.projectors[projector].unwritten.remove(&checkpoint.shard).unwrap_or_default();
            let rows = self.rows.get_mut(&checkpoint.shard).expect("it was loaded");
            rows.applied.extend(applied);
            rows.checkpoint = checkpoint.clone();
            written.push(checkpoint);
        }
        let shards: Vec<Shard> = written.iter().map(|checkpoint| checkpoint.shard).collect();
        self.projectors[projector].checkpoints.written(written);
        for shard in shards {
            super::judge::flushed(self, shard);
        }
    }
}
