//! What there is: the database, the bus, processes and clients, and how one operation changes them.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};

use super::bus::{Bus, Hand};
use super::clients::Clients;
use super::operations::{Operation, Process};
use super::postgres::PostgresLog;
use super::projector::{Projector, Rows};
use super::rebuild::{Next, Rebuilder};
use super::relay::Relay;
use super::store::Store;
use super::writer::Writer;
use crate::domain::ids::{Epoch, Position, Shard};
use crate::relay::window::Progress;

/// Processes of each role.
pub(super) const WRITERS: usize = 2;
pub(super) const RELAYS: usize = 2;
pub(super) const PROJECTORS: usize = 3;

/// What a backup of the database holds.
pub(super) struct Backup {
    head: Position,
    epochs: Vec<(Epoch, Position)>,
    progress: BTreeMap<Shard, Progress>,
    rows: BTreeMap<Shard, Rows>,
    old: BTreeMap<Shard, Rows>,
    next: Option<Next>,
    revisions: i64,
}

/// Everything.
pub(super) struct World {
    pub(super) store: Store,
    pub(super) progress: BTreeMap<Shard, Progress>,
    pub(super) rows: BTreeMap<Shard, Rows>,
    /// What a rebuild has replaced.
    pub(super) old: BTreeMap<Shard, Rows>,
    /// What a rebuild has made beside them.
    pub(super) next: Option<Next>,
    pub(super) rebuilder: Rebuilder,
    /// Rebuilds that were promoted.
    pub(super) promotions: usize,
    pub(super) revisions: i64,
    pub(super) bus: Bus,
    pub(super) shards: Vec<Shard>,
    pub(super) writers: Vec<Writer>,
    pub(super) relays: Vec<Relay>,
    /// Whose session holds the relay's lock.
    pub(super) relay_lock: Option<usize>,
    pub(super) projectors: Vec<Projector>,
    pub(super) clients: Clients,
    pub(super) now: Instant,
    backup: Option<Backup>,
    /// The database was restored, and nobody has said so yet.
    is_suspect: bool,
    /// Restores so far: after one, a topic may hold dead history.
    pub(super) restores: usize,
}

impl World {
    /// An investor, two assets and three portfolios, and every process started.
    pub(super) fn new(beside: Option<PostgresLog>) -> Self {
        let mut world = Self {
            store: Store::new(beside),
            progress: BTreeMap::new(),
            rows: BTreeMap::new(),
            old: BTreeMap::new(),
            next: None,
            rebuilder: Rebuilder::default(),
            promotions: 0,
            revisions: 0,
            bus: Bus::default(),
            shards: Vec::new(),
            writers: (0..WRITERS).map(|_| Writer::default()).collect(),
            relays: (0..RELAYS).map(|_| Relay::default()).collect(),
            relay_lock: None,
            projectors: (0..PROJECTORS).map(|_| Projector::default()).collect(),
            clients: Clients::default(),
            now: Instant::now(),
            backup: None,
            is_suspect: false,
            restores: 0,
        };
        world.set_up();
        world
    }

    fn set_up(&mut self) {
        for command in self.clients.opening() {
            self.clients.send(command, 0, &mut self.writers[0]);
            self.writers[0].work(&mut self.store);
            self.clients.hear(&mut self.writers, &mut self.store);
        }
        assert!(self.clients.all_accepted(), "the world begins as it should");
        let mut shards: Vec<Shard> = self.store.all().iter().map(|event| event.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        self.shards = shards;
        self.rebalance(0);
    }

    /// One operation. What cannot be done now is passed over: any list of operations is a history.
    pub(super) fn run(&mut self, operation: Operation) {
        self.now += Duration::from_millis(50);
        match operation {
            Operation::Send { wish, writer } => {
                let command = self.clients.wish(wish, &self.store);
                self.clients.send(command, writer, &mut self.writers[writer]);
            }
            Operation::Resend { call, writer } => {
                self.clients.resend(call, writer, &mut self.writers[writer]);
            }
            Operation::Hear => self.clients.hear(&mut self.writers, &mut self.store),
            Operation::Form(writer) => self.writers[writer].form(),
            Operation::Append(writer) => self.writers[writer].append(&mut self.store),
            Operation::AppendUnheard(writer) => self.writers[writer].append_unheard(&mut self.store),
            Operation::Settle(writer) => self.writers[writer].settle(&self.store),
            Operation::Lead(relay) => self.lead(relay),
            Operation::Copy { relay, events } => self.copy(relay, events),
            Operation::Deliver { relay, records } => self.deliver(relay, records),
            Operation::Save(relay) => self.save(relay),
            Operation::LoseLock => self.relay_lock = None,
            Operation::Fetch { projector, records } => self.fetch(projector, records),
            Operation::FetchAlone { projector, records } => self.fetch_alone(projector, records),
            Operation::Fold(projector) => self.fold(projector),
            Operation::Flush(projector) => self.flush(projector),
            Operation::Freeze(projector) => self.projectors[projector].frozen = true,
            Operation::Thaw(projector) => self.projectors[projector].frozen = false,
            Operation::Rebalance(draw) => self.rebalance(draw),
            Operation::Redeliver { projector, back } => self.projectors[projector].go_back(back),
            Operation::Skip { projector, records } => self.projectors[projector].skip(records),
            Operation::Rebuild { shard } => self.rebuild(self.shard(shard)),
            Operation::Promote => self.promote(),
            Operation::DeleteTopic => self.bus.delete(),
            Operation::Expire { shard, records } => self.bus.expire(self.shard(shard), records),
            Operation::Cut { shard, records } => self.bus.cut(self.shard(shard), records),
            Operation::Double { shard, record } => self.bus.double(self.shard(shard), record),
            Operation::Swap { shard, record } => self.bus.swap(self.shard(shard), record),
            Operation::Silence => self.now += Duration::from_secs(15),
            Operation::Kill(process) => self.kill(process),
            Operation::BackUp => self.back_up(),
            Operation::Restore => self.restore(),
            Operation::NewEpoch => self.new_epoch(),
        }
    }

    fn shard(&self, drawn: usize) -> Shard {
        self.shards[drawn % self.shards.len()]
    }

    /// `kill -9`, and started again.
    fn kill(&mut self, process: Process) {
        match process {
            Process::Writer(n) => self.writers[n] = Writer::default(),
            Process::Relay { relay, written } => {
                // What was on its way may have been written, in order, without anybody hearing of it.
                for record in self.relays[relay].die(written) {
                    self.bus.write(record, Hand::Another);
                }
                if self.relay_lock == Some(relay) {
                    self.relay_lock = None;
                }
            }
            Process::Projector(n) => {
                self.projectors[n] = Projector::default();
                self.rebalance(n);
            }
            Process::Rebuilder => self.rebuilder = Rebuilder::Down,
        }
    }

    fn back_up(&mut self) {
        self.backup = Some(Backup {
            head: self.store.head(),
            epochs: self.store.epochs(),
            progress: self.progress.clone(),
            rows: self.rows.clone(),
            old: self.old.clone(),
            next: self.next.clone(),
            revisions: self.revisions,
        });
    }

    /// The database is as it was at the backup; every connection is lost. Whoever has seen more finds out when next it asks.
    fn restore(&mut self) {
        let Some(backup) = self.backup.take() else { return };
        if backup.head == self.store.head() && self.restores == 0 {
            return;
        }
        self.store.restore(backup.head, backup.epochs);
        self.progress = backup.progress;
        self.rows = backup.rows;
        self.old = backup.old;
        self.next = backup.next;
        self.rebuilder = Rebuilder::Down;
        self.revisions = backup.revisions;
        self.restores += 1;
        self.is_suspect = true;
        self.clients.lost_after(backup.head);
        self.relay_lock = None;
        for writer in &mut self.writers {
            writer.look(&self.store);
        }
        for projector in &mut self.projectors {
            projector.doubt();
        }
    }

    /// Somebody has found a fork. There must be one.
    pub(super) fn fork(&self, reason: &str) {
        assert!(self.is_suspect, "a fork that is none: {reason}");
    }

    /// The operator asks the topics which numbers were used, begins another epoch and starts every process again.
    fn new_epoch(&mut self) {
        self.store.new_epoch(self.bus.newest_epoch());
        self.is_suspect = false;
        self.start_all_again();
    }

    fn start_all_again(&mut self) {
        for writer in &mut self.writers {
            *writer = Writer::default();
        }
        for relay in &mut self.relays {
            *relay = Relay::default();
        }
        self.relay_lock = None;
        self.rebuilder = Rebuilder::Down;
        for projector in &mut self.projectors {
            *projector = Projector::default();
        }
        self.rebalance(0);
    }

    /// Everything comes back and nothing more goes wrong: does all arrive where it should?
    ///
    /// # Errors
    /// What keeps on changing or never arrives.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        for projector in &mut self.projectors {
            projector.frozen = false;
        }
        self.relay_lock = None;
        self.rebuilder = Rebuilder::Down;
        self.rebalance(0);
        if self.is_suspect {
            self.new_epoch();
        }
        for _ in 0..60 {
            self.now += Duration::from_secs(15);
            self.clients.resend_unknown(&mut self.writers);
            for n in 0..WRITERS {
                self.writers[n].work(&mut self.store);
            }
            self.clients.hear(&mut self.writers, &mut self.store);
            for relay in 0..RELAYS {
                self.lead(relay);
                self.copy(relay, 1_000);
                self.deliver(relay, 1_000);
                self.save(relay);
            }
            for projector in 0..PROJECTORS {
                self.fetch(projector, 1_000);
                while self.projectors[projector].has_items() {
                    self.fold(projector);
                    self.flush(projector);
                }
                self.flush(projector);
            }
            if self.is_settled() {
                return Ok(());
            }
        }
        Err("it does not settle".to_owned())
    }

    fn is_settled(&self) -> bool {
        let head = self.store.head();
        self.clients.all_told()
            && self.writers.iter().all(Writer::is_idle)
            && self.relays.iter().all(Relay::is_idle)
            && self
                .shards
                .iter()
                .all(|shard| self.rows.get(shard).is_some_and(|rows| rows.scanned_to() == head))
            && self.relay_lock.is_some_and(|relay| self.relays[relay].has_sent_all(&self.store))
    }
}
