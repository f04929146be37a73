//! One process a read model where there is no Kafka: the holder of a session lock reads, the others wait.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::postgres::SessionLock;
use crate::retry::Backoff;

/// How often the holder makes sure that it still is the holder.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// A contender for a lock. Dropping it gives the lock back.
#[derive(Debug)]
pub(super) struct Contender {
    /// Which time it is that the lock is held; none while it is not.
    term: watch::Receiver<Option<u64>>,
    task: AbortOnDropHandle<()>,
}

impl Contender {
    /// Wants the lock of this name from now on.
    pub(super) fn start(options: PgConnectOptions, name: String) -> Self {
        let (sender, term) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut pauses = Backoff::pauses(Duration::from_millis(100), Duration::from_secs(1));
            for number in 1u64.. {
                match SessionLock::acquire(&options, &name).await {
                    Ok(lock) => {
                        pauses.reset();
                        tracing::info!(lock = name, "lock taken");
                        sender.send_replace(Some(number));
                        let error = hold(lock).await;
                        tracing::warn!(lock = name, %error, "lock lost");
                        sender.send_replace(None);
                    }
                    Err(error) => tracing::debug!(lock = name, %error, "the lock cannot be asked for"),
                }
                pauses.sleep().await;
            }
        });
        Self { term, task: AbortOnDropHandle::new(task) }
    }

    /// The current term, if the lock is held.
    pub(super) fn term(&mut self) -> Option<u64> {
        *self.term.borrow_and_update()
    }

    /// Waits until the term is another one. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        if self.term.changed().await.is_err() {
            // The task runs for as long as this value lives.
            std::future::pending::<()>().await;
        }
    }

    /// Gives the lock back and waits until the connection is closed on this side.
    pub(super) async fn close(self) {
        self.task.abort();
        // It ends because it was aborted.
        let _ = self.task.await;
    }
}

/// Holds the lock until it is lost, and returns how that was noticed.
async fn hold(mut lock: SessionLock) -> sqlx::Error {
    loop {
        if let Err(error) = lock.check().await {
            return error;
        }
        tokio::time::sleep(CHECK_EVERY).await;
    }
}
