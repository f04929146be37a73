//! The log in memory: `append_batch` said once more in Rust, plainly, and the reads that the cores are fed with.
//!
//! The same appends can go to the real function at the same time; the first answer that differs fails the run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::postgres::PostgresLog;
use crate::domain::ids::{Epoch, Position, Shard, StreamId, Version};
use crate::event_store::read::Slice;
use crate::event_store::{Answered, Append, Outcome, Place};
use crate::events::{Envelope, EventId};

/// Everything in the log, and what finds it.
#[derive(Default)]
pub(super) struct Store {
    events: Vec<Arc<Envelope>>,
    streams: HashMap<StreamId, Vec<usize>>,
    shards: BTreeMap<Shard, Vec<usize>>,
    commands: HashMap<Uuid, Vec<usize>>,
    emails: HashSet<String>,
    epochs: Vec<(Epoch, Position)>,
    /// Goes on through a restore, as a clock does.
    seconds: i64,
    beside: Option<PostgresLog>,
}

impl Store {
    pub(super) fn new(beside: Option<PostgresLog>) -> Self {
        Self { epochs: vec![(Epoch(1), Position(1))], beside, ..Self::default() }
    }

    pub(super) fn head(&self) -> Position {
        Position(self.events.len() as i64)
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epochs.last().map_or(Epoch(1), |(epoch, _)| *epoch)
    }

    /// Where the first epoch after this one begins.
    pub(super) fn epoch_after(&self, epoch: Epoch) -> Option<Position> {
        self.epochs.iter().find(|(later, _)| *later > epoch).map(|(_, first)| *first)
    }

    pub(super) fn all(&self) -> &[Arc<Envelope>] {
        &self.events
    }

    pub(super) fn find(&self, position: Position) -> Option<&Arc<Envelope>> {
        self.events.get(usize::try_from(position.0 - 1).ok()?)
    }

    pub(super) fn shard(&self, shard: Shard) -> impl Iterator<Item = &Arc<Envelope>> {
        self.shards.get(&shard).into_iter().flatten().map(|at| &self.events[*at])
    }

    pub(super) fn shard_after(&self, shard: Shard, after: Position) -> impl Iterator<Item = &Arc<Envelope>> {
        self.shard(shard).filter(move |event| event.position > after)
    }

    /// Whether this very event stands there.
    pub(super) fn has(&self, place: &Place) -> bool {
        place.position == Position(0)
            || self.find(place.position).is_some_and(|found| {
                Some(found.event_id) == place.event_id && Some(found.recorded_at) == place.recorded_at
            })
    }

    /// The repair statement.
    pub(super) fn shards_after(&self, places: &[(Shard, Position)], limit_per_shard: usize) -> Slice {
        let found = |(shard, after): &(Shard, Position)| {
            let events = self.shard_after(*shard, *after).take(limit_per_shard);
            events.map(|event| Envelope::clone(event)).collect::<Vec<_>>()
        };
        Slice { events: places.iter().flat_map(found).collect(), head: self.head() }
    }

    pub(super) fn stream_after(&self, stream: &StreamId, after: Version) -> Vec<Envelope> {
        let found = self.streams.get(stream).into_iter().flatten().map(|at| &self.events[*at]);
        found.filter(|event| event.version > after).map(|event| Envelope::clone(event)).collect()
    }

    pub(super) fn command(&self, id: Uuid) -> Vec<Envelope> {
        let found = self.commands.get(&id).into_iter().flatten();
        found.map(|at| Envelope::clone(&self.events[*at])).collect()
    }

    /// The function, in one go.
    pub(super) fn append(&mut self, batch: &[Append]) -> Answered {
        let answered = self.append_here(batch);
        if let Some(postgres) = &mut self.beside {
            let there = postgres.append(batch);
            assert_eq!(there.outcomes, answered.outcomes, "PostgreSQL answers otherwise");
            assert_eq!(
                (there.head, there.epoch),
                (answered.head, answered.epoch),
                "PostgreSQL stands elsewhere"
            );
        }
        answered
    }

    fn append_here(&mut self, batch: &[Append]) -> Answered {
        let recorded_at = self.recorded_at();
        let mut bases: HashMap<StreamId, Version> = HashMap::new();
        for (stream, expected) in
            batch.iter().flat_map(checks).map(|(stream, expected, _)| (stream, expected))
        {
            bases.entry(stream.clone()).or_insert(expected);
        }
        let mut fallen: HashSet<StreamId> = HashSet::new();
        let mut emails: HashSet<String> = HashSet::new();
        let stored: Vec<_> = bases.keys().map(|stream| (stream.clone(), self.version(stream))).collect();
        let current: HashMap<StreamId, Version> = stored.into_iter().collect();
        let known: Vec<_> = batch.iter().map(|append| self.first_of(append.command_id)).collect();
        let mut outcomes = Vec::new();
        for (append, known) in batch.iter().zip(known) {
            let outcome = self.judge(append, known, (&bases, &current), &fallen, &emails);
            match &outcome {
                Outcome::Accepted { .. } => {
                    emails.extend(append.details.iter().map(|details| details.email.to_lowercase()));
                    self.insert(append, recorded_at);
                }
                _ => fallen
                    .extend(checks(append).filter(|(.., writes)| *writes).map(|(stream, ..)| stream.clone())),
            }
            outcomes.push(outcome);
        }
        self.emails.extend(emails);
        Answered { outcomes, epoch: self.epoch(), head: self.head(), recorded_at }
    }

    fn judge(
        &self,
        append: &Append,
        known: Option<Position>,
        (bases, current): (&HashMap<StreamId, Version>, &HashMap<StreamId, Version>),
        fallen: &HashSet<StreamId>,
        emails: &HashSet<String>,
    ) -> Outcome {
        if let Some(position) = known {
            return Outcome::Known { position };
        }
        let moved = checks(append).find(|(stream, ..)| current[*stream] != bases[*stream]);
        if let Some((stream, ..)) = moved {
            return Outcome::Conflict { stream_id: stream.clone(), current: current[stream] };
        }
        if checks(append).any(|(stream, ..)| fallen.contains(stream)) {
            return Outcome::DecideAgain;
        }
        let email = append.details.as_ref().map(|details| details.email.to_lowercase());
        if email.is_some_and(|email| self.emails.contains(&email) || emails.contains(&email)) {
            return Outcome::EmailTaken;
        }
        Outcome::Accepted { position: Position(self.head().0 + 1) }
    }

    fn insert(&mut self, append: &Append, recorded_at: DateTime<Utc>) {
        let mut ordinal = 0;
        for part in &append.parts {
            for (k, event) in (1..).zip(&part.events) {
                let version = self.version(&part.stream_id).next();
                let wanted = part.expected.map_or(version, |expected| Version(expected.0 + k));
                assert_eq!(wanted, version, "the version of {} has a hole", part.stream_id);
                let at = self.events.len();
                self.streams.entry(part.stream_id.clone()).or_default().push(at);
                self.shards.entry(part.stream_id.shard()).or_default().push(at);
                self.commands.entry(append.command_id).or_default().push(at);
                self.events.push(Arc::new(Envelope {
                    epoch: self.epoch(),
                    position: Position(at as i64 + 1),
                    event_id: EventId { command_id: append.command_id, ordinal },
                    stream_id: part.stream_id.clone(),
                    version,
                    request_hash: Arc::clone(&append.request_hash),
                    event_type: event.event_type.into(),
                    schema_version: event.schema_version,
                    shard: part.stream_id.shard(),
                    correlation_id: append.correlation_id,
                    causation_position: None,
                    occurred_at: event.occurred_at,
                    recorded_at,
                    payload: event.payload.as_str().into(),
                    metadata: "{}".into(),
                }));
                ordinal += 1;
            }
        }
    }

    /// Back to an earlier moment, as a restore does: what came later never was.
    pub(super) fn restore(&mut self, head: Position, epochs: Vec<(Epoch, Position)>) {
        let kept: Vec<_> = self.events[..head.0 as usize].to_vec();
        if let Some(postgres) = &mut self.beside {
            postgres.restore(head, epochs.last().map_or(Epoch(1), |(epoch, _)| *epoch));
        }
        let (beside, emails, seconds) = (self.beside.take(), std::mem::take(&mut self.emails), self.seconds);
        *self = Self { epochs, beside, emails, seconds, ..Self::default() };
        for event in kept {
            let at = self.events.len();
            self.streams.entry(event.stream_id.clone()).or_default().push(at);
            self.shards.entry(event.shard).or_default().push(at);
            self.commands.entry(event.event_id.command_id).or_default().push(at);
            self.events.push(event);
        }
    }

    pub(super) fn epochs(&self) -> Vec<(Epoch, Position)> {
        self.epochs.clone()
    }

    /// The operator says that this is another history, with a number that nobody has seen.
    pub(super) fn new_epoch(&mut self, used: Epoch) {
        let first = Position(self.head().0 + 1);
        self.epochs.retain(|(_, begins)| *begins < first);
        let epoch = Epoch(self.epoch().max(used).0 + 1);
        self.epochs.push((epoch, first));
        if let Some(postgres) = &mut self.beside {
            postgres.new_epoch(epoch, first);
        }
    }

    /// Compares what PostgreSQL holds with what is here.
    pub(super) fn compare_with_postgres(&mut self) {
        let Some(postgres) = &mut self.beside else { return };
        let there = postgres.all();
        assert_eq!(there.len(), self.events.len(), "events in PostgreSQL");
        for (there, here) in there.iter().zip(&self.events) {
            assert_eq!(
                (
                    there.position,
                    there.event_id,
                    &there.stream_id,
                    there.version,
                    &there.payload,
                    there.epoch
                ),
                (here.position, here.event_id, &here.stream_id, here.version, &here.payload, here.epoch),
            );
        }
    }

    /// The server, to be used by the next run.
    pub(super) fn take_postgres(&mut self) -> Option<PostgresLog> {
        self.beside.take()
    }

    fn version(&self, stream: &StreamId) -> Version {
        Version(self.streams.get(stream).map_or(0, |events| events.len() as i64))
    }

    fn first_of(&self, command: Uuid) -> Option<Position> {
        self.commands.get(&command).map(|events| self.events[events[0]].position)
    }

    /// A second a batch.
    fn recorded_at(&mut self) -> DateTime<Utc> {
        self.seconds += 1;
        DateTime::UNIX_EPOCH + TimeDelta::seconds(1_700_000_000 + self.seconds)
    }
}

/// The streams whose versions an append relies on, and whether it writes them.
fn checks(append: &Append) -> impl Iterator<Item = (&StreamId, Version, bool)> {
    let guards = append.guards.iter().map(|guard| (&guard.stream_id, guard.expected, false));
    let parts = append.parts.iter().filter_map(|part| Some((&part.stream_id, part.expected?, true)));
    guards.chain(parts)
}
