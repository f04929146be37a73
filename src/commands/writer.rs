//! The thread that appends: takes what has queued up while the last batch was committing, decides it, appends it.
//!
//! No timer: under load the commit itself is the pause in which the next batch gathers, and alone a command goes
//! at once. Deciding a thousand commands takes milliseconds, so this is a thread of its own and not a task
//! between the requests. It is also the only owner of the cached states: nobody shares a lock with it.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::aggregates::Aggregates;
use super::batch::{self, Batch, COMMANDS_MAX, Now, Pending};
use super::load::READ_EVENTS;
use crate::clock::Clock;
use crate::domain::ids::{Epoch, Position, StreamId};
use crate::event_store::{Answered, Appender, Error};
use crate::metrics;

/// The two queues into the thread: a bulk load must not stand between a person and their trade.
pub(super) struct Queues {
    pub commands: mpsc::Receiver<Pending>,
    pub windows: mpsc::Receiver<Pending>,
}

pub(super) struct Writer {
    pub appender: Appender,
    pub aggregates: Aggregates,
    pub clock: Clock,
    /// The last position that this process has appended.
    pub head: watch::Sender<Position>,
}

impl Writer {
    /// Appends until cancelled; what is queued by then is still decided.
    ///
    /// # Errors
    /// [`Error::Fork`]: the log is another history, and the cached states belong to the dead one.
    pub(super) async fn run(mut self, mut queues: Queues, cancel: CancellationToken) -> Result<(), Error> {
        let mut queue = VecDeque::new();
        let mut window = None;
        loop {
            if queue.is_empty() && window.is_none() {
                tokio::select! {
                    biased;
                    Some(pending) = queues.commands.recv() => queue.push_back(pending),
                    Some(pending) = queues.windows.recv() => window = Some(pending),
                    () = cancel.cancelled() => break,
                    else => break,
                }
            }
            while queue.len() < COMMANDS_MAX
                && let Ok(pending) = queues.commands.try_recv()
            {
                queue.push_back(pending);
            }
            window = window.or_else(|| queues.windows.try_recv().ok());
            match self.batch(&mut queue, window.take()).await {
                // Whoever waits is told that the server is stopping; sending again tells the outcome.
                Err(error) if error.is_transient() && cancel.is_cancelled() => break,
                settled => settled?,
            }
        }
        self.appender.close().await;
        Ok(())
    }

    async fn batch(&mut self, queue: &mut VecDeque<Pending>, window: Option<Pending>) -> Result<(), Error> {
        let now = self.now(queue).await?;
        let batch = batch::form(queue, window, &mut self.aggregates, now, Instant::now());
        let answered = self.append(&batch).await?;
        let settled = batch::settle(batch, &answered, &mut self.aggregates);
        metrics::commands_decided_again(settled.again.len());
        self.refresh(settled.stale).await?;
        for pending in settled.again.into_iter().rev() {
            queue.push_front(pending);
        }
        Ok(())
    }

    /// What time it is. The database is asked where a job waits: there are few, and a due time that a fast clock takes is lost.
    async fn now(&mut self, queue: &VecDeque<Pending>) -> Result<Now, Error> {
        if !queue.iter().any(|pending| pending.request.is_of_a_job()) {
            return Ok(self.clock.now().into());
        }
        let database = self.appender.now().await?;
        let ours = self.clock.now();
        Ok(Now { ours, of_jobs: ours.min(database) })
    }

    async fn append(&mut self, batch: &Batch) -> Result<Answered, Error> {
        if batch.appends.is_empty() {
            let recorded_at = self.clock.now();
            return Ok(Answered { outcomes: Vec::new(), epoch: Epoch(0), head: Position(0), recorded_at });
        }
        let started = Instant::now();
        let answered = self.appender.append(&batch.appends).await?;
        metrics::batch_appended(batch.appends.len(), started.elapsed());
        debug!(commands = batch.appends.len(), head = %answered.head, "batch appended");
        self.head.send_if_modified(|head| {
            let newer = answered.head > *head;
            *head = answered.head.max(*head);
            newer
        });
        Ok(answered)
    }

    /// Brings cached streams that have moved on nearer to the log; those that cannot be read now are forgotten. One that others
    /// have moved on far takes several batches, between which other commands have their turn.
    async fn refresh(&mut self, stale: HashSet<StreamId>) -> Result<(), Error> {
        let known: Vec<_> = stale
            .into_iter()
            .filter_map(|id| self.aggregates.get(&id).map(|stream| (id, stream.version)))
            .collect();
        if known.is_empty() {
            return Ok(());
        }
        let read = self.appender.streams_after(&known, READ_EVENTS).await;
        let advanced = match read {
            Err(error @ Error::Fork { .. }) => return Err(error),
            Err(error) => Err(error.to_string()),
            Ok(events) => self.aggregates.advance_all(&events).map_err(|error| error.to_string()),
        };
        if let Err(reason) = advanced {
            warn!(reason, "cached streams are forgotten, they will be read anew");
            for (id, _) in &known {
                self.aggregates.forget(id);
            }
        }
        Ok(())
    }
}

/// Pause between two notifications: readers gain nothing from more, and each costs a transaction.
const NOTIFY_PAUSE: Duration = Duration::from_millis(5);

const NOTIFY_WITHIN: Duration = Duration::from_secs(1);

/// Tells readers of the log, on another connection than the appender's, that its head has moved.
pub(super) async fn notify(mut head: watch::Receiver<Position>, pool: PgPool, cancel: CancellationToken) {
    while cancel.run_until_cancelled(head.changed()).await.is_some_and(|changed| changed.is_ok()) {
        let position = head.borrow_and_update().to_string();
        let sent = sqlx::query("select pg_notify('insight_head', $1)").bind(position).execute(&pool);
        // Readers poll as well.
        match tokio::time::timeout(NOTIFY_WITHIN, sent).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => debug!(%error, "the head could not be announced"),
            Err(_) => debug!("the head could not be announced in time"),
        }
        tokio::time::sleep(NOTIFY_PAUSE).await;
    }
}
