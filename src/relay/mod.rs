//! The relay: copies the log to Kafka, in order.
//!
//! One relay is active, by a session lock that is checked before every batch; the others wait. It holds no state that
//! matters:
//!
//! | step | killed, frozen or cut off here | what holds |
//! | --- | --- | --- |
//! | walk: per shard, from the progress row's offset along the store's chain | nothing was written | the next start walks again |
//! | send in order, `previous` attached | records are in the topic, progress is not | the walk finds them; else they are sent again |
//! | acknowledged, progress written | | a lower bound |
//! | frozen | the server ends the lock's session after ten seconds without a check | another one takes over |
//! | awake when another one is active | its producer goes on for a moment | duplicates, which every reader drops |
//!
//! A topic that is deleted or loses its end is noticed by the next acknowledgement, or within seconds where nothing is sent to it
//! (see `look`), and relayed anew.
//!
//! A partition may therefore hold duplicates, but never what follows an event without the event: the producer is
//! gapless, and any error it reports ends it, with all that is on its way, before anything else is sent. Readers do not even
//! rely on that (see `feed`).
//!
//! A broker that is away is waited for: the producer keeps what it has, the window keeps it from taking more, and
//! commands never notice. A record that the broker refuses twice halts the relay with its position, since leaving it out
//! would be a hole and sending it again is no use.

#[cfg(test)]
mod fixtures;
mod look;
mod metric;
mod progress;
mod source;
mod start;
mod term;
pub(crate) mod walk;
pub(crate) mod window;

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use self::term::{End, Memory};
use crate::domain::ids::Position;
use crate::event_store;
use crate::kafka::{self, KafkaSettings};
use crate::postgres::{SessionLock, checked_often};
use crate::retry::Backoff;

const LOCK: &str = "relay";
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why the relay halted. What passes by itself never gets here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log is another history than the one that was relayed.
    #[error("the log has forked: {0}; {advice}", advice = event_store::AFTER_A_RESTORE)]
    Fork(String),
    /// The broker does not take this record.
    #[error("Kafka refused the event at position {position} twice: {reason}")]
    Refused {
        /// Of the event.
        position: Position,
        /// What the broker said.
        reason: String,
    },
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Store(#[source] event_store::Error),
    /// PostgreSQL did not answer, or not as expected.
    #[error("the relay's progress")]
    Progress(#[from] sqlx::Error),
    /// Topics or settings that cannot work.
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
}

impl From<event_store::Error> for Error {
    fn from(error: event_store::Error) -> Self {
        match error {
            event_store::Error::Fork { reason } => Self::Fork(reason),
            error => Self::Store(error),
        }
    }
}

impl Error {
    fn is_transient(&self) -> bool {
        match self {
            Self::Fork(_) | Self::Refused { .. } => false,
            Self::Store(error) => error.is_transient(),
            Self::Progress(_) => true,
            Self::Kafka(error) => error.is_transient(),
        }
    }
}

/// The session lock of whoever relays to this bus.
pub fn lock_name(settings: &KafkaSettings) -> String {
    format!("{LOCK} {}", settings.prefix)
}

/// Relays until it is asked to end. Waits for its turn, for PostgreSQL and for the brokers.
///
/// # Errors
/// A fork, a record that is refused twice, topics that are not as declared.
pub async fn run(settings: KafkaSettings, pool: PgPool, shutdown: CancellationToken) -> Result<(), Error> {
    let mut relay = Relay { memory: Memory::default(), refused: None, said: None };
    let mut pauses = Backoff::pauses(PAUSE_MIN, PAUSE_MAX);
    let name = lock_name(&settings);
    let options = checked_often(&pool.connect_options());
    while !shutdown.is_cancelled() {
        let taken = tokio::select! {
            taken = SessionLock::acquire(&options, &name) => taken,
            () = shutdown.cancelled() => return Ok(()),
        };
        let outcome = match taken {
            Ok(lock) => relay.hold(&settings, &pool, lock, &shutdown, &mut pauses).await,
            Err(error) => Err(Error::Progress(error)),
        };
        match outcome {
            Ok(()) => {}
            Err(error) if error.is_transient() => relay.trouble(&told(&error)),
            Err(error) => return Err(error),
        }
        rest(&mut pauses, &shutdown).await;
    }
    Ok(())
}

/// What went wrong, and why.
fn told(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

async fn rest(pauses: &mut Backoff, shutdown: &CancellationToken) {
    // Either way there is nothing more to wait for.
    let _ = tokio::time::timeout(pauses.next_pause(), shutdown.cancelled()).await;
}

/// What lasts longer than a term.
struct Relay {
    memory: Memory,
    refused: Option<Position>,
    /// The trouble that was last logged: it is said once.
    said: Option<String>,
}

impl Relay {
    /// Serves one term after the other while the lock is held.
    async fn hold(
        &mut self,
        settings: &KafkaSettings,
        pool: &PgPool,
        mut lock: SessionLock,
        shutdown: &CancellationToken,
        pauses: &mut Backoff,
    ) -> Result<(), Error> {
        loop {
            let began = tokio::time::Instant::now();
            metrics::gauge!(metric::ACTIVE).set(1.0);
            let end = term::run(settings, pool, &mut lock, &mut self.memory, shutdown).await;
            metrics::gauge!(metric::ACTIVE).set(0.0);
            if began.elapsed() > PAUSE_MAX {
                pauses.reset();
                self.said = None;
            }
            match end {
                Ok(End::Shutdown) => {
                    lock.release().await;
                    return Ok(());
                }
                Ok(End::LockLost(error)) => {
                    self.trouble(&format!("the lock was lost: {error}"));
                    return Ok(());
                }
                Ok(End::Again(reason) | End::AnotherTopic(_, reason)) => self.trouble(&reason),
                Ok(End::Refused(position, reason)) if self.refused == Some(position) => {
                    return Err(Error::Refused { position, reason });
                }
                Ok(End::Refused(position, reason)) => {
                    self.refused = Some(position);
                    self.trouble(&format!("position {position} was refused: {reason}"));
                }
                Err(error) if error.is_transient() => self.trouble(&told(&error)),
                Err(error) => return Err(error),
            }
            metrics::counter!(metric::RESTARTS).increment(1);
            rest(pauses, shutdown).await;
            lock.check().await?;
        }
    }

    fn trouble(&mut self, reason: &str) {
        if self.said.as_deref() != Some(reason) {
            tracing::warn!(reason, "the relay begins again");
            self.said = Some(reason.to_owned());
        }
    }
}
