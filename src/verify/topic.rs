//! The topics against the log, record by record.
//!
//! Of a shard, the first occurrences of records, in order, must be the store's events, byte for byte; copies may come again.
//!
//! | found | is |
//! | --- | --- |
//! | the next event of the shard | right, if every byte of it is, and the event before is the one it names |
//! | an event that was met before | a copy: counted, and compared as well |
//! | a later event | a gap: a difference |
//! | an event of an epoch that ended before that position | of a dead history, which readers drop: counted |
//! | anything else | unknown to the store: a difference |
//! | nothing at an offset | a record that is not ours: a difference |
//! | nothing before the first offset of a partition | removed by retention: counted |
//! | nothing at the end | not copied yet: counted, unless the relay says that it was copied |

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use super::report::{Difference, Report};
use super::{Error, Progress};
use crate::domain::ids::{Position, Shard};
use crate::event_store::read;
use crate::events::{Envelope, EventId};
use crate::kafka::scan::{self, Extent};
use crate::kafka::{KafkaSettings, Previous, Record, topics};

/// Events of a shard that are read ahead.
const WINDOW_EVENTS: i64 = 500;

/// The verdict over topics.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TopicReport {
    /// The last position of the log when the topics had been read.
    pub head: i64,
    /// Records that were read.
    pub records: u64,
    /// Events that were found, each once.
    pub events: u64,
    /// Records of events that had been met before.
    pub copies: u64,
    /// Records of histories that ended before.
    pub dead: u64,
    /// Events before the first record that a partition still has.
    pub removed: u64,
    /// Events that the relay has not copied yet.
    pub to_come: u64,
    /// The first differences.
    pub differences: Vec<Difference>,
    /// All of them.
    pub difference_count: u64,
}

impl TopicReport {
    /// Whether the topics hold what the log holds.
    pub fn is_clean(&self) -> bool {
        self.difference_count == 0
    }
}

/// Reads the topics as far as they go now, and compares each record with the log.
///
/// # Errors
/// A broker or a database that does not answer.
pub async fn verify_topic(
    pool: &PgPool,
    settings: &KafkaSettings,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<TopicReport, Error> {
    let mut conn = pool.acquire().await?;
    // What the relay says first, then extents, then the log: what was copied by then is in the topic by now, and whatever a topic
    // holds by then is in the log. Asked the other way round, a relay at work would look like a topic that has lost its end.
    let copied = copied(&mut conn).await?;
    let extents = scan::extents(settings, topics::all_shards().collect()).await?;
    let mut check = TopicCheck {
        epochs: sqlx::query_as("select epoch, first_position from log_epochs order by epoch")
            .fetch_all(&mut *conn)
            .await?,
        told: TopicReport::default(),
        report: Report::default(),
    };
    let total = extents.values().map(|it| u64::try_from(it.end - it.low).unwrap_or_default()).sum();
    let begin = |(shard, extent): (&Shard, &Extent)| (*shard, Partition::new(settings, *shard, *extent));
    let mut partitions: BTreeMap<Shard, Partition> = extents.iter().map(begin).collect();
    let mut records = scan::scan(settings, extents);
    while let Some(some) = records.recv().await {
        for record in some? {
            if let Some(partition) = partitions.get_mut(&record.event.shard) {
                check.record(&mut conn, partition, &record).await?;
            }
        }
        progress(Progress { stage: "records", done: check.told.records, total });
    }
    for partition in partitions.values() {
        let said = copied.get(&(partition.topic.clone(), partition.shard.0)).copied();
        check.end(&mut conn, partition, said.unwrap_or_default()).await?;
    }
    let TopicCheck { mut told, report, .. } = check;
    told.head = read::head(&mut *conn).await?.0;
    (told.differences, told.difference_count) = (report.differences, report.difference_count);
    Ok(told)
}

/// How far the relay says that it is, by topic and shard.
async fn copied(conn: &mut PgConnection) -> Result<BTreeMap<(String, i16), i64>, sqlx::Error> {
    const SQL: &str = "select topic, shard, position from relay_progress";
    let rows: Vec<(String, i16, i64)> = sqlx::query_as(SQL).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(topic, shard, position)| ((topic, shard), position)).collect())
}

/// A partition as it is read.
struct Partition {
    shard: Shard,
    topic: String,
    /// As people write it: topic/partition.
    name: String,
    extent: Extent,
    next_offset: i64,
    has_begun: bool,
    /// The last event that was met for the first time.
    last: Previous,
    /// What the store has after it.
    window: VecDeque<Envelope>,
}

impl Partition {
    fn new(settings: &KafkaSettings, shard: Shard, extent: Extent) -> Self {
        let topic = settings.topic_of(shard).unwrap_or_default();
        let partition = topics::partition_of(shard).map_or(0, |(_, partition)| partition);
        let name = format!("{topic}/{partition}");
        let (next_offset, window) = (extent.low, VecDeque::new());
        Self { shard, topic, name, extent, next_offset, has_begun: false, last: None, window }
    }

    fn position(&self) -> Position {
        self.last.map_or(Position(0), |(position, _)| position)
    }

    /// The next event of the shard in the store.
    async fn peek(&mut self, conn: &mut PgConnection) -> Result<Option<&Envelope>, Error> {
        if self.window.is_empty() {
            let slice = read::shard_after(conn, self.shard, self.position(), WINDOW_EVENTS).await?;
            self.window = slice.events.into();
        }
        Ok(self.window.front())
    }

    /// Goes on behind the next event.
    fn pass(&mut self) {
        self.last = self.window.pop_front().map(|event| (event.position, event.event_id)).or(self.last);
    }
}

struct TopicCheck {
    /// Epochs and where they begin.
    epochs: Vec<(i32, i64)>,
    told: TopicReport,
    report: Report,
}

impl TopicCheck {
    async fn record(
        &mut self,
        conn: &mut PgConnection,
        partition: &mut Partition,
        record: &Record,
    ) -> Result<(), Error> {
        let (event, offset) = (&record.event, record.offset);
        self.told.records += 1;
        if offset > partition.next_offset {
            let place = format!("{} offset {}", partition.name, partition.next_offset);
            let found = format!("{} records are not ours, or cannot be read", offset - partition.next_offset);
            self.report.differs(place, found);
        }
        partition.next_offset = offset + 1;
        let place = format!("{} offset {offset}, position {}", partition.name, event.position);
        let ended = |(epoch, first): &(i32, i64)| *epoch > event.epoch.0 && *first <= event.position.0;
        if self.epochs.iter().any(ended) {
            self.told.dead += 1;
            return Ok(());
        }
        if !std::mem::replace(&mut partition.has_begun, true) && partition.extent.low > 0 {
            // What came before is gone, as it should be after a while.
            let before = read::previous_in_shard(&mut *conn, partition.shard, event.position).await?;
            partition.last = before.map(|before| (before.position, before.event_id));
            self.told.removed += count(conn, partition.shard, Position(0), partition.position()).await?;
        }
        if event.position <= partition.position() {
            self.told.copies += 1;
            match read::find(conn, event.position).await? {
                Some(stored) if stored.shard == partition.shard => self.compare(&place, event, &stored),
                _ => self.report.differs(place, "is not in the log"),
            }
            return Ok(());
        }
        let (mut gap, mut first) = (0, None);
        while let Some(next) = partition.peek(conn).await?.filter(|next| next.position < event.position) {
            first = first.or(Some(next.position));
            gap += 1;
            partition.pass();
        }
        if let Some(first) = first {
            let found = format!("{gap} events of the shard from position {first} on are missing before it");
            self.report.differs(&place, found);
        }
        let last = partition.last;
        match partition.peek(conn).await?.filter(|next| next.position == event.position) {
            None => self.report.differs(place, "is not in the log"),
            Some(stored) => {
                self.told.events += 1;
                self.compare(&place, event, stored);
                if record.previous != last {
                    let found = format!("names {}, should name {}", shown(record.previous), shown(last));
                    self.report.differs(format_args!("{place}, previous"), found);
                }
                partition.pass();
            }
        }
        Ok(())
    }

    /// Header by header, and the payload's bytes.
    fn compare(&mut self, place: &str, record: &Envelope, stored: &Envelope) {
        if record == stored {
            return;
        }
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let fields = |event: &Envelope| {
            [
                ("epoch", event.epoch.to_string()),
                ("id", event.event_id.to_string()),
                ("subject", event.stream_id.to_string()),
                ("version", event.version.to_string()),
                ("type", event.event_type.to_string()),
                ("schemaversion", event.schema_version.to_string()),
                ("requesthash", hex(&event.request_hash)),
                ("correlationid", event.correlation_id.to_string()),
                ("causationposition", format!("{:?}", event.causation_position.map(|it| it.0))),
                ("time", event.occurred_at.to_rfc3339()),
                ("recordedtime", event.recorded_at.to_rfc3339()),
                ("metadata", event.metadata.to_string()),
                ("payload", event.payload.to_string()),
            ]
        };
        for ((name, found), (_, expected)) in fields(record).into_iter().zip(fields(stored)) {
            if found != expected {
                let found = format!("is {found}, should be {expected}");
                self.report.differs(format_args!("{place}, {name}"), found);
            }
        }
    }

    /// What can only be said after the last record; the relay says it has copied up to `copied`.
    async fn end(
        &mut self,
        conn: &mut PgConnection,
        partition: &Partition,
        copied: i64,
    ) -> Result<(), Error> {
        let Extent { low, end } = partition.extent;
        if partition.next_offset < end {
            let place = format!("{} offset {}", partition.name, partition.next_offset);
            let found = format!("{} records are not ours, or cannot be read", end - partition.next_offset);
            self.report.differs(place, found);
        }
        // Of an empty partition that once held something, all that was copied was removed since.
        let is_emptied = low == end && low > 0;
        let last = if is_emptied { Position(copied) } else { partition.position() };
        if is_emptied {
            self.told.removed += count(conn, partition.shard, Position(0), last).await?;
        } else if copied > last.0 {
            let found = format!("ends at position {last}, and the relay says that it copied up to {copied}");
            self.report.differs(&partition.name, found);
        }
        self.told.to_come += count(conn, partition.shard, last, Position(i64::MAX)).await?;
        Ok(())
    }
}

fn shown(previous: Option<(Position, EventId)>) -> String {
    previous.map_or_else(|| "none".to_owned(), |(position, event_id)| format!("{position}/{event_id}"))
}

/// Events of a shard after one position and up to another.
async fn count(
    conn: &mut PgConnection,
    shard: Shard,
    after: Position,
    to: Position,
) -> Result<u64, sqlx::Error> {
    const SQL: &str = "select count(*) from events where shard = $1 and position > $2 and position <= $3";
    let count: i64 = sqlx::query_scalar(SQL).bind(shard.0).bind(after.0).bind(to.0).fetch_one(conn).await?;
    Ok(u64::try_from(count).unwrap_or_default())
}
