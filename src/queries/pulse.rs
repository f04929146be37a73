//! Whether PostgreSQL answers anybody: so that a request is told within a second when it does not, and may take its time
//! when it does.
//!
//! A statement that takes long and a server that is gone look the same to the one who waits. So a process that has a request
//! waiting for longer than usual asks something trivial over a connection of its own, once for all who wait, and only while
//! somebody does: requests that are quick cost nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, PgPool};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::postgres::doubt_connections;

/// A request that takes no longer than this is not looked after.
const USUAL: Duration = Duration::from_millis(200);
/// How long the server may take for its answer, a new connection included. With the above, less than a second.
const ANSWERS_WITHIN: Duration = Duration::from_millis(600);
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How long the connection is kept when nobody waits any more.
const KEEP: Duration = Duration::from_secs(5);
/// SQLSTATE of a server that is coming up or going down. Any other refusal is an answer.
const CANNOT_CONNECT_NOW: &str = "57P03";

/// Nobody got an answer from PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL does not answer")]
pub struct Away;

/// Looks after requests. Cheap to clone; clones ask together.
#[derive(Debug, Clone)]
pub struct Pulse {
    pool: PgPool,
    asking: Arc<Mutex<Option<Arc<watch::Sender<Beat>>>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beat {
    Unknown,
    Answers,
    Silent,
}

impl Pulse {
    /// Of the server that this pool is on.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, asking: Arc::default() }
    }

    /// Does the work for as long as the server answers anybody.
    ///
    /// # Errors
    /// [`Away`]: the work was given up, and what it did is unknown.
    pub async fn while_alive<T>(&self, work: impl Future<Output = T>) -> Result<T, Away> {
        let mut work = std::pin::pin!(work);
        if let Ok(done) = timeout(USUAL, &mut work).await {
            return Ok(done);
        }
        let mut beats = self.subscribe();
        tokio::select! {
            biased;
            done = work => Ok(done),
            // The task that asks lives for as long as somebody listens.
            _ = beats.wait_for(|beat| *beat == Beat::Silent) => Err(Away),
        }
    }

    /// Joins those who wait; the first of them starts the asking.
    fn subscribe(&self) -> watch::Receiver<Beat> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*asking {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(Beat::Unknown);
        let sender = Arc::new(sender);
        *asking = Some(Arc::clone(&sender));
        tokio::spawn(self.clone().ask(sender));
        receiver
    }

    /// Asks until nobody has waited for a while.
    async fn ask(self, sender: Arc<watch::Sender<Beat>>) {
        let options: PgConnectOptions = (*self.pool.connect_options()).clone().disable_statement_logging();
        let mut connection = None;
        let mut waited_for = Instant::now();
        loop {
            let beat = match timeout(ANSWERS_WITHIN, beat(&options, &mut connection)).await {
                Ok(beat) => beat,
                Err(_) => {
                    connection = None;
                    Beat::Silent
                }
            };
            if beat == Beat::Silent {
                doubt_connections();
            }
            if sender.send_replace(beat) != beat {
                tracing::debug!(?beat, "PostgreSQL");
            }
            sleep(ASK_EVERY).await;
            // Nobody can join between the look and the end: joining takes the same lock.
            let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
            if sender.receiver_count() > 0 {
                waited_for = Instant::now();
            } else if waited_for.elapsed() > KEEP {
                *asking = None;
                return;
            }
        }
    }
}

/// Asks once. A server that refuses us has answered.
async fn beat(options: &PgConnectOptions, connection: &mut Option<PgConnection>) -> Beat {
    let asked = async {
        let mut open = match connection.take() {
            Some(open) => open,
            None => options.connect().await?,
        };
        open.ping().await?;
        *connection = Some(open);
        Ok::<_, sqlx::Error>(())
    };
    match asked.await {
        Ok(()) => Beat::Answers,
        Err(sqlx::Error::Database(refusal)) if refusal.code().as_deref() != Some(CANNOT_CONNECT_NOW) => {
            Beat::Answers
        }
        Err(_) => Beat::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere() -> Pulse {
        let options = "postgres://nobody@127.0.0.1:1/nothing".parse().unwrap();
        Pulse::new(PgPool::connect_lazy_with(options))
    }

    #[tokio::test]
    async fn work_that_is_quick_is_done_whatever_the_server_does() {
        assert_eq!(nowhere().while_alive(async { 7 }).await, Ok(7));
    }

    #[tokio::test]
    async fn work_on_a_server_that_is_away_is_given_up_within_a_second() {
        let (pulse, began) = (nowhere(), Instant::now());
        assert_eq!(pulse.while_alive(std::future::pending::<()>()).await, Err(Away));
        assert_eq!(pulse.while_alive(std::future::pending::<()>()).await, Err(Away));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
