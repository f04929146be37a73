//! A process of the write side, stopped and killed between any two of its steps: form, append, hear the answer, settle.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::store::Store;
use crate::commands::aggregates::Aggregates;
use crate::commands::batch::{self, Batch, Pending};
use crate::domain::ids::{Epoch, Position};
use crate::event_store::{Answered, Outcome, Place};
use crate::events::EventId;

/// Cached streams of a generation: few, so that the cache forgets.
const STREAMS_MAX: usize = 3;

/// A process.
pub(super) struct Writer {
    aggregates: Aggregates,
    queue: VecDeque<Pending>,
    stage: Stage,
    /// The newest event that it has appended or read: what it recognises the log by.
    newest: Option<Place>,
    /// It has found that the log is another history, and does nothing more.
    halted: bool,
}

#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    Formed(Batch),
    Answered(Batch, Answered),
}

impl Default for Writer {
    fn default() -> Self {
        let aggregates = Aggregates::new(STREAMS_MAX);
        Self { aggregates, queue: VecDeque::new(), stage: Stage::Idle, newest: None, halted: false }
    }
}

impl Writer {
    pub(super) fn push(&mut self, pending: Pending) {
        if !self.halted {
            self.queue.push_back(pending);
        }
    }

    /// An event was read or appended.
    pub(super) fn saw(&mut self, place: Place) {
        if self.newest.as_ref().is_none_or(|newest| newest.position < place.position) {
            self.newest = Some(place);
        }
    }

    /// Looks for what it has seen, as it does once a second, and halts where that is no longer there.
    pub(super) fn look(&mut self, store: &Store) {
        if self.newest.as_ref().is_some_and(|newest| !store.has(newest)) {
            *self = Self { halted: true, ..Self::default() };
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && matches!(self.stage, Stage::Idle)
    }

    pub(super) fn form(&mut self) {
        if matches!(self.stage, Stage::Idle) && !self.queue.is_empty() {
            let now: DateTime<Utc> = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
            let batch = batch::form(&mut self.queue, None, &mut self.aggregates, now.into(), Instant::now());
            self.stage = Stage::Formed(batch);
        }
    }

    pub(super) fn append(&mut self, store: &mut Store) {
        if !matches!(self.stage, Stage::Formed(_)) {
            return;
        }
        let Stage::Formed(batch) = std::mem::take(&mut self.stage) else { return };
        let answered = if batch.appends.is_empty() {
            let recorded_at = DateTime::UNIX_EPOCH;
            Answered { outcomes: Vec::new(), epoch: Epoch(0), head: Position(0), recorded_at }
        } else {
            store.append(&batch.appends)
        };
        self.remember(&batch, &answered);
        self.stage = Stage::Answered(batch, answered);
    }

    /// The connection dies between the commit and the answer: the same batch will be sent again.
    pub(super) fn append_unheard(&mut self, store: &mut Store) {
        if let Stage::Formed(batch) = &self.stage
            && !batch.appends.is_empty()
        {
            store.append(&batch.appends);
        }
    }

    pub(super) fn settle(&mut self, store: &Store) {
        let Stage::Answered(batch, answered) = std::mem::replace(&mut self.stage, Stage::Idle) else {
            return;
        };
        let settled = batch::settle(batch, &answered, &mut self.aggregates);
        for id in settled.stale {
            if let Some(stream) = self.aggregates.get(&id) {
                let newer = store.stream_after(&id, stream.version);
                newer.iter().for_each(|event| self.saw(Place::from(event)));
                self.aggregates.advance_all(&newer).expect("the log can be read");
            }
        }
        for pending in settled.again.into_iter().rev() {
            self.queue.push_front(pending);
        }
    }

    /// Goes on until nothing waits.
    pub(super) fn work(&mut self, store: &mut Store) {
        while !self.is_idle() {
            self.form();
            self.append(store);
            self.settle(store);
        }
    }

    fn remember(&mut self, batch: &Batch, answered: &Answered) {
        for (append, outcome) in batch.appends.iter().zip(&answered.outcomes) {
            if let Outcome::Accepted { position } = outcome {
                let event_id = Some(EventId { command_id: append.command_id, ordinal: 0 });
                let recorded_at = Some(answered.recorded_at);
                self.saw(Place { epoch: answered.epoch, position: *position, event_id, recorded_at });
            }
        }
    }
}
