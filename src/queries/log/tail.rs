//! The end of the log, followed for many clients at once.
//!
//! However many clients follow the log, one task reads its end, woken by the notification and by a timer, and keeps the
//! newest events for them. It runs while there is a client. A [`Follower`] that is further behind reads pages until it
//! has caught up; what it has not been asked for it does not hold, so a slow client costs nothing but its own delay.
//!
//! When the connection was lost, the reader compares the last event it saw with the log: another one there ends it, and with
//! it all who follow. Otherwise it goes on; positions without holes are all that "missing nothing" rests on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::AbortOnDropHandle;

use super::feed::{Fed, FeedPage, Filter, PageSize, page};
use crate::domain::ids::{Epoch, Position};
use crate::event_store::{self, Place, PlaceCheck, check_place, read};
use crate::events::Envelope;
use crate::postgres::{Listener, Wake, answered};
use crate::queries::{AsOf, Error};

const CHANNEL: &str = "insight_head";
const POLL_EVERY: Duration = Duration::from_millis(500);
const READ_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Events that are read at once.
const READ_EVENTS: i64 = 256;
/// What is kept of the end of the log for all followers together.
const KEPT_EVENTS: usize = 16_384;
const KEPT_BYTES: usize = 8 << 20;
/// What a follower is handed at once, and how many events it looks at for that.
const HANDED_EVENTS: usize = 64;
const HANDED_BYTES: usize = 64 << 10;
const LOOKED_AT: usize = 4_096;
/// What one that is further behind is handed at once, and how many of them may ask the database at the same time: others
/// want to ask it, too.
const CATCHING_UP: PageSize = PageSize { events: 256, bytes: 256 << 10 };
const CATCHING_UP_MAX: usize = 2;

/// The end of the log of one database. Cheap to clone; clones share the one reader.
#[derive(Debug, Clone)]
pub struct LogTail {
    pool: PgPool,
    reader: Arc<Mutex<Weak<Reader>>>,
    catching_up: Arc<Semaphore>,
}

impl LogTail {
    /// Reads nothing until somebody follows.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, reader: Arc::default(), catching_up: Arc::new(Semaphore::new(CATCHING_UP_MAX)) }
    }

    /// Follows the log after a place that is one of this history.
    pub fn follow(&self, after: Position, filter: Filter) -> Follower {
        let mut shared = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = shared.upgrade().unwrap_or_else(|| {
            let reader = Reader::start(self.pool.clone());
            *shared = Arc::downgrade(&reader);
            reader
        });
        let state = reader.shared.state.subscribe();
        let (pool, catching_up) = (self.pool.clone(), Arc::clone(&self.catching_up));
        Follower { pool, catching_up, reader, state, at: after, filter }
    }
}

/// One client's way through the log.
#[derive(Debug)]
pub struct Follower {
    pool: PgPool,
    catching_up: Arc<Semaphore>,
    reader: Arc<Reader>,
    state: watch::Receiver<State>,
    at: Position,
    filter: Filter,
}

impl Follower {
    /// What comes next, once it is there; perhaps only a place that is further on. Cancel-safe.
    ///
    /// # Errors
    /// The log, also when it is another history now.
    pub async fn next(&mut self) -> Result<FeedPage<Arc<Envelope>>, Error> {
        loop {
            if let State::Ended(reason) = &*self.state.borrow_and_update() {
                return Err(event_store::Error::Fork { reason: reason.clone() }.into());
            }
            let found = match self.reader.shared.after(self.at, &self.filter) {
                Kept::Page(page) => page,
                Kept::Nothing => {
                    // The reader outlives its followers.
                    let _ = self.state.changed().await;
                    continue;
                }
                Kept::NoLonger => self.catch_up().await?,
            };
            self.at = found.next.1;
            return Ok(found);
        }
    }

    async fn catch_up(&self) -> Result<FeedPage<Arc<Envelope>>, Error> {
        // It is never closed.
        let _turn = self.catching_up.acquire().await;
        match page(&self.pool, None, self.at, CATCHING_UP, &self.filter).await? {
            Fed::Page(FeedPage { as_of, events, next }) => {
                Ok(FeedPage { as_of, events: events.into_iter().map(Arc::new).collect(), next })
            }
            Fed::Elsewhere | Fed::NoStream => {
                let reason = format!("position {} was there before and is not there now", self.at);
                Err(event_store::Error::Fork { reason }.into())
            }
        }
    }
}

/// The task. Dropping it ends the reading.
#[derive(Debug)]
struct Reader {
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    kept: RwLock<KeptEvents>,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone)]
enum State {
    /// Everything up to here is kept, or was; none before the first answer.
    At(Option<Position>),
    /// The log is another history: why.
    Ended(String),
}

impl Reader {
    fn start(pool: PgPool) -> Arc<Self> {
        let state = watch::Sender::new(State::At(None));
        let shared = Arc::new(Shared { kept: RwLock::default(), state });
        let task = tokio::spawn(read_on(pool, Arc::clone(&shared)));
        Arc::new(Self { shared, _task: AbortOnDropHandle::new(task) })
    }
}

async fn read_on(pool: PgPool, shared: Arc<Shared>) {
    let mut listener = Listener::start((*pool.connect_options()).clone(), CHANNEL);
    let (mut last, mut doubtful, mut failing) = (None, false, false);
    loop {
        match step(&pool, &shared, &mut last, doubtful).await {
            Ok(more) => {
                failing = false;
                doubtful = !more && listener.wait(POLL_EVERY).await == Wake::Lost;
            }
            Err(event_store::Error::Fork { reason }) => {
                tracing::error!(reason, "the log has forked: nobody follows it any more");
                shared.state.send_replace(State::Ended(reason));
                return;
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "the log cannot be followed; trying again until it can");
                }
                (failing, doubtful) = (true, true);
                tokio::time::sleep(READ_AGAIN_AFTER).await;
            }
        }
    }
}

/// Finds the head the first time, then reads on. Returns whether there is more to read at once.
async fn step(
    pool: &PgPool,
    shared: &Shared,
    last: &mut Option<Place>,
    doubtful: bool,
) -> Result<bool, event_store::Error> {
    let Some(place) = last else {
        let head = answered(read::head(pool)).await?;
        let found = answered(read::find(pool, head)).await?;
        let place = found.as_ref().map_or_else(|| Place::origin(Epoch(1)), Place::from);
        shared.change(|kept| *kept = KeptEvents { start: place.position, ..KeptEvents::default() });
        shared.state.send_replace(State::At(Some(place.position)));
        *last = Some(place);
        return Ok(true);
    };
    if doubtful && let PlaceCheck::Fork { reason } = answered(check_place(pool, place)).await? {
        return Err(event_store::Error::Fork { reason });
    }
    let slice = answered(read::after(pool, place.position, READ_EVENTS)).await?;
    if slice.head < place.position {
        let reason = format!("the head was {} and is now {}", place.position, slice.head);
        return Err(event_store::Error::Fork { reason });
    }
    let Some(newest) = slice.events.last() else { return Ok(false) };
    *place = Place::from(newest);
    let (end, more) = (newest.position, slice.events.len() as i64 == READ_EVENTS);
    shared.change(|kept| kept.extend(slice.events));
    shared.state.send_replace(State::At(Some(end)));
    Ok(more)
}

/// The newest events: one run of positions.
#[derive(Debug, Default)]
struct KeptEvents {
    /// Events at or below it are not kept.
    start: Position,
    events: VecDeque<Arc<Envelope>>,
    bytes: usize,
}

/// What is kept for a follower.
enum Kept {
    Page(FeedPage<Arc<Envelope>>),
    Nothing,
    /// What comes next was kept once, or the reader has not begun.
    NoLonger,
}

impl KeptEvents {
    fn extend(&mut self, events: Vec<Envelope>) {
        for event in events {
            self.bytes += weight(&event);
            self.events.push_back(Arc::new(event));
        }
        while self.events.len() > KEPT_EVENTS || self.bytes > KEPT_BYTES {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= weight(&oldest);
            self.start = oldest.position;
        }
    }

    fn after(&self, at: Position, filter: &Filter) -> Kept {
        let Ok(skip) = usize::try_from(at.0 - self.start.0) else { return Kept::NoLonger };
        let Some(newest) = self.events.back() else { return Kept::Nothing };
        let (mut wanted, mut bytes, mut last) = (Vec::new(), 0, None);
        for event in self.events.iter().skip(skip).take(LOOKED_AT) {
            last = Some(event);
            if filter.wants(event) {
                bytes += weight(event);
                wanted.push(Arc::clone(event));
                if wanted.len() >= HANDED_EVENTS || bytes >= HANDED_BYTES {
                    break;
                }
            }
        }
        let Some(last) = last else { return Kept::Nothing };
        let as_of = AsOf {
            epoch: newest.epoch,
            position: newest.position,
            recorded_at: Some(last.recorded_at),
            changed_at: None,
        };
        Kept::Page(FeedPage { as_of, events: wanted, next: (last.epoch, last.position) })
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut KeptEvents)) {
        change(&mut self.kept.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn after(&self, at: Position, filter: &Filter) -> Kept {
        if matches!(&*self.state.borrow(), State::At(None)) {
            return Kept::Nothing;
        }
        self.kept.read().unwrap_or_else(PoisonError::into_inner).after(at, filter)
    }
}

/// What an event takes in memory, roughly.
fn weight(event: &Envelope) -> usize {
    event.payload.len() + event.metadata.len() + 400
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::domain::ids::{StreamId, Version};
    use crate::events::EventId;

    fn event(position: i64, stream: &str, bytes: usize) -> Envelope {
        let stream_id = StreamId::from(stream);
        Envelope {
            epoch: Epoch(1),
            position: Position(position),
            event_id: EventId { command_id: Uuid::from_u128(position as u128), ordinal: 0 },
            shard: stream_id.shard(),
            stream_id,
            version: Version(position),
            request_hash: [0_u8; 32].as_slice().into(),
            event_type: "CashDeposited".into(),
            schema_version: 1,
            correlation_id: Uuid::nil(),
            causation_position: None,
            occurred_at: DateTime::UNIX_EPOCH,
            recorded_at: DateTime::UNIX_EPOCH,
            payload: "x".repeat(bytes).into(),
            metadata: "{}".into(),
        }
    }

    /// The positions handed out and the place after them; none where there is nothing new.
    fn handed(kept: &KeptEvents, at: i64, filter: &Filter) -> Option<(Vec<i64>, i64)> {
        match kept.after(Position(at), filter) {
            Kept::Page(page) => {
                Some((page.events.iter().map(|event| event.position.0).collect(), page.next.1.0))
            }
            Kept::Nothing => None,
            Kept::NoLonger => panic!("{at} is not kept"),
        }
    }

    #[test]
    fn a_follower_is_handed_what_follows_and_passes_what_it_does_not_want() {
        let mut kept = KeptEvents { start: Position(10), ..KeptEvents::default() };
        kept.extend(
            (11..=14).map(|p| event(p, if p == 12 { "portfolio-b" } else { "portfolio-a" }, 1)).collect(),
        );
        let all = Filter::default();
        assert_eq!(handed(&kept, 10, &all), Some((vec![11, 12, 13, 14], 14)));
        assert_eq!(handed(&kept, 13, &all), Some((vec![14], 14)));
        assert_eq!(handed(&kept, 14, &all), None);
        assert_eq!(handed(&kept, 20, &all), None, "a follower may have heard of more than the reader");
        assert!(matches!(kept.after(Position(9), &all), Kept::NoLonger));
        let of_b = Filter { stream: Some(StreamId::from("portfolio-b")), ..Filter::default() };
        assert_eq!(handed(&kept, 10, &of_b), Some((vec![12], 14)));
        assert_eq!(handed(&kept, 12, &of_b), Some((vec![], 14)));
    }

    #[test]
    fn what_is_kept_and_what_is_handed_out_is_bounded() {
        let mut kept = KeptEvents::default();
        kept.extend((1..=100).map(|p| event(p, "portfolio-a", 200_000)).collect());
        assert!(kept.bytes <= KEPT_BYTES && kept.events.len() < 50);
        assert_eq!(kept.start.0, 100 - kept.events.len() as i64);
        assert_eq!(handed(&kept, 99, &Filter::default()), Some((vec![100], 100)));
        assert_eq!(handed(&kept, kept.start.0, &Filter::default()).unwrap().0.len(), 1);
    }
}
