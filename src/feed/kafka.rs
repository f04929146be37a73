//! The feed through Kafka.
//!
//! Records come quickly; that they are right is never taken for granted. Each is judged by the chain of its shard, and what
//! the chain cannot vouch for is asked of the store. So a topic may be missing, truncated, filled twice or by a relay of
//! a dead history, and the broker may be away: the feed then goes on from the store, a second later.
//!
//! Nor is the chain itself enough: after a restore a topic may continue it with events that the store does not have. So the store is shown
//! the last event of each shard before a batch is handed on, one lookup of at most 33 keys. What it does not have is
//! dropped if a later epoch explains it; else the log has forked.

use std::collections::VecDeque;
use std::sync::Arc;

use sqlx::PgPool;
use tokio::time::{Instant, sleep_until};

use super::chain::{Dropped, Link};
use super::offsets::Offsets;
use super::repair::{Confirmed, Repair};
use super::tracks::{Seen, Taken, Tracks};
use super::{Batch, Error, FeedItem, Mode, Subscription, metric};
use crate::domain::ids::{Position, Shard};
use crate::event_store::Place;
use crate::events::Envelope;
use crate::kafka::consumer::{Arrival, Consumer, Membership};
use crate::kafka::{KafkaSettings, Record};

/// One consumer's feed.
#[derive(Debug)]
pub(super) struct KafkaFeed {
    consumer: Consumer,
    batch_events_max: usize,
    tracks: Tracks,
    repair: Repair,
    offsets: Offsets,
    /// Events that come next, not yet confirmed by the store.
    gathered: Vec<Arc<Envelope>>,
    /// What came behind them and is not a record.
    change: Option<Arrival>,
    pending: VecDeque<FeedItem>,
    counters: Counters,
}

#[derive(Debug)]
struct Counters {
    events: metrics::Counter,
    duplicates: metrics::Counter,
    dead: metrics::Counter,
    gaps: metrics::Counter,
    repaired: metrics::Counter,
}

impl KafkaFeed {
    pub(super) fn open(
        settings: &KafkaSettings,
        pool: PgPool,
        subscription: Subscription,
    ) -> Result<Self, Error> {
        let membership = match subscription.mode {
            Mode::Group => Membership::Group(subscription.name.clone()),
            Mode::Manual => Membership::Alone,
        };
        let consumer = Consumer::start(settings, membership, &subscription.topics.shards())
            .map_err(|error| Error::Kafka(error.to_string()))?;
        Ok(Self {
            consumer,
            batch_events_max: subscription.batch_events_max,
            tracks: Tracks::default(),
            repair: Repair::new(pool),
            offsets: Offsets::default(),
            gathered: Vec::new(),
            change: None,
            pending: VecDeque::new(),
            counters: Counters::of(&subscription.name),
        })
    }

    pub(super) async fn next(&mut self) -> Result<FeedItem, Error> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                return Ok(item);
            }
            if !self.gathered.is_empty() {
                self.confirm().await?;
                self.hand_on();
                continue;
            }
            if let Some(change) = self.change.take() {
                self.change(change);
                continue;
            }
            if self.ask_the_store().await? {
                continue;
            }
            let alarm = self.alarm();
            tokio::select! {
                // What has arrived goes first: a shard is silent only if nothing of it is waiting here.
                biased;
                arrival = self.consumer.arrival() => self.take_what_is_there(arrival)?,
                () = sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() => {
                    self.tracks.notice_silence(Taken::Everything, Instant::now());
                    self.hand_on();
                }
            }
        }
    }

    pub(super) async fn recognises(&mut self) -> Result<bool, Error> {
        self.repair.recognises().await
    }

    pub(super) fn resume(&mut self, places: Vec<(Shard, Place)>) {
        let shards: Vec<_> = places.iter().map(|(shard, _)| *shard).collect();
        // What was read behind the old places comes again behind the new ones.
        self.pending.iter_mut().for_each(|item| item.forget(&shards));
        self.gathered.retain(|event| !shards.contains(&event.shard));
        let given_up = self.tracks.resume(places, Instant::now());
        self.give_up(given_up);
    }

    pub(super) fn taken_back(&self, shards: &[Shard]) -> Vec<Shard> {
        self.consumer.taken_back(shards)
    }

    pub(super) fn commit_hint(&mut self, places: &[(Shard, Position)]) {
        for (shard, position) in places {
            if let Some(next) = self.offsets.covered(*shard, *position) {
                self.consumer.commit(*shard, next);
            }
        }
    }

    pub(super) async fn close(self) {
        self.consumer.close().await;
    }

    /// Shows the store what was gathered, and lets go of what it does not vouch for. Cancel-safe: until it has answered, nothing
    /// has changed.
    async fn confirm(&mut self) -> Result<(), Error> {
        let back = match self.repair.confirm(&self.tracks.unsure()).await? {
            Confirmed::All => {
                self.tracks.confirm(Instant::now());
                return Ok(());
            }
            Confirmed::Dead(places) => {
                let back = self.tracks.go_back(Some(&places));
                self.tracks.confirm(Instant::now());
                self.counters.dead.increment(self.gathered_of(&back) as u64);
                back
            }
            // The repair brings it when the store is there again.
            Confirmed::Unknown => {
                self.tracks.doubt_all();
                self.tracks.go_back(None)
            }
        };
        self.gathered.retain(|event| !back.contains(&event.shard));
        Ok(())
    }

    fn gathered_of(&self, shards: &[Shard]) -> usize {
        self.gathered.iter().filter(|event| shards.contains(&event.shard)).count()
    }

    /// The repair: one statement about what is in doubt, or else about what was not confirmed for long. Returns whether
    /// there was an answer.
    async fn ask_the_store(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        if self.repair.resting_until(now).is_some() {
            return Ok(false);
        }
        self.tracks.notice_silence(Taken::Some, now);
        let mut asked = self.tracks.doubtful();
        if asked.is_empty() {
            asked = self.tracks.unconfirmed(now);
        }
        if asked.is_empty() {
            return Ok(false);
        }
        let Some(answer) = self.repair.ask(&asked).await? else {
            self.tracks.doubt_all();
            return Ok(false);
        };
        let brought = self
            .tracks
            .repaired(&asked, answer.slice, answer.limit_per_shard, answer.epoch, now)
            .map_err(Error::Fork)?;
        self.counters.repaired.increment(brought.len() as u64);
        self.gathered.extend(brought);
        self.hand_on();
        Ok(true)
    }

    fn take_what_is_there(&mut self, first: Arrival) -> Result<(), Error> {
        let mut arrived = Some(first);
        while let Some(arrival) = arrived {
            let Arrival::Records(records) = arrival else {
                // What was gathered came before the change.
                self.change = Some(arrival);
                return Ok(());
            };
            let now = Instant::now();
            for record in records {
                self.see(record, now)?;
            }
            let is_enough = self.gathered.len() >= self.batch_events_max;
            arrived = if is_enough { None } else { self.consumer.try_arrival() };
        }
        Ok(())
    }

    fn change(&mut self, change: Arrival) {
        match change {
            Arrival::Assigned(shards) => {
                let change = self.tracks.assign(&shards);
                self.give_up(change.revoked);
                if !change.assigned.is_empty() {
                    self.pending.push_back(FeedItem::Assigned(change.assigned));
                }
            }
            Arrival::Revoked(shards) => {
                let mine = self.tracks.revoke(&shards);
                self.give_up(mine);
            }
            Arrival::Lost(shards) => {
                let dropped = self.tracks.lose(&shards);
                self.give_up(dropped);
            }
            Arrival::Records(_) => {}
        }
    }

    fn see(&mut self, record: Record, now: Instant) -> Result<(), Error> {
        let Record { event, previous, offset } = record;
        let link = Link { epoch: event.epoch, position: event.position, event_id: event.event_id, previous };
        let shard = event.shard;
        match self.tracks.see(&link, &event, now) {
            Seen::Next => self.gathered.push(event),
            Seen::Dropped(Dropped::Duplicate) => self.counters.duplicates.increment(1),
            Seen::Dropped(Dropped::DeadHistory) => self.counters.dead.increment(1),
            Seen::Gap => self.counters.gaps.increment(1),
            Seen::NotFollowed => return Ok(()),
            Seen::Fork(reason) => return Err(Error::Fork(reason)),
        }
        if let Some(position) = self.tracks.position(shard)
            && let Some(next) = self.offsets.read(shard, position, offset + 1)
        {
            self.consumer.commit(shard, next);
        }
        Ok(())
    }

    fn give_up(&mut self, shards: Vec<Shard>) {
        self.offsets.forget(&shards);
        if !shards.is_empty() {
            self.pending.push_back(FeedItem::Revoked(shards));
        }
    }

    /// Makes items of what was gathered, and of progress that is due to be told.
    fn hand_on(&mut self) {
        let events = std::mem::take(&mut self.gathered);
        self.counters.events.increment(events.len() as u64);
        let scanned_to = self.tracks.tell(&events, Instant::now());
        let batches = Batch::split(events, scanned_to, self.batch_events_max);
        self.pending.extend(batches.into_iter().map(FeedItem::Batch));
    }

    /// When there is something to do although nothing arrives.
    fn alarm(&self) -> Option<Instant> {
        let now = Instant::now();
        let asked = match self.repair.resting_until(now) {
            Some(rested) => self.tracks.next_due().map(|due| due.max(rested)),
            None => self.tracks.next_due(),
        };
        let told = self.tracks.tell_due().filter(|_| self.tracks.untold());
        asked.into_iter().chain(told).min()
    }
}

impl Counters {
    fn of(feed: &str) -> Self {
        let dropped =
            |why: &'static str| metrics::counter!(metric::DROPPED, "feed" => feed.to_owned(), "why" => why);
        Self {
            events: metrics::counter!(metric::EVENTS, "feed" => feed.to_owned()),
            duplicates: dropped("duplicate"),
            dead: dropped("dead_history"),
            gaps: metrics::counter!(metric::GAPS, "feed" => feed.to_owned()),
            repaired: metrics::counter!(metric::REPAIRED, "feed" => feed.to_owned()),
        }
    }
}
