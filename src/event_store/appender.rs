//! The connection that appends: one, with one batch in flight.
//!
//! | step | killed or cut off here | what holds |
//! | --- | --- | --- |
//! | batch sent | before the commit | nothing of it is in the log; the same batch is sent again |
//! | batch committed | before the answer | the outcome is unknown to us: the same command ids are sent again, and the probe answers "known" |
//! | answer read | before `NOTIFY` | readers poll every 500 ms |
//!
//! What is sent again after an unknown outcome answers [`Outcome::Known`] where it had been committed: the
//! caller then answers from the log, as for any other resend. At every reconnect the newest places that this process has seen are compared with
//! the log: another event there, or none, is a fork.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::append::{Append, Columns, Outcome};
use super::error::{Error, is_data_error};
use super::place::{Place, PlaceCheck};
use super::read;
use super::witness::Witness;
use crate::domain::ids::{Epoch, Position, StreamId, Version};
use crate::events::{Envelope, EventId};
use crate::postgres::answered_within;
use crate::retry::Backoff;

/// What a batch came to.
#[derive(Debug)]
pub struct Answered {
    /// One for each append, in order.
    pub outcomes: Vec<Outcome>,
    /// The history it belongs to.
    pub epoch: Epoch,
    /// The last position of the log after it.
    pub head: Position,
    /// The time that all of its events bear.
    pub recorded_at: DateTime<Utc>,
}

/// Appends batches over a connection of its own, reconnecting for as long as it takes.
pub struct Appender {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    witness: Arc<Witness>,
    available: watch::Sender<bool>,
    stop: CancellationToken,
}

/// Longest time that a call may take before the connection is given up: above the statement's own limit.
const CALL_TIMEOUT: Duration = Duration::from_secs(7);
/// A call that takes longer counts as the log being out of reach, while it goes on being waited for.
const SLOW: Duration = Duration::from_millis(300);
/// How long a call may take once the process was told to stop: what it came to is unknown then.
const CALL_AT_THE_END: Duration = Duration::from_millis(1_500);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

impl Appender {
    /// Over connections made with these options; connects when first needed.
    pub fn new(options: PgConnectOptions) -> Self {
        Self::stopping_with(options, CancellationToken::new())
    }

    /// The same, giving up what cannot be finished when told to stop: its outcome stays unknown.
    pub fn stopping_with(options: PgConnectOptions, stop: CancellationToken) -> Self {
        let options = options
            .application_name("insight append")
            .options([("statement_timeout", "5s"), ("lock_timeout", "1s"), ("tcp_user_timeout", "5s")])
            .disable_statement_logging();
        let (witness, available) = (Arc::default(), watch::Sender::new(true));
        Self { options, connection: None, witness, available, stop }
    }

    /// What the process knows the log by: others may add what they have read.
    pub fn witness(&self) -> Arc<Witness> {
        Arc::clone(&self.witness)
    }

    /// Whether the log could be reached at the last attempt.
    pub fn available(&self) -> watch::Receiver<bool> {
        self.available.subscribe()
    }

    /// Reads what streams have gained, up to `limit_per_stream` events of each, over the same connection.
    ///
    /// # Errors
    /// [`Error`], also transient ones: unlike an append, a read may be given up.
    pub async fn streams_after(
        &mut self,
        known: &[(StreamId, Version)],
        limit_per_stream: i64,
    ) -> Result<Vec<Envelope>, Error> {
        let stopped = stopped(self.stop.clone());
        let read = tokio::select! {
            read = self.try_streams_after(known, limit_per_stream) => read,
            () = stopped => Err(sqlx::Error::PoolTimedOut.into()),
        };
        if read.is_err() {
            self.connection = None;
        }
        read
    }

    async fn try_streams_after(
        &mut self,
        known: &[(StreamId, Version)],
        limit_per_stream: i64,
    ) -> Result<Vec<Envelope>, Error> {
        self.ensure_connected().await?;
        let connection = self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        let read = read::streams_after(connection, known, limit_per_stream);
        let read = tokio::time::timeout(CALL_TIMEOUT, read).await;
        Ok(read.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))?.events)
    }

    /// Appends a batch; returns when every outcome is known. Waits through a lost or restarting server.
    ///
    /// # Errors
    /// [`Error::Fork`] when the log is another history than the one this process has appended to; any other only
    /// when told to stop.
    pub async fn append(&mut self, batch: &[Append]) -> Result<Answered, Error> {
        let mut pauses = Backoff::pauses(PAUSE_MIN, PAUSE_MAX);
        loop {
            let available = self.available.clone();
            let slow = async {
                tokio::time::sleep(SLOW).await;
                available.send_if_modified(|available| std::mem::replace(available, false));
                std::future::pending::<std::convert::Infallible>().await
            };
            let stopped = stopped(self.stop.clone());
            let attempt = tokio::select! {
                attempt = self.try_append(batch) => Some(attempt),
                never = slow => match never {},
                () = stopped => None,
            };
            let Some(attempt) = attempt else {
                self.connection = None;
                return Err(sqlx::Error::PoolTimedOut.into());
            };
            match attempt {
                Ok(answered) => {
                    self.available.send_if_modified(|available| !std::mem::replace(available, true));
                    return Ok(answered);
                }
                Err(Error::Database(error)) if is_data_error(&error) => {
                    return self.halve(batch, &error).await;
                }
                Err(error) if error.is_transient() => {
                    warn!(%error, commands = batch.len(), attempt = pauses.count(), "append failed, sending the same batch again");
                    self.connection = None;
                    self.available.send_if_modified(|available| std::mem::replace(available, false));
                    if self.stop.run_until_cancelled(pauses.sleep()).await.is_none() {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The time that events would bear now, by the database's clock. Waits as [`Self::append`] does.
    ///
    /// # Errors
    /// As of [`Self::append`].
    pub async fn now(&mut self) -> Result<DateTime<Utc>, Error> {
        Ok(self.append(&[]).await?.recorded_at)
    }

    /// Some append in the batch can never be stored: find it by halves and let the others through.
    async fn halve(&mut self, batch: &[Append], error: &sqlx::Error) -> Result<Answered, Error> {
        if batch.len() == 1 {
            warn!(%error, command_id = %batch[0].command_id, "the database cannot store this command");
            let mut answered = Box::pin(self.append(&[])).await?;
            answered.outcomes = vec![Outcome::Unstorable { reason: error.to_string() }];
            return Ok(answered);
        }
        let (left, right) = batch.split_at(batch.len() / 2);
        let mut answered = Box::pin(self.append(left)).await?;
        let all_stand = answered.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Accepted { .. }));
        if !all_stand {
            // What comes after was decided upon what has just fallen.
            answered.outcomes.extend(right.iter().map(|_| Outcome::DecideAgain));
            return Ok(answered);
        }
        let rest = Box::pin(self.append(right)).await?;
        let outcomes = answered.outcomes.into_iter().chain(rest.outcomes).collect();
        Ok(Answered { outcomes, ..rest })
    }

    async fn try_append(&mut self, batch: &[Append]) -> Result<Answered, Error> {
        self.ensure_connected().await?;
        let connection = self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        let answered = match tokio::time::timeout(CALL_TIMEOUT, call(connection, batch)).await {
            Ok(answered) => answered?,
            Err(_) => return Err(sqlx::Error::PoolTimedOut.into()),
        };
        self.remember(batch, &answered);
        Ok(answered)
    }

    /// Connects if need be, and makes sure that the log is still the history we know.
    async fn ensure_connected(&mut self) -> Result<(), Error> {
        if self.connection.is_some() {
            return Ok(());
        }
        let connect = tokio::time::timeout(CALL_TIMEOUT, self.options.connect()).await;
        let mut connection = connect.map_err(|_| sqlx::Error::PoolTimedOut)??;
        if let Some(newest) = self.witness.newest() {
            let checked = answered_within(CALL_TIMEOUT, self.witness.check(&mut connection)).await?;
            if let PlaceCheck::Fork { reason } = checked {
                return Err(Error::Fork { reason });
            }
            info!(position = %newest.position, "reconnected to the event store");
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// Keeps the last accepted command's first event as what to recognise the log by.
    fn remember(&mut self, batch: &[Append], answered: &Answered) {
        let accepted =
            answered.outcomes.iter().zip(batch).rev().find_map(|(outcome, append)| match outcome {
                Outcome::Accepted { position } => Some((*position, append.command_id)),
                _ => None,
            });
        if let Some((position, command_id)) = accepted {
            self.witness.saw(Place {
                epoch: answered.epoch,
                position,
                event_id: Some(EventId { command_id, ordinal: 0 }),
                recorded_at: Some(answered.recorded_at),
            });
        }
    }

    /// Closes the connection.
    pub async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // The server notices by itself if this fails.
            let _ = connection.close().await;
        }
    }
}

/// Ends when a call must be given up because the process ends.
async fn stopped(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(CALL_AT_THE_END).await;
}

async fn call(connection: &mut PgConnection, batch: &[Append]) -> Result<Answered, Error> {
    let columns = Columns::of(batch);
    let row = sqlx::query(
        "select outcomes, positions, conflict_streams, conflict_versions, head, epoch, recorded_at from \
         append_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
         $21, $22, $23)",
    )
    .bind(columns.command_ids)
    .bind(columns.request_hashes)
    .bind(columns.correlation_ids)
    .bind(columns.causation_positions)
    .bind(columns.base_streams)
    .bind(columns.base_versions)
    .bind(columns.check_commands)
    .bind(columns.check_streams)
    .bind(columns.check_writes)
    .bind(columns.event_commands)
    .bind(columns.event_ordinals)
    .bind(columns.event_streams)
    .bind(columns.event_versions)
    .bind(columns.event_shards)
    .bind(columns.event_types)
    .bind(columns.event_schemas)
    .bind(columns.event_occurred_ats)
    .bind(columns.event_payloads)
    .bind(columns.event_metadata)
    .bind(columns.detail_commands)
    .bind(columns.detail_investors)
    .bind(columns.detail_names)
    .bind(columns.detail_emails)
    .fetch_one(&mut *connection)
    .await?;

    let codes: Vec<i16> = row.try_get("outcomes")?;
    let positions: Option<Vec<Option<i64>>> = row.try_get("positions")?;
    let streams: Option<Vec<Option<String>>> = row.try_get("conflict_streams")?;
    let versions: Option<Vec<Option<i64>>> = row.try_get("conflict_versions")?;
    let at = |i: usize| Position(positions.as_ref().and_then(|p| p.get(i).copied().flatten()).unwrap_or(0));
    let outcomes = codes
        .iter()
        .enumerate()
        .map(|(i, code)| match code {
            1 => Outcome::Accepted { position: at(i) },
            2 => Outcome::Known { position: at(i) },
            3 => Outcome::Conflict {
                stream_id: StreamId::from(
                    streams.as_ref().and_then(|s| s.get(i)?.as_deref()).unwrap_or_default(),
                ),
                current: Version(versions.as_ref().and_then(|v| v.get(i).copied().flatten()).unwrap_or(0)),
            },
            4 => Outcome::EmailTaken,
            _ => Outcome::DecideAgain,
        })
        .collect();
    Ok(Answered {
        outcomes,
        epoch: Epoch(row.try_get("epoch")?),
        head: Position(row.try_get("head")?),
        recorded_at: row.try_get("recorded_at")?,
    })
}
