//! The core of group commit, free of I/O: forms a batch from waiting commands, and settles it with the answers.
//!
//! | step | what happens | what it relies on |
//! | --- | --- | --- |
//! | form | each waiting command, in order, is decided upon the log plus what stands before it in this batch | nothing is decided before its batch, so nothing waits in a queue growing stale |
//! | append | the database accepts, or not, each of them (`append_batch`) | one batch is in flight; what leans on a fallen command falls too |
//! | settle | accepted events enter the cache; conflicts are decided again in the next batch; each "no" goes back to its caller, who checks it against the log | a "no" that leaned on a fallen command is decided again |
//!
//! A command id stands once in a batch; later callers with the same id follow the first and share its verdict.
//! A batch is bounded in commands and bytes and takes at most one window of prices, so that a bulk load does
//! not stand between a person and their trade.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::aggregates::{Aggregates, Stream, View};
use super::answer::{Answer, AnsweredEvent};
use super::decide::{self, Decision};
use super::request::Resolved;
use crate::domain::ids::{Position, StreamId, Version};
use crate::domain::rejection::Rejection;
use crate::event_store::{Answered, Append, Outcome};
use crate::events::{Event, EventId};

/// Most commands of a batch.
pub(crate) const COMMANDS_MAX: usize = 1_024;
/// Most payload bytes of a batch; one command alone may have more.
pub(crate) const BYTES_MAX: usize = 1 << 20;

/// A command that waits.
pub(crate) struct Pending {
    pub request: Arc<Resolved>,
    /// What its caller has read from the log for it.
    pub found: Found,
    reply: oneshot::Sender<Verdict>,
    followers: Vec<oneshot::Sender<Verdict>>,
}

/// What a caller has read from the log: whole streams, or what streams have gained.
#[derive(Default)]
pub(crate) struct Found {
    pub streams: Vec<(StreamId, Arc<Stream>)>,
    pub newer: Vec<(StreamId, Version, Event)>,
}

/// What the caller is told.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    /// In the log; the hash tells whether it was this caller's body.
    Accepted { answer: Arc<Answer>, request_hash: Arc<[u8]> },
    /// In the log already: the answer is to be read from there.
    Known,
    /// Refused on these versions: to be checked against the log before anyone hears of it.
    No { rejection: Rejection, reads: Vec<(StreamId, Version)> },
    /// Nothing would change on these versions: to be checked in the same way.
    Unchanged { reads: Vec<(StreamId, Version)> },
    /// These streams must be read first.
    Missing(Vec<StreamId>),
    /// The database said so under its lock: nothing to check.
    EmailTaken,
    /// The deadline passed while it waited.
    Expired,
    /// The database cannot store it.
    Unstorable,
}

impl Pending {
    pub(crate) fn new(request: Arc<Resolved>, found: Found, reply: oneshot::Sender<Verdict>) -> Self {
        Self { request, found, reply, followers: Vec::new() }
    }

    /// Whether somebody waits for it. Whoever was told to come back, or has gone, sends it again if they still want it.
    fn is_awaited(&self) -> bool {
        !self.reply.is_closed() || self.followers.iter().any(|follower| !follower.is_closed())
    }

    /// Tells the caller and those who follow. A caller who has gone away does not matter.
    fn tell(self, verdict: Verdict) {
        for follower in self.followers {
            let _ = follower.send(verdict.clone());
        }
        let _ = self.reply.send(verdict);
    }
}

/// What time it is when a batch is decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// By the clock of this process.
    pub ours: DateTime<Utc>,
    /// For jobs: by this clock or the database's, whichever is earlier. What is taken too early is taken for good.
    pub of_jobs: DateTime<Utc>,
}

impl From<DateTime<Utc>> for Now {
    fn from(ours: DateTime<Utc>) -> Self {
        Self { ours, of_jobs: ours }
    }
}

/// A decided command.
struct Decided {
    pending: Pending,
    /// Versions of the streams that the decision read.
    reads: Vec<(StreamId, Version)>,
    kind: Kind,
}

enum Kind {
    /// Goes into the log, with its facts as they would be folded.
    Append {
        events: Vec<(StreamId, Version, Event)>,
        answer: Vec<AnsweredEvent>,
    },
    No(Rejection),
    Unchanged,
}

/// A batch ready for the log.
pub(crate) struct Batch {
    /// For [`crate::event_store::Appender::append`], in order.
    pub appends: Vec<Append>,
    decided: Vec<Decided>,
    working: HashMap<StreamId, Arc<Stream>>,
}

/// Decides waiting commands, in order, until the batch is full.
pub(crate) fn form(
    queue: &mut VecDeque<Pending>,
    window: Option<Pending>,
    aggregates: &mut Aggregates,
    now: Now,
    clock: Instant,
) -> Batch {
    let mut window = window;
    for pending in window.iter_mut().chain(queue.iter_mut()) {
        let found = std::mem::take(&mut pending.found);
        for (id, stream) in found.streams {
            aggregates.put_newer(id, stream);
        }
        for (id, version, event) in found.newer {
            aggregates.advance(&id, version, &event);
        }
    }
    let mut view = View::new(aggregates);
    let mut batch = Batch { appends: Vec::new(), decided: Vec::new(), working: HashMap::new() };
    let mut by_id: HashMap<uuid::Uuid, usize> = HashMap::new();
    let mut bytes = 0;
    let mut aside = Vec::new();
    while batch.decided.len() < COMMANDS_MAX && bytes < BYTES_MAX {
        let Some(pending) = window.take().or_else(|| queue.pop_front()) else { break };
        if !pending.is_awaited() {
            continue;
        }
        if let Some(&first) = by_id.get(&pending.request.command_id) {
            let followed = &mut batch.decided[first].pending;
            if followed.request.request_hash != pending.request.request_hash {
                // Another body under the same id: what becomes of it is known when the first is.
                aside.push(pending);
                continue;
            }
            followed.followers.push(pending.reply);
            followed.followers.extend(pending.followers);
            continue;
        }
        if pending.request.deadline <= clock {
            pending.tell(Verdict::Expired);
            continue;
        }
        let missing: Vec<StreamId> =
            pending.request.reads.iter().filter(|id| view.get(id).is_none()).cloned().collect();
        if !missing.is_empty() {
            pending.tell(Verdict::Missing(missing));
            continue;
        }
        by_id.insert(pending.request.command_id, batch.decided.len());
        batch.decide(pending, &mut view, &mut bytes, now);
    }
    batch.working = view.into_working();
    for pending in aside.into_iter().rev() {
        queue.push_front(pending);
    }
    batch
}

impl Batch {
    fn decide(&mut self, pending: Pending, view: &mut View<'_>, bytes: &mut usize, now: Now) {
        let request = Arc::clone(&pending.request);
        let reads: Vec<(StreamId, Version)> = request
            .reads
            .iter()
            .map(|id| (id.clone(), view.get(id).map_or(Version(0), |stream| stream.version)))
            .collect();
        let kind = match decide::decide(&request, view, now) {
            Err(rejection) => Kind::No(rejection),
            Ok(decision) if decision.parts.is_empty() => Kind::Unchanged,
            Ok(decision) => {
                let (append, kind) = prepare(&request, decision, view, now.ours);
                *bytes += append.parts.iter().flat_map(|p| &p.events).map(|e| e.payload.len()).sum::<usize>();
                self.appends.push(append);
                kind
            }
        };
        self.decided.push(Decided { pending, reads, kind });
    }
}

/// Lays a decision out for the log and folds it into the view, where the rest of the batch decides upon it.
fn prepare(
    request: &Resolved,
    decision: Decision,
    view: &mut View<'_>,
    now: DateTime<Utc>,
) -> (Append, Kind) {
    let mut events = Vec::new();
    let mut answer = Vec::new();
    let occurred_at = request.occurred_at.unwrap_or(now);
    for (stream_id, expected, facts) in &decision.parts {
        for (k, fact) in (1..).zip(facts) {
            let event_id = EventId { command_id: request.command_id, ordinal: answer.len() as i32 };
            answer.push(AnsweredEvent {
                event_id,
                event_type: fact.kind().event_type,
                position: Position(0),
            });
            // Blind streams are not cached: nothing is decided upon them.
            if let Some(expected) = expected {
                view.apply(stream_id, fact);
                events.push((stream_id.clone(), Version(expected.0 + k), fact.clone()));
            }
        }
    }
    let append = decision.into_append(request, occurred_at);
    (append, Kind::Append { events, answer })
}

/// What is left after a batch: commands for the next one, and streams whose cached state is old.
#[derive(Default)]
pub(crate) struct Settled {
    pub again: VecDeque<Pending>,
    pub stale: HashSet<StreamId>,
}

/// Tells every caller what became of their command, and brings the cache up to what is in the log.
pub(crate) fn settle(batch: Batch, answered: &Answered, aggregates: &mut Aggregates) -> Settled {
    let mut settled = Settled::default();
    let mut outcomes = answered.outcomes.iter();
    let all_accepted = answered.outcomes.iter().all(|o| matches!(o, Outcome::Accepted { .. }));
    if all_accepted {
        for (id, stream) in batch.working {
            aggregates.put_newer(id, stream);
        }
    }
    // Two passes: a "no" must know of everything in the batch that fell, also behind it.
    let mut refused = Vec::new();
    for decided in batch.decided {
        let Decided { pending, reads, kind } = decided;
        let Kind::Append { events, answer } = kind else {
            refused.push(Decided { pending, reads, kind });
            continue;
        };
        let outcome = outcomes.next().unwrap_or(&Outcome::DecideAgain);
        if let Outcome::Accepted { position } = outcome {
            if !all_accepted {
                for (id, version, event) in &events {
                    aggregates.advance(id, *version, event);
                }
            }
            let answer = Arc::new(accepted(&pending.request, &events, answer, *position, answered));
            let request_hash = Arc::clone(&pending.request.request_hash);
            pending.tell(Verdict::Accepted { answer, request_hash });
            continue;
        }
        settled.stale.extend(events.into_iter().map(|(id, _, _)| id));
        match outcome {
            Outcome::Conflict { stream_id, .. } => {
                settled.stale.insert(stream_id.clone());
                settled.stale.extend(reads.into_iter().map(|(id, _)| id));
                settled.again.push_back(pending);
            }
            Outcome::Known { .. } => pending.tell(Verdict::Known),
            Outcome::EmailTaken => pending.tell(Verdict::EmailTaken),
            Outcome::Unstorable { .. } => pending.tell(Verdict::Unstorable),
            Outcome::DecideAgain | Outcome::Accepted { .. } => settled.again.push_back(pending),
        }
    }
    for Decided { pending, reads, kind } in refused {
        if reads.iter().any(|(id, _)| settled.stale.contains(id)) {
            settled.again.push_back(pending);
            continue;
        }
        pending.tell(match kind {
            Kind::No(rejection) => Verdict::No { rejection, reads },
            Kind::Unchanged | Kind::Append { .. } => Verdict::Unchanged { reads },
        });
    }
    settled
}

fn accepted(
    request: &Resolved,
    events: &[(StreamId, Version, Event)],
    mut answer: Vec<AnsweredEvent>,
    first: Position,
    answered: &Answered,
) -> Answer {
    for (k, event) in answer.iter_mut().enumerate() {
        event.position = Position(first.0 + k as i64);
    }
    // The command's own stream comes last among its parts.
    let (stream_id, version) = events
        .last()
        .map_or_else(|| (request.target.clone(), Version(0)), |(id, version, _)| (id.clone(), *version));
    Answer {
        command_id: request.command_id,
        stream_id,
        version,
        epoch: answered.epoch,
        position: answer.last().map_or(first, |event| event.position),
        events: answer,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::super::request::{Refused, ResolvedCommand};
    use super::*;

    /// A command that reads nothing, and who waits for it.
    fn pending(command_id: u128) -> (Pending, oneshot::Receiver<Verdict>) {
        let request = Resolved {
            command: ResolvedCommand::Prices { events: Vec::new(), refused: Refused::default() },
            command_id: Uuid::from_u128(command_id),
            request_hash: Arc::from([7; 32]),
            actor: "test".into(),
            correlation_id: Uuid::nil(),
            if_match: None,
            occurred_at: None,
            deadline: Instant::now() + Duration::from_secs(60),
            target: StreamId::from("price-bulk"),
            reads: Vec::new(),
        };
        let (reply, verdict) = oneshot::channel();
        (Pending::new(Arc::new(request), Found::default(), reply), verdict)
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_decided() {
        let ((window, told_to_come_back), (gone, went), (kept, _waits)) =
            (pending(1), pending(2), pending(3));
        drop((told_to_come_back, went));
        let mut queue = VecDeque::from([gone, kept]);
        let mut aggregates = Aggregates::new(8);
        let batch =
            form(&mut queue, Some(window), &mut aggregates, DateTime::UNIX_EPOCH.into(), Instant::now());
        let decided: Vec<_> =
            batch.decided.iter().map(|it| it.pending.request.command_id.as_u128()).collect();
        assert_eq!((decided, queue.len()), (vec![3], 0));
    }

    #[test]
    fn what_a_follower_waits_for_is_decided_again() {
        let ((mut first, went), (second, _waits)) = (pending(1), pending(1));
        drop(went);
        first.followers.push(second.reply);
        let (mut queue, mut aggregates) = (VecDeque::from([first]), Aggregates::new(8));
        let batch = form(&mut queue, None, &mut aggregates, DateTime::UNIX_EPOCH.into(), Instant::now());
        assert_eq!(batch.decided.len(), 1);
    }
}
