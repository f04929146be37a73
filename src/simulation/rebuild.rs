//! A rebuild, stopped and killed between any two of its steps: look at what is there, gather shards, write them, follow the log,
//! and then the promotion: lock the live checkpoints, reach them, fence them, rename.
//!
//! What it decides it decides by the program's own [`steps`]. Where it stands is in the new tables and nowhere else, so being
//! killed costs what it has in memory and what its open transaction has done.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::judge;
use super::projector::Rows;
use super::world::World;
use crate::domain::ids::{Position, Shard};
use crate::event_store::Place;
use crate::projectors::checkpoint::Checkpoint;
use crate::projectors::rebuild::steps::{self, Found};

/// What tables of this program are made from.
const SHAPE: &str = "shape";
/// A piece is due from a quarter of it on: with every second shard or so.
const PIECE_EVENTS: usize = 12;

/// The tables beside the live ones.
#[derive(Clone, Default)]
pub(super) struct Next {
    rows: BTreeMap<Shard, Rows>,
    /// They have no keys yet.
    is_loading: bool,
}

/// What the process is about to do.
#[derive(Default)]
pub(super) enum Rebuilder {
    #[default]
    Down,
    /// Shards that are to be loaded up to a cut, and those in memory.
    Loads {
        shards: VecDeque<Shard>,
        cut: Position,
        piece: Vec<Rows>,
    },
    /// The revisions that it has written last.
    Follows(BTreeMap<Shard, i64>),
    Promotes(BTreeMap<Shard, i64>, Promotion),
}

/// How far the one transaction is.
pub(super) enum Promotion {
    /// Nobody writes the live rows.
    Locked,
    /// The new rows are nowhere behind them.
    Reached,
    /// Live's checkpoints have these revisions once it commits.
    Fenced(BTreeMap<Shard, i64>),
}

impl World {
    /// Whether a flush has to wait.
    pub(super) fn live_is_locked(&self) -> bool {
        matches!(self.rebuilder, Rebuilder::Promotes(..))
    }

    /// The next step up to where a promotion can begin; of the log it follows this shard.
    pub(super) fn rebuild(&mut self, shard: Shard) {
        match std::mem::take(&mut self.rebuilder) {
            Rebuilder::Down => self.begin_rebuild(),
            Rebuilder::Loads { shards, cut, piece } => self.load_next(shards, cut, piece),
            Rebuilder::Follows(mut mine) => {
                if self.follow_log(&mut mine, shard) {
                    self.rebuilder = Rebuilder::Follows(mine);
                }
            }
            promotes @ Rebuilder::Promotes(..) => self.rebuilder = promotes,
        }
    }

    /// Goes on with what is there, or begins anew.
    fn begin_rebuild(&mut self) {
        let checkpoints = self.next_checkpoints();
        let foreign = checkpoints.iter().find(|mine| !self.store.has(&mine.place));
        let found = Found {
            shape: self.next.as_ref().map(|_| SHAPE.to_owned()),
            foreign: foreign.map(|mine| format!("position {}", mine.place.position)),
        };
        if steps::unfit(&found, SHAPE).is_some() {
            self.next = Some(Next { rows: BTreeMap::new(), is_loading: true });
        }
        let shards = steps::to_load(&self.shards, &self.next_checkpoints());
        let cut = self.store.head();
        self.rebuilder = match &self.next {
            Some(next) if !next.is_loading => Rebuilder::Follows(self.next_revisions()),
            _ => Rebuilder::Loads { shards, cut, piece: Vec::new() },
        };
    }

    /// Gathers a shard in memory, and writes what is due.
    fn load_next(&mut self, mut shards: VecDeque<Shard>, cut: Position, mut piece: Vec<Rows>) {
        if let Some(shard) = shards.pop_front() {
            piece.push(self.folded(shard, cut));
            let held = piece.iter().map(|rows| rows.applied.len()).sum();
            if steps::is_due(held, PIECE_EVENTS, Duration::ZERO) {
                self.write(&mut piece);
            }
            self.rebuilder = Rebuilder::Loads { shards, cut, piece };
            return;
        }
        self.write(&mut piece);
        if let Some(next) = &mut self.next {
            next.is_loading = false;
        }
        self.rebuilder = Rebuilder::Follows(self.next_revisions());
    }

    fn folded(&self, shard: Shard, cut: Position) -> Rows {
        let (mut place, mut applied) = (Place::origin(self.store.epoch()), Vec::new());
        let events = self.store.shard_after(shard, Position(0));
        for event in events.take_while(|event| event.position <= cut) {
            applied.push((event.position, event.event_id));
            place = Place::from(&**event);
        }
        let price_position = Position(0);
        let checkpoint = Checkpoint { shard, place, scanned_to: cut, price_position, revision: 0 };
        Rows { checkpoint, applied }
    }

    /// Rows and checkpoints of a piece in one transaction.
    fn write(&mut self, piece: &mut Vec<Rows>) {
        for mut rows in piece.drain(..) {
            self.revisions += 1;
            rows.checkpoint.revision = self.revisions;
            let next = self.next.get_or_insert_default();
            next.rows.insert(rows.checkpoint.shard, rows);
        }
    }

    /// Folds what the log has gained in a shard, if the new rows are still ours.
    fn follow_log(&mut self, mine: &mut BTreeMap<Shard, i64>, shard: Shard) -> bool {
        let revisions: Vec<_> = mine.iter().map(|(shard, revision)| (*shard, *revision)).collect();
        if !steps::are_ours(&revisions, &self.next_checkpoints()) {
            return false;
        }
        let head = self.store.head();
        let Some(rows) = self.next.as_mut().and_then(|next| next.rows.get_mut(&shard)) else { return true };
        for event in self.store.shard_after(shard, rows.checkpoint.place.position) {
            rows.applied.push((event.position, event.event_id));
            rows.checkpoint.place = Place::from(&**event);
        }
        self.revisions += 1;
        (rows.checkpoint.scanned_to, rows.checkpoint.revision) = (head, self.revisions);
        mine.insert(shard, self.revisions);
        true
    }

    /// The next step of the promotion, once nothing is left to be loaded.
    pub(super) fn promote(&mut self) {
        match std::mem::take(&mut self.rebuilder) {
            Rebuilder::Follows(mine) => self.rebuilder = Rebuilder::Promotes(mine, Promotion::Locked),
            Rebuilder::Promotes(mine, Promotion::Locked) => self.reach_live(mine),
            Rebuilder::Promotes(mine, Promotion::Reached) => {
                let fence = self.rows.keys().map(|shard| {
                    self.revisions += 1;
                    (*shard, self.revisions)
                });
                self.rebuilder = Rebuilder::Promotes(mine, Promotion::Fenced(fence.collect()));
            }
            Rebuilder::Promotes(mine, Promotion::Fenced(fence)) => self.rename(&mine, &fence),
            other => self.rebuilder = other,
        }
    }

    fn reach_live(&mut self, mut mine: BTreeMap<Shard, i64>) {
        for shard in self.shards.clone() {
            if !self.follow_log(&mut mine, shard) {
                return;
            }
        }
        let live: Vec<Checkpoint> = self.rows.values().map(|rows| rows.checkpoint.clone()).collect();
        let behind = steps::behind(&live, &self.next_checkpoints(), self.store.head());
        let reached = if behind.is_empty() { Promotion::Reached } else { Promotion::Locked };
        self.rebuilder = Rebuilder::Promotes(mine, reached);
    }

    /// The end of the transaction: the live rows are the old ones now, with the revisions of the fence.
    fn rename(&mut self, mine: &BTreeMap<Shard, i64>, fence: &BTreeMap<Shard, i64>) {
        let mine: Vec<_> = mine.iter().map(|(shard, revision)| (*shard, *revision)).collect();
        if !steps::are_ours(&mine, &self.next_checkpoints()) {
            return;
        }
        let Some(next) = self.next.take() else { return };
        self.old = std::mem::replace(&mut self.rows, next.rows);
        for (shard, revision) in fence {
            if let Some(rows) = self.old.get_mut(shard) {
                rows.checkpoint.revision = *revision;
            }
        }
        self.promotions += 1;
        for shard in self.shards.clone() {
            judge::flushed(self, shard);
        }
    }

    fn next_checkpoints(&self) -> Vec<Checkpoint> {
        let rows = self.next.iter().flat_map(|next| next.rows.values());
        rows.map(|rows| rows.checkpoint.clone()).collect()
    }

    fn next_revisions(&self) -> BTreeMap<Shard, i64> {
        self.next_checkpoints().iter().map(|mine| (mine.shard, mine.revision)).collect()
    }
}
