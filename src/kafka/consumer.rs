//! Reading records for one feed: a client on a thread of its own.
//!
//! The thread polls in short steps and hands what comes (records, assignments, revocations) in that order to a bounded
//! channel. Inside a rebalance nothing waits: the checkpoint's revision keeps two owners apart, so there is nothing to
//! finish first. When the feed does not take what is there, the partitions are paused and the thread goes on polling, since a
//! member that does not poll holds up its whole group.
//!
//! What a client cannot get over (a fatal error, lag without progress) ends it and a new one is made. The broker being
//! away is not of that kind: the library reconnects by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use super::headers::{self, Record};
use super::rebalances::{Rebalances, TakenBack};
use super::watchdog::Watchdog;
use super::{Error, KafkaSettings, metric, topics};
use crate::domain::ids::Shard;
use crate::retry::Backoff;

const POLL: Duration = Duration::from_millis(20);
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How long to wait for a full channel before trying again.
const HANDED_OVER_SOON: Duration = Duration::from_millis(2);
/// How long the channel may be full before the partitions are paused.
const PAUSE_AFTER: Duration = Duration::from_millis(500);
/// A client that lived for this long is no reason for a long pause when it ends.
const LIVED_LONG: Duration = Duration::from_secs(60);
/// How long leaving the group may take; a broker that is away notices by itself.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
const CHANNEL: usize = 8;
const RECORDS_MAX: usize = 512;
const BYTES_MAX: usize = 1 << 20;

/// What comes from the bus.
#[derive(Debug)]
pub enum Arrival {
    /// The group, or the caller, gives these.
    Assigned(Vec<Shard>),
    /// The group takes these back in good order.
    Revoked(Vec<Shard>),
    /// The group took these because it thought us dead, or the client was made anew.
    Lost(Vec<Shard>),
    /// In order per shard.
    Records(Vec<Record>),
}

/// Who decides which shards are read.
#[derive(Debug, Clone)]
pub enum Membership {
    /// The group of this name.
    Group(String),
    /// Nobody: all of them.
    Alone,
}

/// A reader of some shards. Dropping it leaves the group in the background.
#[derive(Debug)]
pub struct Consumer {
    arrivals: mpsc::Receiver<Arrival>,
    shared: Arc<Shared>,
    ended: Option<oneshot::Receiver<()>>,
}

/// What the feed tells the thread.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// By shard, the offset of the next record to be read.
    commits: Mutex<BTreeMap<Shard, i64>>,
    /// What the group has taken back in good order and not given again.
    taken_back: Arc<TakenBack>,
}

impl Consumer {
    /// Starts reading. The brokers need not be there.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub fn start(settings: &KafkaSettings, membership: Membership, shards: &[Shard]) -> Result<Self, Error> {
        let (sender, arrivals) = mpsc::channel(CHANNEL);
        let (end, ended) = oneshot::channel();
        let shared = Arc::new(Shared::default());
        let reader = Reader {
            settings: settings.clone(),
            membership,
            shards: shards.to_vec(),
            shared: shared.clone(),
            sender,
            outbox: VecDeque::new(),
            outbox_since: None,
            paused: false,
            said: None,
        };
        // The first client is made here, so that wrong settings are an error now.
        let client = reader.client()?;
        let thread = thread::Builder::new().name("kafka consumer".to_owned());
        let body = move || {
            let mut reader = reader;
            reader.run(client);
            // Nobody may be waiting.
            let _ = end.send(());
        };
        thread.spawn(body).expect("a process that cannot make a thread cannot go on");
        Ok(Self { arrivals, shared, ended: Some(ended) })
    }

    /// What comes next. Cancel-safe.
    pub async fn arrival(&mut self) -> Arrival {
        match self.arrivals.recv().await {
            Some(arrival) => arrival,
            // The thread ends only when it is told to.
            None => std::future::pending().await,
        }
    }

    /// What is there already.
    pub fn try_arrival(&mut self) -> Option<Arrival> {
        self.arrivals.try_recv().ok()
    }

    /// Lets the group's offset of a shard be `next`, soon.
    pub fn commit(&self, shard: Shard, next: i64) {
        self.shared.commits().insert(shard, next);
    }

    /// Of these shards, those that the group has taken back, also if nobody has come to the [`Arrival`] that says so: they
    /// have another owner by now.
    pub fn taken_back(&self, shards: &[Shard]) -> Vec<Shard> {
        self.shared.taken_back.among(shards)
    }

    /// Leaves the group, and waits a little until that is done.
    pub async fn close(mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.arrivals.close();
        if let Some(ended) = self.ended.take() {
            // Too late or without a word: there is nothing more to do about it.
            let _ = tokio::time::timeout(LEAVE_WITHIN, ended).await;
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn commits(&self) -> std::sync::MutexGuard<'_, BTreeMap<Shard, i64>> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Why a client is of no more use.
enum End {
    Stopped,
    Broken(String),
}

/// The thread.
struct Reader {
    settings: KafkaSettings,
    membership: Membership,
    shards: Vec<Shard>,
    shared: Arc<Shared>,
    sender: mpsc::Sender<Arrival>,
    /// What the channel has not taken yet, in order.
    outbox: VecDeque<Arrival>,
    outbox_since: Option<Instant>,
    paused: bool,
    /// The trouble that was last logged: it is said once.
    said: Option<String>,
}

impl Reader {
    fn run(&mut self, first: BaseConsumer<Rebalances>) {
        let mut client = Some(first);
        let mut pauses = Backoff::pauses(Duration::from_millis(200), Duration::from_secs(5));
        while !self.shared.stopped() {
            let began = Instant::now();
            let made = match client.take() {
                Some(client) => Ok(client),
                None => self.client(),
            };
            let end = match made {
                Ok(client) => self.read(&client),
                Err(error) => End::Broken(error.to_string()),
            };
            if began.elapsed() > LIVED_LONG {
                pauses.reset();
            }
            if let End::Broken(reason) = end {
                metrics::counter!(metric::CONSUMERS_REMADE).increment(1);
                tracing::warn!(reason, "the Kafka consumer is made anew");
                thread::sleep(pauses.next_pause());
            }
        }
    }

    fn client(&self) -> Result<BaseConsumer<Rebalances>, Error> {
        let mut config = self.settings.client();
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Committed offsets are a hint: what lies between is repaired from the store, faster than it is read here.
            .set("auto.offset.reset", "latest")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.error.backoff.ms", "100")
            .set("fetch.queue.backoff.ms", "20")
            .set("max.partition.fetch.bytes", "524288")
            .set("fetch.max.bytes", "8388608")
            .set("queued.max.messages.kbytes", "16384")
            .set("statistics.interval.ms", "5000")
            .set_log_level(RDKafkaLogLevel::Info);
        let session_ms = self.settings.session_timeout.as_millis();
        match &self.membership {
            Membership::Group(name) => config
                .set("group.id", self.settings.group_name(name))
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", session_ms.to_string())
                // A member learns by its next heartbeat that the group is being dealt anew, and shards that move stand
                // still until every member knows.
                .set("heartbeat.interval.ms", (session_ms / 20).to_string()),
            // The library wants a name to assign partitions, although nobody joins.
            Membership::Alone => config.set("group.id", self.settings.group_name("alone")),
        };
        let context = Rebalances::new(self.settings.clone(), Arc::clone(&self.shared.taken_back));
        config.create_with_context(context).map_err(Error::Settings)
    }

    /// Reads until it is stopped or the client is broken. The client leaves the group when it is dropped.
    fn read(&mut self, client: &BaseConsumer<Rebalances>) -> End {
        if let Err(error) = self.begin(client) {
            return End::Broken(error.to_string());
        }
        let mut watchdog = Watchdog::new(self.settings.stall_timeout, Instant::now());
        let mut commit_at = Instant::now() + COMMIT_EVERY;
        self.paused = false;
        let end = loop {
            if self.shared.stopped() || self.sender.is_closed() {
                break End::Stopped;
            }
            self.hand_over(client);
            // Until the partitions are paused, polling would pile up what the channel does not take.
            let waiting = !self.outbox.is_empty() && !self.paused;
            let taken = match if waiting { Ok(0) } else { self.poll(client) } {
                Ok(taken) => taken,
                Err(reason) => break End::Broken(reason),
            };
            let now = Instant::now();
            let lag = client.context().lag();
            if watchdog.stalled(lag, taken, self.paused, now) {
                break End::Broken(format!("{lag} records behind and no progress"));
            }
            if now >= commit_at {
                self.commit(client);
                commit_at = now + COMMIT_EVERY;
            }
        };
        self.commit(client);
        self.lose_everything(client);
        end
    }

    fn begin(&mut self, client: &BaseConsumer<Rebalances>) -> Result<(), KafkaError> {
        if matches!(self.membership, Membership::Group(_)) {
            let topics = self.shards.iter().filter_map(|shard| topics::partition_of(*shard));
            let names: BTreeSet<_> = topics.map(|(topic, _)| self.settings.topic_name(topic)).collect();
            return client.subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let mut all = TopicPartitionList::new();
        for shard in &self.shards {
            if let Some((topic, partition)) = topics::partition_of(*shard) {
                all.add_partition_offset(&self.settings.topic_name(topic), partition, Offset::End)?;
            }
        }
        client.assign(&all)?;
        self.outbox.push_back(Arrival::Assigned(self.shards.clone()));
        Ok(())
    }

    /// Takes what there is, up to a limit. Returns how many records that were.
    fn poll(&mut self, client: &BaseConsumer<Rebalances>) -> Result<usize, String> {
        let mut records = Vec::new();
        let (mut taken, mut bytes) = (0, 0);
        let mut wait = POLL;
        while taken < RECORDS_MAX && bytes < BYTES_MAX {
            let polled = client.poll(wait);
            self.put_changes_behind(&mut records, client);
            match polled {
                None => break,
                Some(Ok(message)) => {
                    self.recovered();
                    taken += 1;
                    bytes += message.payload_len();
                    records.extend(self.record(&message));
                }
                Some(Err(error)) => self.trouble(&error)?,
            }
            wait = Duration::ZERO;
        }
        if !records.is_empty() {
            self.outbox.push_back(Arrival::Records(records));
        }
        Ok(taken)
    }

    /// Assignments and revocations come after the records that were read before them.
    fn put_changes_behind(&mut self, records: &mut Vec<Record>, client: &BaseConsumer<Rebalances>) {
        let changes = client.context().take();
        if changes.is_empty() {
            return;
        }
        if !records.is_empty() {
            self.outbox.push_back(Arrival::Records(std::mem::take(records)));
        }
        self.outbox.extend(changes);
    }

    fn record(&self, message: &BorrowedMessage<'_>) -> Option<Record> {
        let shard = self.settings.shard_of(message.topic(), message.partition())?;
        match headers::decode(shard, message) {
            Ok(record) => Some(record),
            Err(reason) => {
                metrics::counter!(metric::RECORDS_MALFORMED).increment(1);
                let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
                tracing::warn!(topic, partition, offset, %reason, "not a record of ours");
                None
            }
        }
    }

    /// A passing trouble is logged once; a fatal one ends the client.
    fn trouble(&mut self, error: &KafkaError) -> Result<(), String> {
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return Err(error.to_string());
        }
        let text = error.to_string();
        if self.said.as_ref() != Some(&text) {
            tracing::warn!(error = text, "Kafka is in trouble; the store is read instead");
            metrics::gauge!(metric::CONSUMER_IN_TROUBLE).set(1.0);
            self.said = Some(text);
        }
        Ok(())
    }

    fn recovered(&mut self) {
        if self.said.take().is_some() {
            tracing::info!("Kafka is back");
            metrics::gauge!(metric::CONSUMER_IN_TROUBLE).set(0.0);
        }
    }

    /// Gives the channel what it takes; pauses when it takes nothing for a while.
    fn hand_over(&mut self, client: &BaseConsumer<Rebalances>) {
        while let Some(arrival) = self.outbox.pop_front() {
            if let Err(error) = self.sender.try_send(arrival) {
                self.outbox.push_front(error.into_inner());
                break;
            }
        }
        if self.outbox.is_empty() {
            self.outbox_since = None;
            if self.paused {
                self.paused = client.assignment().and_then(|all| client.resume(&all)).is_err();
            }
            return;
        }
        let since = *self.outbox_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= PAUSE_AFTER {
            // Also what was assigned while paused.
            self.paused |= client.assignment().and_then(|all| client.pause(&all)).is_ok();
        }
        thread::sleep(HANDED_OVER_SOON);
    }

    fn commit(&mut self, client: &BaseConsumer<Rebalances>) {
        let commits = std::mem::take(&mut *self.shared.commits());
        if commits.is_empty() || matches!(self.membership, Membership::Alone) {
            return;
        }
        let mut offsets = TopicPartitionList::new();
        for (shard, next) in commits {
            if let Some((topic, partition)) = topics::partition_of(shard) {
                let name = self.settings.topic_name(topic);
                if let Err(error) = offsets.add_partition_offset(&name, partition, Offset::Offset(next)) {
                    tracing::debug!(%error, %shard, "offset not committed");
                }
            }
        }
        if let Err(error) = client.commit(&offsets, CommitMode::Async) {
            tracing::debug!(%error, "offsets not committed");
        }
    }

    /// What this client has been given is nobody's until the next one is given something.
    fn lose_everything(&mut self, client: &BaseConsumer<Rebalances>) {
        client.context().give_up();
        self.outbox.extend(client.context().take());
        self.outbox.push_back(Arrival::Lost(self.shards.clone()));
    }
}
