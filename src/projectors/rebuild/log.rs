//! One shard of the log, read from its beginning with no more of each event than a fold needs.
//!
//! COPY hands out rows in binary form as fast as the connection takes them, with no round trip between two pieces. What
//! folds do not look at (hash, correlation, and metadata but of jobs) is left out and stands empty in the envelope.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use futures::stream::BoxStream;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::{ConnectOptions, Connection};
use uuid::Uuid;

use crate::domain::ids::{Epoch, JOB_SHARD_FIRST, Position, Shard, StreamId, Version};
use crate::event_store;
use crate::events::{Envelope, EventId};
use crate::projectors::copy::row_of_message;

/// The first position of each epoch, in order.
#[derive(Debug, Clone)]
pub(super) struct Epochs(Vec<(i64, i32)>);

impl Epochs {
    /// As the log has them now.
    pub(super) async fn load(pool: &PgPool) -> Result<Self, sqlx::Error> {
        const SQL: &str = "select first_position, epoch from log_epochs order by first_position";
        Ok(Self(sqlx::query_as(SQL).fetch_all(pool).await?))
    }

    fn of(&self, position: i64) -> Option<Epoch> {
        let after = self.0.partition_point(|(first, _)| *first <= position);
        Some(Epoch(self.0[..after].iter().map(|(_, epoch)| *epoch).max()?))
    }
}

/// A connection that reads shards.
#[derive(Debug)]
pub(super) struct Reader {
    connection: PgConnection,
    epochs: Arc<Epochs>,
    /// The same in every envelope.
    nothing: (Arc<[u8]>, Arc<str>),
    event_types: Vec<Arc<str>>,
}

impl Reader {
    /// Connects.
    pub(super) async fn open(pool: &PgPool, epochs: Arc<Epochs>) -> Result<Self, sqlx::Error> {
        let options: PgConnectOptions = (*pool.connect_options()).clone();
        // The index gives a shard in order; anything else would sort gigabytes. A shard takes as long as it takes.
        let settings = [
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            ("enable_sort", "off"),
            ("jit", "off"),
            ("max_parallel_workers_per_gather", "0"),
            ("statement_timeout", "0"),
            // Who is throttled reads slowly, and is not gone.
            ("tcp_user_timeout", "0"),
        ];
        let connection = options.application_name("insight rebuild").options(settings).connect().await?;
        let nothing = (Arc::from([0_u8; 0].as_slice()), Arc::from("{}"));
        Ok(Self { connection, epochs, nothing, event_types: Vec::new() })
    }

    /// Every event of a shard up to a position.
    pub(super) async fn shard(&mut self, shard: Shard, to: Position) -> Result<ShardEvents<'_>, sqlx::Error> {
        let metadata = if has_metadata(shard) { ", metadata::text" } else { "" };
        // Compared as pairs, since for one shard alone the planner would rather read the whole log by position.
        let statement = format!(
            "copy (select position, command_id, ordinal, stream_id, version, event_type, schema_version, \
             occurred_at, recorded_at, payload{metadata} from events where (shard, position) > ({shard}::smallint, 0::bigint) \
             and (shard, position) <= ({shard}::smallint, {to}::bigint) order by shard, position) to stdout (format binary)"
        );
        let Self { connection, epochs, nothing, event_types } = self;
        let rows = connection.copy_out_raw(&statement).await?;
        Ok(ShardEvents { shard, rows, epochs, nothing, event_types })
    }

    /// Ends the connection, also in the middle of a shard.
    pub(super) async fn close(self) {
        // Closing politely would first read what is still being sent.
        let _ = self.connection.close_hard().await;
    }
}

/// The events of a shard, in order.
pub(super) struct ShardEvents<'r> {
    shard: Shard,
    rows: BoxStream<'r, Result<Bytes, sqlx::Error>>,
    epochs: &'r Epochs,
    nothing: &'r (Arc<[u8]>, Arc<str>),
    event_types: &'r mut Vec<Arc<str>>,
}

impl ShardEvents<'_> {
    /// The next event; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Envelope>, event_store::Error> {
        while let Some(message) = self.rows.next().await {
            if let Some(row) = row_of_message(&message?) {
                return self.envelope(row).map(Some);
            }
        }
        Ok(None)
    }

    fn envelope(&mut self, row: &[u8]) -> Result<Envelope, event_store::Error> {
        let mut cells = Cells(row.get(2..).unwrap_or_default());
        let position = i64::from_be_bytes(cells.word()?);
        let unreadable = |reason: &str| event_store::Error::Unreadable {
            position: Position(position),
            reason: reason.to_owned(),
        };
        let command_id = Uuid::from_bytes(cells.word()?);
        let ordinal = i32::from_be_bytes(cells.word()?);
        let stream_id = StreamId(Arc::from(cells.text()?));
        let version = Version(i64::from_be_bytes(cells.word()?));
        let event_type = intern(self.event_types, cells.text()?);
        let schema_version = i16::from_be_bytes(cells.word()?);
        let occurred_at = cells.instant()?;
        let recorded_at = cells.instant()?;
        let payload = Arc::from(cells.text()?);
        let metadata = match has_metadata(self.shard) {
            true => Arc::from(cells.text()?),
            false => Arc::clone(&self.nothing.1),
        };
        Ok(Envelope {
            epoch: self.epochs.of(position).ok_or_else(|| unreadable("it belongs to no epoch"))?,
            position: Position(position),
            event_id: EventId { command_id, ordinal },
            stream_id,
            version,
            request_hash: Arc::clone(&self.nothing.0),
            event_type,
            schema_version,
            shard: self.shard,
            correlation_id: Uuid::nil(),
            causation_position: None,
            occurred_at,
            recorded_at,
            payload,
            metadata,
        })
    }
}

/// Who defined a job stands in its row.
fn has_metadata(shard: Shard) -> bool {
    shard.0 >= JOB_SHARD_FIRST
}

/// There are a dozen types and millions of events.
fn intern(known: &mut Vec<Arc<str>>, text: &str) -> Arc<str> {
    if let Some(found) = known.iter().find(|it| &***it == text) {
        return Arc::clone(found);
    }
    known.push(text.into());
    known[known.len() - 1].clone()
}

/// What is left of a row: length and bytes of each cell.
struct Cells<'r>(&'r [u8]);

impl<'r> Cells<'r> {
    fn next(&mut self) -> Result<&'r [u8], sqlx::Error> {
        let broken = || sqlx::Error::Decode("a row of the log ends before its last column".into());
        let (length, rest) = self.0.split_at_checked(4).ok_or_else(broken)?;
        let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
        let length = usize::try_from(length).map_err(|_| broken())?;
        let (cell, rest) = rest.split_at_checked(length).ok_or_else(broken)?;
        self.0 = rest;
        Ok(cell)
    }

    fn word<const N: usize>(&mut self) -> Result<[u8; N], sqlx::Error> {
        let cell = self.next()?;
        cell.try_into().map_err(|_| sqlx::Error::Decode(format!("{} bytes, not {N}", cell.len()).into()))
    }

    fn text(&mut self) -> Result<&'r str, sqlx::Error> {
        std::str::from_utf8(self.next()?).map_err(|error| sqlx::Error::Decode(error.into()))
    }

    fn instant(&mut self) -> Result<DateTime<Utc>, sqlx::Error> {
        const MILLENNIUM: i64 = 946_684_800;
        let since = TimeDelta::microseconds(i64::from_be_bytes(self.word()?));
        let start = DateTime::from_timestamp(MILLENNIUM, 0).expect("a second");
        start.checked_add_signed(since).ok_or_else(|| sqlx::Error::Decode("a time out of range".into()))
    }
}
