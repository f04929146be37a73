//! Being woken by NOTIFY.
//!
//! A notification only says "look again", so any number of them may fall into one, and a reader that also looks from time
//! to time misses nothing. What a reader must know beside it is that the connection was lost: the server that is there
//! now may be another one.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// How long to wait before connecting again.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);

/// A task that listens on a connection of its own.
#[derive(Debug)]
pub struct Listener {
    heard: watch::Receiver<Heard>,
    losses: u64,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Heard {
    notifications: u64,
    losses: u64,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// There was a notification, or the time was over.
    Look,
    /// The connection was lost since the last wait.
    Lost,
}

impl Listener {
    /// Listens on `channel`. A server that is away is tried again for ever.
    #[must_use]
    pub fn start(options: PgConnectOptions, channel: &'static str) -> Self {
        let (sender, heard) = watch::channel(Heard::default());
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = listen(&options, channel, &sender).await {
                    tracing::debug!(%error, channel, "not listening");
                }
                sender.send_modify(|heard| heard.losses += 1);
                tokio::time::sleep(RECONNECT_AFTER).await;
            }
        });
        Self { heard, losses: 0, _task: AbortOnDropHandle::new(task) }
    }

    /// Waits for a notification, at most this long. Cancel-safe.
    pub async fn wait(&mut self, at_most: Duration) -> Wake {
        // Too late is as good as in time: the reader looks either way.
        let _ = tokio::time::timeout(at_most, self.heard.changed()).await;
        let losses = self.heard.borrow_and_update().losses;
        if losses == self.losses {
            return Wake::Look;
        }
        self.losses = losses;
        Wake::Lost
    }
}

/// Listens until the connection is lost.
async fn listen(
    options: &PgConnectOptions,
    channel: &str,
    heard: &watch::Sender<Heard>,
) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.ignore_pool_close_event(true);
    listener.listen(channel).await?;
    while listener.try_recv().await?.is_some() {
        heard.send_modify(|heard| heard.notifications += 1);
    }
    Ok(())
}
