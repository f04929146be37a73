//! The feed straight from the store.
//!
//! However many feeds a process has, **one** task reads the log for all of them, in position order, woken by the
//! notification and by a timer, and keeps the newest part in memory. Each feed first catches up by the repair statement, which
//! reads only its own shards and so does not care how long ago a quiet shard had its last event; from where its slowest
//! shard stands it then takes the events from memory. A feed that falls behind the memory catches up the same way.
//!
//! The log has no holes and commits in position order, so what is read after a place is all there is: nothing to check but that
//! the store is still the same one, at every reconnect.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::lock::Contender;
use super::repair::Repair;
use super::tracks::Tracks;
use super::window::{Window, WindowLimits};
use super::{Batch, Error, FeedItem, Mode, Subscription, metric};
use crate::domain::ids::{Position, Shard};
use crate::event_store::{ChunkSize, Place, PlaceCheck, check_place, head_place, read};
use crate::events::Envelope;
use crate::postgres::{Listener, Wake, answered, checked_often};
use crate::retry::Backoff;

const CHANNEL: &str = "insight_head";
const POLL_EVERY: Duration = Duration::from_millis(500);
const CHUNK_EVENTS: usize = 5_000;
const CHUNK_BYTES: usize = 4 << 20;
/// How many events of other shards a feed looks at before it lets others run.
const LOOK_AT_MAX: usize = 16_384;

/// The one reader of a process. Dropping it ends the reading.
#[derive(Debug)]
pub struct StoreTail {
    pool: PgPool,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    window: RwLock<Window>,
    state: watch::Sender<State>,
}

/// Where the reader is.
#[derive(Debug, Clone)]
enum State {
    /// The store has not answered yet.
    Starting,
    /// Everything up to here is in the window, or was.
    At(Position),
    /// It will not go on.
    Ended(Error),
}

impl StoreTail {
    /// Starts reading at the head. A server that is away is waited for.
    pub fn start(pool: PgPool, limits: WindowLimits) -> Arc<Self> {
        let shared = Arc::new(Shared {
            window: RwLock::new(Window::new(Position(0), limits)),
            state: watch::Sender::new(State::Starting),
        });
        let reader = Reader {
            pool: pool.clone(),
            shared: shared.clone(),
            chunk: ChunkSize::new(CHUNK_EVENTS, CHUNK_BYTES),
        };
        let ending = shared.clone();
        let task = tokio::spawn(async move {
            let Err(error) = reader.run(limits).await;
            ending.state.send_replace(State::Ended(error));
        });
        Arc::new(Self { pool, shared, _task: AbortOnDropHandle::new(task) })
    }
}

impl Shared {
    fn with_window<T>(&self, look: impl FnOnce(&Window) -> T) -> T {
        look(&self.window.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change_window(&self, change: impl FnOnce(&mut Window)) {
        change(&mut self.window.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The task behind the tail.
struct Reader {
    pool: PgPool,
    shared: Arc<Shared>,
    chunk: ChunkSize,
}

impl Reader {
    async fn run(mut self, limits: WindowLimits) -> Result<std::convert::Infallible, Error> {
        let mut listener = Listener::start((*self.pool.connect_options()).clone(), CHANNEL);
        let mut pauses = Backoff::pauses(Duration::from_millis(50), Duration::from_secs(2));
        let mut last: Option<Place> = None;
        let mut doubtful = false;
        loop {
            match self.step(&mut last, doubtful, limits).await {
                Ok(more) => {
                    pauses.reset();
                    doubtful = !more && listener.wait(POLL_EVERY).await == Wake::Lost;
                }
                // The process is ending, and its readers have.
                Err(_) if self.pool.is_closed() => return std::future::pending().await,
                Err(Error::Store(error)) if error.is_transient() => {
                    if pauses.count() == 0 {
                        tracing::warn!(%error, "the log cannot be read; trying again until it can");
                    }
                    doubtful = true;
                    pauses.sleep().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Finds the head the first time, then reads on. Returns whether there is more to read at once.
    async fn step(
        &mut self,
        last: &mut Option<Place>,
        doubtful: bool,
        limits: WindowLimits,
    ) -> Result<bool, Error> {
        let Some(place) = last else {
            let place = match answered(head_place(&self.pool)).await? {
                Some(place) => place,
                None => Place::origin(answered(read::epoch_at_head(&self.pool)).await?),
            };
            self.shared.change_window(|window| *window = Window::new(place.position, limits));
            self.shared.state.send_replace(State::At(place.position));
            *last = Some(place);
            return Ok(true);
        };
        if doubtful && let PlaceCheck::Fork { reason } = answered(check_place(&self.pool, place)).await? {
            return Err(Error::Fork(reason));
        }
        let limit = self.chunk.events();
        let wanted = i64::try_from(limit).unwrap_or(i64::MAX);
        let slice = answered(read::after(&self.pool, place.position, wanted)).await?;
        if slice.head < place.position {
            return Err(Error::Fork(format!("the head was {} and is now {}", place.position, slice.head)));
        }
        let Some(newest) = slice.events.last() else { return Ok(false) };
        *place = Place::from(newest);
        let (end, more) = (newest.position, slice.events.len() == limit);
        self.chunk.observe(&slice.events);
        self.shared.change_window(|window| window.extend(slice.events));
        self.shared.state.send_replace(State::At(end));
        metrics::gauge!(metric::WINDOW_END).set(end.0 as f64);
        Ok(more)
    }
}

/// One consumer's feed.
#[derive(Debug)]
pub(super) struct StoreFeed {
    tail: Arc<StoreTail>,
    state: watch::Receiver<State>,
    subscription: Subscription,
    shards: Vec<Shard>,
    tracks: Tracks,
    repair: Repair,
    /// None with [`Mode::Manual`].
    lock: Option<Contender>,
    term: Option<u64>,
    pending: VecDeque<FeedItem>,
    events_total: metrics::Counter,
}

impl StoreFeed {
    pub(super) fn open(tail: Arc<StoreTail>, subscription: Subscription) -> Self {
        let shards = subscription.topics.shards();
        let mut tracks = Tracks::default();
        let mut pending = VecDeque::new();
        let lock = match subscription.mode {
            Mode::Group => {
                let options = checked_often(&tail.pool.connect_options());
                Some(Contender::start(options, format!("feed {}", subscription.name)))
            }
            Mode::Manual => {
                pending.push_back(FeedItem::Assigned(tracks.assign(&shards).assigned));
                None
            }
        };
        Self {
            state: tail.shared.state.subscribe(),
            repair: Repair::new(tail.pool.clone()),
            events_total: metrics::counter!(metric::EVENTS, "feed" => subscription.name.clone()),
            tail,
            subscription,
            shards,
            tracks,
            lock,
            term: None,
            pending,
        }
    }

    pub(super) async fn next(&mut self) -> Result<FeedItem, Error> {
        loop {
            self.follow_lock();
            if let Some(item) = self.pending.pop_front() {
                return Ok(item);
            }
            let read_to = match &*self.state.borrow_and_update() {
                State::Ended(error) => return Err(error.clone()),
                State::At(position) => Some(*position),
                State::Starting => None,
            };
            let busy = self.catch_up().await? || read_to.is_some_and(|to| self.take_from_window(to));
            if !busy {
                self.wait().await;
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
        self.tracks.resume(places, Instant::now());
    }

    pub(super) async fn close(self) {
        if let Some(lock) = self.lock {
            lock.close().await;
        }
    }

    fn follow_lock(&mut self) {
        let Some(lock) = &mut self.lock else { return };
        let term = lock.term();
        if term == self.term {
            return;
        }
        self.term = term;
        let revoked = self.tracks.revoke_all();
        if !revoked.is_empty() {
            self.pending.push_back(FeedItem::Revoked(revoked));
        }
        if term.is_some() {
            self.pending.push_back(FeedItem::Assigned(self.tracks.assign(&self.shards).assigned));
        }
    }

    /// Asks the store about the shards that cannot go on from memory. Returns whether it did.
    async fn catch_up(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        let asked = self.tracks.doubtful();
        if asked.is_empty() || self.repair.resting_until(now).is_some() {
            return Ok(false);
        }
        let Some(answer) = self.repair.ask(&asked).await? else { return Ok(false) };
        let brought = self
            .tracks
            .repaired(&asked, answer.slice, answer.limit_per_shard, answer.epoch, now)
            .map_err(Error::Fork)?;
        self.hand_on(brought);
        Ok(true)
    }

    /// Hands on what is in memory after the slowest shard. Returns whether there was anything to look at.
    fn take_from_window(&mut self, read_to: Position) -> bool {
        let Some(from) = self.tracks.least_scanned_to().filter(|from| *from < read_to) else { return false };
        if self.tracks.in_doubt() {
            return false;
        }
        let seen: Option<Vec<Arc<Envelope>>> = self.tail.shared.with_window(|window| {
            let events = window.after(from)?;
            Some(events.take(LOOK_AT_MAX).cloned().collect())
        });
        let Some(seen) = seen else {
            let start = self.tail.shared.with_window(Window::start);
            self.tracks.doubt_behind(start);
            return true;
        };
        let mut events = Vec::new();
        let mut passed = from;
        if let Some(newest) = seen.last() {
            self.repair.saw(newest);
        }
        for event in seen {
            passed = event.position;
            if self.tracks.read(&event) {
                events.push(event);
                if events.len() >= self.subscription.batch_events_max {
                    break;
                }
            }
        }
        self.tracks.passed(passed);
        self.hand_on(events);
        true
    }

    /// Makes items of events, and of progress that is due to be told.
    fn hand_on(&mut self, events: Vec<Arc<Envelope>>) {
        self.events_total.increment(events.len() as u64);
        let scanned_to = self.tracks.tell(&events, Instant::now());
        let batches = Batch::split(events, scanned_to, self.subscription.batch_events_max);
        self.pending.extend(batches.into_iter().map(FeedItem::Batch));
    }

    /// Until there is something to do. What is due by time is handed on here.
    async fn wait(&mut self) {
        let now = Instant::now();
        let rest = self.repair.resting_until(now).filter(|_| self.tracks.in_doubt());
        let tell = self.tracks.tell_due().filter(|_| self.tracks.untold());
        let alarm = rest.into_iter().chain(tell).min();
        tokio::select! {
            // Ended or not, the loop looks at the state.
            _ = self.state.changed() => {}
            () = changed(&mut self.lock) => {}
            () = sleep_until(alarm.unwrap_or(now)), if alarm.is_some() => {
                self.hand_on(Vec::new());
            }
        }
    }
}

async fn changed(lock: &mut Option<Contender>) {
    match lock {
        Some(lock) => lock.changed().await,
        None => std::future::pending().await,
    }
}
