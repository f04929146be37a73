//! An event as stored and sent: the envelope, and the codec between domain facts and payloads.
//!
//! A payload's bytes are written once, by [`Event::encode`], and never again: the same bytes stand in the log,
//! in Kafka and in every answer. [`Event::decode`] reads every version ever released (see `tests/data/events`).

mod cloud_event;
mod codec;
mod envelope;
#[cfg(test)]
mod golden;
mod line;
mod schemas;

pub use cloud_event::{CloudEvent, SOURCE};
pub use codec::{DecodeError, Event, EventKind};
pub use envelope::{Envelope, EventId, Metadata, NewEvent};
pub use line::EnvelopeLine;
pub use schemas::schemas;
