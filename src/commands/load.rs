//! Streams as decisions need them, read from the log, however long they are.
//!
//! A stream is read in pieces, so that memory is that of one piece, and folding a piece leaves the runtime free. A caller's
//! deadline may pass before a stream is whole. What was folded until then is kept: the next caller goes on from there, so a
//! stream of any length is read in the end, whatever the deadlines are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::PgPool;

use super::aggregates::Stream;
use crate::domain::ids::StreamId;
use crate::event_store::{Error, Place, Witness, read};
use crate::events::Envelope;

/// Events of one stream that are read at once.
pub(super) const READ_EVENTS: i64 = 1_000;
/// Events that are folded where they were read: fewer than half a millisecond takes.
const FOLDED_HERE_MAX: usize = 100;
/// Streams that may be half read.
const HALF_READ_MAX: usize = 256;

/// Long streams, folded as far as they were read.
#[derive(Default)]
pub(super) struct HalfRead(Mutex<HashMap<StreamId, Arc<Stream>>>);

impl HalfRead {
    fn get(&self, id: &StreamId) -> Option<Arc<Stream>> {
        self.lock().get(id).cloned()
    }

    /// Keeps a stream, unless somebody has read it further. Of too many, any other one begins anew.
    fn keep(&self, id: &StreamId, stream: &Arc<Stream>) {
        let mut streams = self.lock();
        if streams.get(id).is_some_and(|kept| kept.version >= stream.version) {
            return;
        }
        if streams.len() >= HALF_READ_MAX
            && let Some(other) = streams.keys().find(|other| *other != id).cloned()
        {
            streams.remove(&other);
        }
        streams.insert(id.clone(), Arc::clone(stream));
    }

    fn forget(&self, id: &StreamId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StreamId, Arc<Stream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads whole streams, each as of the moment its end was met.
pub(super) async fn load(
    pool: &PgPool,
    witness: &Witness,
    half_read: &HalfRead,
    ids: Vec<StreamId>,
) -> Result<Vec<(StreamId, Arc<Stream>)>, Error> {
    let begun = |id: StreamId| {
        let stream = half_read.get(&id).unwrap_or_else(|| Arc::new(Stream::initial(&id)));
        (id, stream)
    };
    let mut reading: Vec<(StreamId, Arc<Stream>)> = ids.into_iter().map(begun).collect();
    let mut whole = Vec::with_capacity(reading.len());
    while !reading.is_empty() {
        let known: Vec<_> = reading.iter().map(|(id, stream)| (id.clone(), stream.version)).collect();
        let events = read::streams_after(pool, &known, READ_EVENTS).await?.events;
        if let Some(newest) = events.last() {
            witness.saw(Place::from(newest));
        }
        let folded = if events.len() <= FOLDED_HERE_MAX {
            fold_all(reading, &events)?
        } else {
            let folding = tokio::task::spawn_blocking(move || fold_all(reading, &events));
            folding.await.map_err(|_| sqlx::Error::WorkerCrashed)??
        };
        reading = Vec::new();
        for ((id, stream), (_, before)) in folded.into_iter().zip(known) {
            if stream.version.0 - before.0 < READ_EVENTS {
                half_read.forget(&id);
                whole.push((id, stream));
            } else {
                half_read.keep(&id, &stream);
                reading.push((id, stream));
            }
        }
    }
    Ok(whole)
}

/// Folds events of several streams, each upon what is known of its stream.
fn fold_all(
    streams: Vec<(StreamId, Arc<Stream>)>,
    events: &[Envelope],
) -> Result<Vec<(StreamId, Arc<Stream>)>, Error> {
    let mut by_stream: HashMap<&StreamId, Vec<&Envelope>> = HashMap::new();
    for envelope in events {
        by_stream.entry(&envelope.stream_id).or_default().push(envelope);
    }
    let folded = streams.into_iter().map(|(id, stream)| {
        let mut stream = Arc::unwrap_or_clone(stream);
        for envelope in by_stream.get(&id).into_iter().flatten() {
            apply(&mut stream, envelope)?;
        }
        Ok((id, Arc::new(stream)))
    });
    folded.collect()
}

/// Folds the events of one stream, in a list that may hold others.
pub(crate) fn fold(id: &StreamId, events: &[Envelope]) -> Result<Stream, Error> {
    let mut stream = Stream::initial(id);
    for envelope in events.iter().filter(|envelope| envelope.stream_id == *id) {
        apply(&mut stream, envelope)?;
    }
    Ok(stream)
}

fn apply(stream: &mut Stream, envelope: &Envelope) -> Result<(), Error> {
    let event = envelope
        .event()
        .map_err(|error| Error::Unreadable { position: envelope.position, reason: error.to_string() })?;
    stream.apply(&event);
    Ok(())
}
