//! Log to file. It reads by pages, so memory is flat, and holds no snapshot: what was there when it began never changes.

use std::io::Write;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use uuid::Uuid;

use super::line::{self, FORMAT, Footer, Header, Line, Person, VERSION, hexadecimal};
use super::{Error, Exported, Progress};
use crate::domain::ids::Position;
use crate::event_store::{self, ChunkSize, read};

const READ_EVENTS: usize = 5_000;
const READ_BYTES: usize = 4 << 20;
const READ_PERSONS: i64 = 1_000;

/// Writes the log as it is now.
///
/// # Errors
/// [`Error::Write`], the log.
pub async fn export(
    pool: &PgPool,
    with_persons: bool,
    out: &mut (impl Write + ?Sized),
    mut progress: impl FnMut(Progress),
) -> Result<Exported, Error> {
    let head = read::head(pool).await?;
    let mut out = Hashed { out, hash: Sha256::new() };
    let header = Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        head: head.0,
        epochs: epochs(pool, head).await?,
        personal_data: with_persons,
    };
    out.line(&Line::Header(header))?;

    let mut position = Position(0);
    let mut chunk = ChunkSize::new(READ_EVENTS, READ_BYTES);
    while position < head {
        let slice = read::after(pool, position, chunk.events() as i64).await?;
        chunk.observe(&slice.events);
        for event in slice.events.iter().take_while(|event| event.position <= head) {
            if event.position.0 != position.0 + 1 {
                return Err(hole(position, event.position));
            }
            position = event.position;
            out.line(&Line::Event(event.into()))?;
        }
        if slice.events.is_empty() {
            return Err(hole(position, head));
        }
        progress(Progress { position, head });
    }
    let persons = if with_persons { export_persons(pool, head, &mut out).await? } else { 0 };
    let sha256 = hexadecimal(&out.hash.clone().finalize());
    out.line(&Line::Footer(Footer { events: head.0, persons, sha256 }))?;
    out.out.flush().map_err(Error::Write)?;
    Ok(Exported { events: head.0, persons })
}

fn hole(before: Position, found: Position) -> Error {
    let reason = format!("position {} is missing, the next one is {found}", before.0 + 1);
    event_store::Error::Fork { reason }.into()
}

/// The epochs that have an event up to here, and the first one.
async fn epochs(pool: &PgPool, head: Position) -> Result<Vec<line::Epoch>, Error> {
    const SQL: &str = "select epoch, first_position, started_at, reason from log_epochs \
        where first_position <= greatest($1, 1) + 1 order by epoch";
    let rows: Vec<(i32, i64, DateTime<Utc>, String)> =
        sqlx::query_as(SQL).bind(head.0).fetch_all(pool).await?;
    let epochs = rows.into_iter().map(|(epoch, first_position, started_at, reason)| line::Epoch {
        epoch,
        first_position,
        started_at,
        reason,
    });
    Ok(epochs.collect())
}

/// Of those who registered up to the head, whom nobody has erased.
async fn export_persons<W: Write + ?Sized>(
    pool: &PgPool,
    head: Position,
    out: &mut Hashed<'_, W>,
) -> Result<i64, Error> {
    const SQL: &str = "select d.investor_id, d.name, d.email, d.created_at from investor_details d \
        where d.investor_id > $1 and exists (select from events e \
            where e.stream_id = 'investor-' || d.investor_id and e.version = 1 and e.position <= $2) \
        order by d.investor_id limit $3";
    let (mut after, mut count) = (Uuid::nil(), 0);
    loop {
        let rows: Vec<(Uuid, String, String, DateTime<Utc>)> =
            sqlx::query_as(SQL).bind(after).bind(head.0).bind(READ_PERSONS).fetch_all(pool).await?;
        let Some(last) = rows.last() else { return Ok(count) };
        after = last.0;
        for (investor_id, name, email, created_at) in rows {
            count += 1;
            out.line(&Line::Person(Person { investor_id, name, email, created_at }))?;
        }
    }
}

/// A file and the hash of what was written to it.
struct Hashed<'a, W: ?Sized> {
    out: &'a mut W,
    hash: Sha256,
}

impl<W: Write + ?Sized> Hashed<'_, W> {
    fn line(&mut self, line: &Line<'_>) -> Result<(), Error> {
        let text = line.text();
        self.hash.update(&text);
        self.out.write_all(text.as_bytes()).map_err(Error::Write)
    }
}
