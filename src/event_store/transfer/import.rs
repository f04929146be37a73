//! File to log: one transaction, by COPY, under the lock that appends take.

use std::io::{BufRead, Read};

use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};

use super::checks::{self, Checks};
use super::line::{self, Event, Footer, Header, Line, Person, hexadecimal};
use super::{Error, Progress};
use crate::domain::ids::Position;
use crate::event_store::error::is_data_error;
use crate::event_store::{ChunkSize, read};

/// What `append_batch` locks.
const LOCK: &str = "select pg_advisory_xact_lock(7306086967255298121)";
const EVENTS: &str = "copy events (position, command_id, ordinal, stream_id, version, shard, event_type, \
    schema_version, request_hash, correlation_id, causation_position, occurred_at, recorded_at, payload, metadata) \
    from stdin";
const PERSONS: &str = "copy investor_details (investor_id, name, email, created_at) from stdin";
/// Above any line of an event that the log takes.
const LINE_MAX: u64 = 4 << 20;
const SENT_AT_ONCE: usize = 1 << 20;
const TOLD_EVERY: i64 = 10_000;

/// What was imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Events.
    pub events: i64,
    /// Investors with name and e-mail.
    pub persons: i64,
    /// Whether the file was made with personal data.
    pub with_persons: bool,
}

/// Takes a file into an empty log: all of it or nothing.
///
/// # Errors
/// [`Error::Refused`] with the line for a file that is not as it was written, [`Error::NotEmpty`], the log.
pub async fn import(
    pool: &PgPool,
    file: &mut (impl BufRead + ?Sized),
    mut progress: impl FnMut(Progress),
) -> Result<Imported, Error> {
    let mut lines = Lines { file, line: 0, bytes: Vec::new(), hash: Sha256::new() };
    lines.next()?;
    let header = match lines.read()? {
        Line::Header(header) => header,
        _ => return Err(lines.refuse("a file begins with its header")),
    };
    checks::header(&header).map_err(|reason| lines.refuse(reason))?;

    let mut tx = pool.begin().await?;
    for setting in ["set local statement_timeout = 0", "set local lock_timeout = '10s'", LOCK] {
        sqlx::query(setting).execute(&mut *tx).await?;
    }
    let head = read::head(&mut *tx).await?;
    if head > Position(0) {
        return Err(Error::NotEmpty { head });
    }
    let (events_hash, next) = copy_events(&mut tx, &mut lines, &header, &mut progress).await?;
    let (persons, footer) = copy_persons(&mut tx, &mut lines, &header, next).await?;
    let expected = Footer { events: header.head, persons, sha256: footer.sha256.clone() };
    if footer != expected {
        return Err(lines.refuse(format!(
            "the footer counts {} events and {} persons, there are {} and {persons}",
            footer.events, footer.persons, header.head
        )));
    }
    write_epochs(&mut tx, &header.epochs).await?;
    if hash_of_stored(&mut tx).await? != events_hash {
        return Err(Error::ReadBack);
    }
    tx.commit().await?;
    sqlx::query("notify insight_head").execute(pool).await?;
    Ok(Imported { events: header.head, persons, with_persons: header.personal_data })
}

/// What comes after the events.
enum After {
    Person(Person),
    Footer(Footer),
}

/// Copies events; returns the hash of their lines, and the line after them.
async fn copy_events<R: BufRead + ?Sized>(
    conn: &mut PgConnection,
    lines: &mut Lines<'_, R>,
    header: &Header,
    progress: &mut impl FnMut(Progress),
) -> Result<(String, After), Error> {
    let mut copy = conn.copy_in_raw(EVENTS).await?;
    let (mut checks, mut hash, mut rows) = (Checks::default(), Sha256::new(), String::new());
    let after = loop {
        lines.next()?;
        match lines.read()? {
            Line::Event(event) => {
                checks.take(&event).map_err(|reason| lines.refuse(reason))?;
                push_event(&mut rows, &event);
                hash.update(&lines.bytes);
            }
            Line::Person(person) => break After::Person(person),
            Line::Footer(footer) => break After::Footer(footer),
            Line::Header(_) => return Err(lines.refuse("is a second header")),
        }
        if rows.len() >= SENT_AT_ONCE {
            copy.send(rows.as_bytes()).await.map_err(refused)?;
            rows.clear();
        }
        if checks.position() % TOLD_EVERY == 0 {
            progress(Progress { position: Position(checks.position()), head: Position(header.head) });
        }
    };
    if checks.position() != header.head {
        let reason =
            format!("the events end at position {}, the header says {}", checks.position(), header.head);
        return Err(lines.refuse(reason));
    }
    copy.send(rows.as_bytes()).await.map_err(refused)?;
    copy.finish().await.map_err(refused)?;
    Ok((hexadecimal(&hash.finalize()), after))
}

/// Copies persons; returns how many, and the footer, whose hash is right and after which nothing comes.
async fn copy_persons<R: BufRead + ?Sized>(
    conn: &mut PgConnection,
    lines: &mut Lines<'_, R>,
    header: &Header,
    next: After,
) -> Result<(i64, Footer), Error> {
    let mut copy = conn.copy_in_raw(PERSONS).await?;
    let (mut next, mut count) = (next, 0);
    let footer = loop {
        match next {
            After::Person(_) if !header.personal_data => {
                return Err(lines.refuse("is a person, and the header says that there is none"));
            }
            After::Person(person) => {
                let mut row = String::new();
                push(&mut row, &person.investor_id.to_string(), '\t');
                push(&mut row, &person.name, '\t');
                push(&mut row, &person.email, '\t');
                push(&mut row, &person.created_at.to_rfc3339(), '\n');
                copy.send(row.as_bytes()).await.map_err(refused)?;
                count += 1;
            }
            After::Footer(footer) => break footer,
        }
        lines.next()?;
        next = match lines.read()? {
            Line::Person(person) => After::Person(person),
            Line::Footer(footer) => After::Footer(footer),
            Line::Header(_) | Line::Event(_) => return Err(lines.refuse("stands in the wrong place")),
        };
    };
    copy.finish().await.map_err(refused)?;
    lines.end(&footer)?;
    Ok((count, footer))
}

/// An empty log has only the epoch that it was made with.
async fn write_epochs(conn: &mut PgConnection, epochs: &[line::Epoch]) -> Result<(), Error> {
    sqlx::query("delete from log_epochs").execute(&mut *conn).await?;
    for epoch in epochs {
        sqlx::query(
            "insert into log_epochs (epoch, first_position, started_at, reason) values ($1, $2, $3, $4)",
        )
        .bind(epoch.epoch)
        .bind(epoch.first_position)
        .bind(epoch.started_at)
        .bind(&epoch.reason)
        .execute(&mut *conn)
        .await
        .map_err(refused)?;
    }
    Ok(())
}

/// The hash of the lines that an export of what was stored would write.
async fn hash_of_stored(conn: &mut PgConnection) -> Result<String, Error> {
    let (mut hash, mut position) = (Sha256::new(), Position(0));
    let mut chunk = ChunkSize::new(5_000, 4 << 20);
    loop {
        let slice = read::after(&mut *conn, position, chunk.events() as i64).await?;
        chunk.observe(&slice.events);
        let Some(last) = slice.events.last() else { return Ok(hexadecimal(&hash.finalize())) };
        position = last.position;
        for event in &slice.events {
            hash.update(Line::Event(event.into()).text());
        }
    }
}

fn refused(error: sqlx::Error) -> Error {
    if is_data_error(&error) { Error::Constraint(error) } else { Error::Database(error) }
}

/// The file, line by line.
struct Lines<'a, R: ?Sized> {
    file: &'a mut R,
    line: u64,
    bytes: Vec<u8>,
    /// Of the lines before this one.
    hash: Sha256,
}

impl<R: BufRead + ?Sized> Lines<'_, R> {
    /// Goes to the next line, which must be there.
    fn next(&mut self) -> Result<(), Error> {
        self.hash.update(&self.bytes);
        self.bytes.clear();
        self.line += 1;
        let line = self.line;
        let mut rest = (&mut *self.file).take(LINE_MAX);
        rest.read_until(b'\n', &mut self.bytes).map_err(|source| Error::Read { line, source })?;
        if self.bytes.ends_with(b"\n") {
            return Ok(());
        }
        let is_long = self.bytes.len() as u64 == LINE_MAX;
        Err(self.refuse(if is_long { "is too long" } else { "the file is cut off before its footer" }))
    }

    fn read(&self) -> Result<Line<'_>, Error> {
        serde_json::from_slice(&self.bytes)
            .map_err(|error| self.refuse(format!("is no line of an exported log ({error})")))
    }

    fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::Refused { line: self.line, reason: reason.into() }
    }

    /// Compares the footer with what was read; nothing may follow it.
    fn end(&mut self, footer: &Footer) -> Result<(), Error> {
        let found = hexadecimal(&self.hash.clone().finalize());
        if found != footer.sha256 {
            return Err(self.refuse(format!(
                "the lines before it have the SHA-256 {found}, the footer says {}: the file was altered",
                footer.sha256
            )));
        }
        let line = self.line + 1;
        let more = self.file.fill_buf().map_err(|source| Error::Read { line, source })?;
        if more.is_empty() { Ok(()) } else { Err(self.refuse("something follows the footer")) }
    }
}

fn push_event(rows: &mut String, event: &Event<'_>) {
    for text in [
        &*event.position.to_string(),
        &event.command_id.to_string(),
        &event.ordinal.to_string(),
        &event.stream_id,
        &event.version.to_string(),
        &event.shard.to_string(),
        &event.r#type,
        &event.schema_version.to_string(),
    ] {
        push(rows, text, '\t');
    }
    push(rows, &format!("\\x{}", event.request_hash), '\t');
    push(rows, &event.correlation_id.to_string(), '\t');
    match event.causation_position {
        Some(position) => push(rows, &position.to_string(), '\t'),
        None => rows.push_str("\\N\t"),
    }
    push(rows, &event.occurred_at.to_rfc3339(), '\t');
    push(rows, &event.recorded_at.to_rfc3339(), '\t');
    push(rows, &event.payload, '\t');
    push(rows, &event.metadata, '\n');
}

/// A value in the text format of COPY.
fn push(rows: &mut String, text: &str, end: char) {
    for character in text.chars() {
        match character {
            '\\' => rows.push_str("\\\\"),
            '\t' => rows.push_str("\\t"),
            '\n' => rows.push_str("\\n"),
            '\r' => rows.push_str("\\r"),
            other => rows.push(other),
        }
    }
    rows.push(end);
}
