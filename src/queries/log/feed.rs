//! The log for other systems, page by page: gapless, in position order, each page with the place to go on from.
//!
//! Positions have no holes and are committed in order, so whoever goes on from `next` misses nothing and sees nothing twice.
//! With a filter a page looks at a bounded part of the log and `next` moves past what was left out: a page may be empty
//! while there is more.

use sqlx::PgPool;

use crate::domain::ids::{Epoch, Position, StreamId};
use crate::event_store::read;
use crate::events::Envelope;
use crate::queries::{AsOf, Error};

/// How much of the log one page with a filter by type looks at.
const LOOKED_AT_MAX: i64 = 20_000;
/// Events that are read before it is known how big they are.
const FIRST_READ: usize = 32;

/// Which events are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this type only.
    pub event_type: Option<String>,
    /// Of this stream only.
    pub stream: Option<StreamId>,
}

impl Filter {
    /// Whether the event is wanted.
    pub fn wants(&self, event: &Envelope) -> bool {
        let of_type = self.event_type.as_deref().is_none_or(|wanted| wanted == &*event.event_type);
        of_type && self.stream.as_ref().is_none_or(|wanted| *wanted == event.stream_id)
    }
}

/// How big a page may be.
#[derive(Debug, Clone, Copy)]
pub struct PageSize {
    /// Events.
    pub events: usize,
    /// About how many bytes of them; one event may be more.
    pub bytes: usize,
}

impl PageSize {
    /// So many events, of at most 4 MiB together.
    pub fn of(events: usize) -> Self {
        Self { events, bytes: 4 << 20 }
    }
}

/// A part of the log.
#[derive(Debug, Clone)]
pub struct FeedPage<E = Envelope> {
    /// The log as it was: its epoch, its head, when it took the last event of the page.
    pub as_of: AsOf,
    /// The events that are wanted, in order.
    pub events: Vec<E>,
    /// Where to go on: everything up to here that is wanted is in this page or before it.
    pub next: (Epoch, Position),
}

/// What became of a question.
#[derive(Debug)]
pub enum Fed {
    /// A page.
    Page(FeedPage),
    /// The place is not, or no longer, one of this log's history.
    Elsewhere,
    /// No such stream.
    NoStream,
}

/// The events after a place, as many as fit. Without an epoch, the place is one of the history as it is now.
///
/// # Errors
/// The log.
pub async fn page(
    pool: &PgPool,
    epoch: Option<Epoch>,
    after: Position,
    size: PageSize,
    filter: &Filter,
) -> Result<Fed, Error> {
    let epochs = read::epochs(pool).await?;
    if epoch.is_some_and(|epoch| !is_alive(&epochs, epoch, after)) {
        return Ok(Fed::Elsewhere);
    }
    let read = match &filter.stream {
        Some(stream) => match of_stream(pool, stream, after, size, filter).await? {
            Some(read) => read,
            None => return Ok(Fed::NoStream),
        },
        None => of_all(pool, after, size, filter).await?,
    };
    if read.head < after {
        return Ok(Fed::Elsewhere);
    }
    let recorded_at = read.events.last().map(|event| event.recorded_at);
    // Of the head, as `next` is of the end: an epoch that has no event yet would keep the two apart.
    let as_of =
        AsOf { epoch: epoch_at(&epochs, read.head), position: read.head, recorded_at, changed_at: None };
    let next = (epoch_at(&epochs, read.end), read.end);
    Ok(Fed::Page(FeedPage { as_of, events: read.events, next }))
}

/// Whether a place is one of the history that is going on: its epoch is known, and no later one began at or before it.
fn is_alive(epochs: &[(Epoch, Position)], epoch: Epoch, position: Position) -> bool {
    let is_known = epochs.iter().any(|(known, _)| *known == epoch);
    is_known && !epochs.iter().any(|(later, first)| *later > epoch && *first <= position)
}

/// The epoch that a position belongs to.
fn epoch_at(epochs: &[(Epoch, Position)], position: Position) -> Epoch {
    let begun = epochs.iter().filter(|(_, first)| *first <= position).map(|(epoch, _)| *epoch);
    begun.max().unwrap_or(Epoch(1))
}

/// What was read, and the position up to which that is all there is.
struct Read {
    events: Vec<Envelope>,
    end: Position,
    head: Position,
}

async fn of_all(pool: &PgPool, after: Position, size: PageSize, filter: &Filter) -> Result<Read, Error> {
    let last_looked_at = Position(after.0.saturating_add(LOOKED_AT_MAX));
    let mut read = Read { events: Vec::new(), end: after, head: after };
    let mut room = Room::new(size);
    while let Some(wanted) = room.next() {
        let slice = match &filter.event_type {
            None => read::after(pool, read.end, wanted).await?,
            Some(of_type) => read::typed_between(pool, of_type, read.end, last_looked_at, wanted).await?,
        };
        read.head = slice.head;
        let is_full = slice.events.len() as i64 == wanted;
        let seen = if filter.event_type.is_some() { slice.head.min(last_looked_at) } else { slice.head };
        read.end = match slice.events.last() {
            Some(last) if is_full => last.position,
            _ => seen.max(after),
        };
        room.take(&slice.events);
        read.events.extend(slice.events);
        if !is_full {
            break;
        }
    }
    Ok(read)
}

async fn of_stream(
    pool: &PgPool,
    stream: &StreamId,
    after: Position,
    size: PageSize,
    filter: &Filter,
) -> Result<Option<Read>, Error> {
    let Some(mut version) = read::version_at(pool, stream, after).await? else { return Ok(None) };
    let mut read = Read { events: Vec::new(), end: after, head: after };
    let mut room = Room::new(size);
    while let Some(wanted) = room.next() {
        let slice = read::stream_after(pool, stream, version, wanted).await?;
        read.head = slice.head;
        room.take(&slice.events);
        let is_full = slice.events.len() as i64 == wanted;
        if let Some(last) = slice.events.last() {
            version = last.version;
        }
        read.end = match slice.events.last() {
            Some(last) if is_full => last.position,
            _ => slice.head.max(after),
        };
        read.events.extend(slice.events.into_iter().filter(|event| filter.wants(event)));
        if !is_full {
            break;
        }
    }
    Ok(Some(read))
}

/// What still fits into a page: events, and about how many bytes.
struct Room {
    events: usize,
    bytes: usize,
    read: usize,
    read_bytes: usize,
}

impl Room {
    fn new(size: PageSize) -> Self {
        Self { events: size.events, bytes: size.bytes, read: 0, read_bytes: 0 }
    }

    /// How many events to ask for; none when the page is full.
    fn next(&self) -> Option<i64> {
        let fits = match self.read {
            0 => FIRST_READ,
            read => self.bytes / (self.read_bytes / read).max(1),
        };
        let wanted = self.events.min(fits);
        (wanted > 0).then_some(wanted as i64)
    }

    fn take(&mut self, events: &[Envelope]) {
        let bytes: usize = events.iter().map(|event| event.payload.len() + event.metadata.len() + 400).sum();
        self.events = self.events.saturating_sub(events.len());
        self.bytes = self.bytes.saturating_sub(bytes);
        self.read += events.len();
        self.read_bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCHS: [(Epoch, Position); 2] = [(Epoch(1), Position(1)), (Epoch(2), Position(41))];

    #[test]
    fn a_place_that_a_later_epoch_has_written_over_is_dead() {
        for (epoch, position, alive) in
            [(1, 0, true), (1, 40, true), (1, 41, false), (2, 40, true), (2, 41, true), (3, 1, false)]
        {
            assert_eq!(is_alive(&EPOCHS, Epoch(epoch), Position(position)), alive, "{epoch}:{position}");
        }
    }

    #[test]
    fn a_position_has_one_epoch() {
        for (position, epoch) in [(0, 1), (40, 1), (41, 2)] {
            assert_eq!(epoch_at(&EPOCHS, Position(position)), Epoch(epoch));
        }
    }
}
