//! One term of the active relay: walk, then copy until something is in the way.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::look::{Look, Loss};
use super::source::Source;
use super::window::{Broken, Limits, Tail, Window};
use super::{Error, metric, progress, start};
use crate::domain::ids::{Position, Shard};
use crate::event_store::{Place, PlaceCheck, check_place};
use crate::events::Envelope;
use crate::kafka::{Delivery, Handed, KafkaSettings, Producer, Undelivered, topics};
use crate::postgres::{Listener, SessionLock, Wake, answered};

/// What may be on its way: some tenths of a second of the fastest broker.
const LIMITS: Limits = Limits { events_max: 20_000, bytes_max: 24 << 20 };
const POLL_EVERY: Duration = Duration::from_millis(500);
/// How often the lock is checked while there is nothing to send, and progress is written.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How long the last acknowledgements are waited for when the process ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long to listen for further reports after the first bad one.
const AFTERMATH: Duration = Duration::from_millis(300);

/// Why a term ended.
pub(super) enum End {
    /// The process ends.
    Shutdown,
    /// The lock may be somebody else's now.
    LockLost(sqlx::Error),
    /// With a new producer it may go on.
    Again(String),
    /// The topic of this shard is not the one that was sent to: what is noted of it is worth nothing.
    AnotherTopic(Shard, String),
    /// The broker does not want this record.
    Refused(Position, String),
}

/// What a relay remembers from term to term.
#[derive(Default)]
pub(super) struct Memory {
    /// The last event it has read: what it knows the log by.
    pub(super) place: Option<Place>,
}

/// Runs until something ends the term.
pub(super) async fn run(
    settings: &KafkaSettings,
    pool: &PgPool,
    lock: &mut SessionLock,
    memory: &mut Memory,
    shutdown: &CancellationToken,
) -> Result<End, Error> {
    let ends = tokio::select! {
        ends = prepare(settings, pool, memory) => ends?,
        // Walking a long topic takes a while, and a lock that is not checked is lost.
        error = hold(lock) => return Ok(End::LockLost(error)),
        () = shutdown.cancelled() => return Ok(End::Shutdown),
    };
    let mut term = Term {
        producer: Producer::open(settings)?,
        window: Window::new(LIMITS, ends),
        source: Source::new(pool.clone()),
        listener: Listener::start((*pool.connect_options()).clone(), "insight_head"),
        look: Look::new(),
        housekeeping_at: Instant::now(),
        events: metrics::counter!(metric::EVENTS),
        settings,
        pool,
        lock,
        memory,
    };
    tracing::info!("the relay copies");
    let end = tokio::select! {
        end = term.copy() => end,
        () = shutdown.cancelled() => Ok(End::Shutdown),
    };
    term.leave(&end).await;
    end
}

/// Checks the lock until it is lost.
async fn hold(lock: &mut SessionLock) -> sqlx::Error {
    loop {
        if let Err(error) = lock.check().await {
            return error;
        }
        tokio::time::sleep(HOUSEKEEPING).await;
    }
}

/// Makes sure of topics and history, and finds out where to go on.
async fn prepare(
    settings: &KafkaSettings,
    pool: &PgPool,
    memory: &Memory,
) -> Result<BTreeMap<Shard, (Option<Tail>, i64)>, Error> {
    let applied = topics::apply(settings).await?;
    if !applied.created.is_empty() {
        tracing::info!(topics = applied.created.join(", "), "topics created");
    }
    for (topic, differences) in &applied.changed {
        for topics::Difference { setting, wanted, .. } in differences {
            tracing::warn!(topic, setting, wanted, "was not as declared: set");
        }
    }
    check_history(pool, memory).await?;
    start::ends(settings, pool).await
}

async fn check_history(pool: &PgPool, memory: &Memory) -> Result<(), Error> {
    let Some(place) = &memory.place else { return Ok(()) };
    match answered(check_place(pool, place)).await? {
        PlaceCheck::Same => Ok(()),
        PlaceCheck::Fork { reason } => Err(Error::Fork(reason)),
    }
}

struct Term<'a> {
    settings: &'a KafkaSettings,
    pool: &'a PgPool,
    lock: &'a mut SessionLock,
    memory: &'a mut Memory,
    producer: Producer,
    window: Window,
    source: Source,
    listener: Listener,
    look: Look,
    housekeeping_at: Instant,
    events: metrics::Counter,
}

impl Term<'_> {
    async fn copy(&mut self) -> Result<End, Error> {
        let mut more = true;
        loop {
            while let Some(delivery) = self.producer.try_delivery() {
                if let Some(end) = self.delivered(delivery).await {
                    return Ok(end);
                }
            }
            let due = Instant::now() >= self.housekeeping_at;
            let sending = more && self.window.has_room();
            if (sending || due)
                && let Err(error) = self.lock.check().await
            {
                return Ok(End::LockLost(error));
            }
            if due {
                self.keep_house().await?;
                if let Some(reason) = self.producer.fatal() {
                    return Ok(End::Again(reason));
                }
                if let Some(Loss { shard, reason }) = self.look.found(self.settings, &self.window).await {
                    return Ok(End::AnotherTopic(shard, reason));
                }
            }
            if sending {
                let read = self.source.read(&self.window).await?;
                more = read.more;
                for event in &read.events {
                    if let Some(end) = self.send(event).await {
                        return Ok(end);
                    }
                }
                self.remember(&read.events);
                continue;
            }
            let room = self.window.has_room();
            tokio::select! {
                delivery = self.producer.delivery() => {
                    if let Some(end) = self.delivered(delivery).await {
                        return Ok(end);
                    }
                }
                wake = self.listener.wait(POLL_EVERY), if room => {
                    if wake == Wake::Lost {
                        check_history(self.pool, self.memory).await?;
                    }
                    more = true;
                }
                () = tokio::time::sleep_until(self.housekeeping_at) => {}
            }
        }
    }

    fn remember(&mut self, events: &[Envelope]) {
        if let Some(newest) = events.iter().max_by_key(|event| event.position) {
            self.memory.place = Some(Place::from(newest));
        }
    }

    async fn send(&mut self, event: &Envelope) -> Option<End> {
        let previous = self.window.tail(event.shard).map(|tail| (tail.position, tail.event_id));
        loop {
            match self.producer.send(event, previous) {
                Handed::Over => break,
                Handed::Full => match timeout(HOUSEKEEPING, self.producer.delivery()).await {
                    Ok(delivery) => {
                        if let Some(end) = self.delivered(delivery).await {
                            return Some(end);
                        }
                    }
                    Err(_) => {
                        if let Err(error) = self.lock.check().await {
                            return Some(End::LockLost(error));
                        }
                    }
                },
                Handed::Refused(why) => return Some(end_of(event.position, why)),
            }
        }
        self.window.sent(event);
        None
    }

    async fn delivered(&mut self, delivery: Delivery) -> Option<End> {
        let Delivery { shard, position, outcome } = delivery;
        match outcome {
            Ok(offset) => {
                self.events.increment(1);
                let broken = self.window.delivered(shard, position, offset).err()?;
                let reason = broken.to_string();
                Some(match broken {
                    Broken::AnotherTopic { .. } => End::AnotherTopic(shard, reason),
                    Broken::OutOfOrder { .. } => End::Again(reason),
                })
            }
            Err(why) => Some(self.aftermath(position, why).await),
        }
    }

    /// One record that cannot be written takes others with it; the reports tell which one it was.
    async fn aftermath(&mut self, position: Position, why: Undelivered) -> End {
        let mut worst = (position, why);
        while let Ok(delivery) = timeout(AFTERMATH, self.producer.delivery()).await {
            if let Err(why) = delivery.outcome
                && why.refused
                && (!worst.1.refused || delivery.position < worst.0)
            {
                worst = (delivery.position, why);
            }
        }
        end_of(worst.0, worst.1)
    }

    async fn keep_house(&mut self) -> Result<(), Error> {
        self.housekeeping_at = Instant::now() + HOUSEKEEPING;
        let places = self.window.places();
        let sent = places.iter().map(|(_, position)| position.0).max().unwrap_or(0);
        let behind = (self.source.head().0 - sent).max(0) as usize + self.window.in_flight();
        metrics::gauge!(metric::LAG).set(behind as f64);
        metrics::gauge!(metric::IN_FLIGHT).set(self.window.in_flight() as f64);
        self.save().await
    }

    async fn save(&mut self) -> Result<(), Error> {
        let unsaved = self.window.unsaved();
        if !unsaved.is_empty() {
            answered(progress::save(self.pool, self.settings, &unsaved)).await?;
            self.window.saved(&unsaved);
        }
        Ok(())
    }

    async fn forget(&self, shard: Shard) -> Result<(), Error> {
        let topic = self.settings.topic_of(shard).unwrap_or_default();
        Ok(progress::forget(self.pool, &topic).await?)
    }

    /// Saves what can be saved. A relay that has lost its lock writes nothing more.
    async fn leave(&mut self, end: &Result<End, Error>) {
        if matches!(end, Ok(End::Shutdown)) {
            let until = Instant::now() + FAREWELL;
            while self.window.in_flight() > 0
                && let Ok(delivery) = tokio::time::timeout_at(until, self.producer.delivery()).await
            {
                if self.delivered(delivery).await.is_some() {
                    break;
                }
            }
        }
        let written = match end {
            Ok(End::LockLost(_)) | Err(_) => Ok(()),
            Ok(End::AnotherTopic(shard, _)) => self.forget(*shard).await,
            Ok(_) => self.save().await,
        };
        if let Err(error) = written {
            tracing::debug!(%error, "progress not written; the next start walks a little further");
        }
    }
}

fn end_of(position: Position, why: Undelivered) -> End {
    if why.refused { End::Refused(position, why.reason) } else { End::Again(why.reason) }
}
