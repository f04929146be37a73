//! What the write side remembers of streams, so that a decision needs no read.
//!
//! A cached state may be old: another process may have appended. That is no danger to a "yes" (the log checks
//! every version) and never decides a "no" alone (see [`super::execute`]). The cache keeps two generations: when
//! the younger is full the older is dropped, so a stream in use stays and memory is bounded.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::asset::{Asset, SymbolOwner};
use crate::domain::ids::{StreamId, Version};
use crate::domain::investor::Investor;
use crate::domain::job::Job;
use crate::domain::portfolio::Portfolio;
use crate::domain::price::HeldPrice;
use crate::events::{DecodeError, Envelope, Event};

/// A stream folded up to a version.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub version: Version,
    pub state: State,
}

/// What a stream's events say, by kind of stream.
#[derive(Debug, Clone)]
pub(crate) enum State {
    Investor(Investor),
    Symbol(SymbolOwner),
    Asset(Asset),
    Held(Box<HeldPrice>),
    Portfolio(Box<Portfolio>),
    Job(Box<Job>),
}

impl Stream {
    /// A stream without events.
    pub(crate) fn initial(id: &StreamId) -> Self {
        let state = match id.kind_and_rest().0 {
            "investor" => State::Investor(Investor::default()),
            "symbol" => State::Symbol(SymbolOwner::default()),
            "asset" => State::Asset(Asset::default()),
            "job" => State::Job(Box::default()),
            "held" => State::Held(Box::default()),
            _ => State::Portfolio(Box::new(Portfolio::initial())),
        };
        Self { version: Version(0), state }
    }

    /// Folds the next event.
    pub(crate) fn apply(&mut self, event: &Event) {
        self.version = self.version.next();
        match (&mut self.state, event) {
            (State::Investor(investor), Event::Investor(event)) => investor.evolve(event),
            (State::Symbol(owner), Event::Asset(event)) => owner.evolve(event),
            (State::Asset(asset), Event::Asset(event)) => asset.evolve(event),
            (State::Held(held), Event::Held(event)) => held.evolve(event),
            (State::Portfolio(portfolio), Event::Portfolio(event)) => portfolio.evolve(self.version, event),
            (State::Job(job), Event::Job(event)) => job.evolve(event),
            // An event of another kind in this stream says nothing about it.
            _ => {}
        }
    }
}

/// Streams by id, in two generations.
pub(crate) struct Aggregates {
    young: HashMap<StreamId, Arc<Stream>>,
    old: HashMap<StreamId, Arc<Stream>>,
    generation_max: usize,
}

impl Aggregates {
    pub(crate) fn new(generation_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation_max }
    }

    pub(crate) fn get(&mut self, id: &StreamId) -> Option<Arc<Stream>> {
        if let Some(stream) = self.young.get(id) {
            return Some(Arc::clone(stream));
        }
        let stream = self.old.remove(id)?;
        self.put(id.clone(), Arc::clone(&stream));
        Some(stream)
    }

    /// Keeps a stream unless a newer state of it is here already.
    pub(crate) fn put_newer(&mut self, id: StreamId, stream: Arc<Stream>) {
        if self.get(&id).is_none_or(|cached| cached.version < stream.version) {
            self.put(id, stream);
        }
    }

    fn put(&mut self, id: StreamId, stream: Arc<Stream>) {
        if self.young.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, stream);
    }

    pub(crate) fn forget(&mut self, id: &StreamId) {
        self.young.remove(id);
        self.old.remove(id);
    }

    /// Folds an event that is in the log, if it is the next one of a stream we know.
    pub(crate) fn advance(&mut self, id: &StreamId, version: Version, event: &Event) {
        self.get(id);
        let Some(stream) = self.young.get_mut(id) else { return };
        if stream.version.next() == version {
            Arc::make_mut(stream).apply(event);
        } else if stream.version.next() < version {
            self.forget(id);
        }
    }

    /// Folds events read from the log.
    pub(crate) fn advance_all(&mut self, events: &[Envelope]) -> Result<(), DecodeError> {
        for envelope in events {
            self.advance(&envelope.stream_id, envelope.version, &envelope.event()?);
        }
        Ok(())
    }
}

/// The cache as one batch sees it: the states in the log, and on top what the batch has decided so far.
pub(crate) struct View<'a> {
    base: &'a mut Aggregates,
    working: HashMap<StreamId, Arc<Stream>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(base: &'a mut Aggregates) -> Self {
        Self { base, working: HashMap::new() }
    }

    /// The state of a stream, or nothing where it has not been read yet.
    pub(crate) fn get(&mut self, id: &StreamId) -> Option<Arc<Stream>> {
        match self.working.get(id) {
            Some(stream) => Some(Arc::clone(stream)),
            None => self.base.get(id),
        }
    }

    /// Folds an event that was decided in this batch.
    pub(crate) fn apply(&mut self, id: &StreamId, event: &Event) {
        let base = &mut *self.base;
        let stream = self
            .working
            .entry(id.clone())
            .or_insert_with(|| base.get(id).unwrap_or_else(|| Arc::new(Stream::initial(id))));
        Arc::make_mut(stream).apply(event);
    }

    /// What the batch made of the streams it wrote.
    pub(crate) fn into_working(self) -> HashMap<StreamId, Arc<Stream>> {
        self.working
    }
}
