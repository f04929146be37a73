//! Portfolios in bulk: one command that opens what is missing and changes what differs, in one append, or does nothing.
//!
//! Which portfolio a line means is decided from streams: first the one whose id is made of the investor and the name, which is
//! what a bulk has opened before; else one that somebody opened by hand, if its stream says that it is this investor's and has
//! this name now. Where to look for the latter is a hint of the caller; a hint that is wrong or missing opens another portfolio
//! at worst, and never changes one that is not meant.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use uuid::Uuid;

use super::aggregates::{State, View};
use super::answer::Refusal;
use super::decide::Decision;
use super::execute::{Commands, Executed, outcome};
use super::request::{Resolved, ResolvedCommand};
use crate::domain::ids::{Epoch, PortfolioId, Position, StreamId, Version};
use crate::domain::portfolio::{self, Portfolio, UpsertPortfolio};
use crate::domain::rejection::{FieldError, Rejection};
use crate::events::{Envelope, Event};
use crate::metrics;

/// Most lines of a bulk.
pub const LINES_MAX: usize = 1_000;
/// What is wrong with lines is spelt out so often.
pub const ERRORS_MAX: usize = 100;

const NOT_IN_TIME: &str =
    "the portfolios were not stored in time; sending them again with the same key tells what became of them";

/// One portfolio of a bulk.
#[derive(Debug, Clone)]
pub struct PortfolioLine {
    /// Its number in the body, from 1.
    pub line: u64,
    /// What it should be like.
    pub wish: UpsertPortfolio,
    /// A portfolio that may be meant because somebody opened it by hand.
    pub hint: Option<PortfolioId>,
}

/// Portfolios on their way in: at most [`LINES_MAX`], no two of the same investor and name.
#[derive(Debug, Clone)]
pub struct PortfolioBulk {
    /// The command's id: the same for a resend.
    pub command_id: Uuid,
    /// SHA-256 of the lines, with investors' ids instead of their e-mails.
    pub request_hash: Arc<[u8]>,
    /// Opaque id of who sent it.
    pub actor: Arc<str>,
    /// Joins everything that this request causes.
    pub correlation_id: Uuid,
    /// After this nobody waits for the answer.
    pub deadline: Instant,
    /// The portfolios.
    pub lines: Vec<PortfolioLine>,
}

/// What became of a bulk. The same for every resend.
#[derive(Debug, Clone)]
pub struct BulkAnswer {
    /// The facts, in the order of the lines; none where everything was so already.
    pub events: Vec<Envelope>,
    /// Place of the last of them, or of the end of the log.
    pub place: (Epoch, Position),
}

impl Commands {
    /// Opens and changes portfolios, all or none.
    ///
    /// # Errors
    /// [`Refusal::Rejected`] with every line that cannot be; [`Refusal::Busy`], [`Refusal::KeyReused`].
    pub async fn upsert_portfolios(&self, bulk: PortfolioBulk) -> Result<BulkAnswer, Refusal> {
        let started = Instant::now();
        let (deadline, command_id) = (bulk.deadline, bulk.command_id);
        let resolved = Arc::new(resolve(bulk));
        let answered = tokio::time::timeout_at(deadline, async {
            let Executed { answer, before } = self.run_command(resolved).await?;
            let events = match before {
                Some(events) => events,
                None if answer.events.is_empty() => Vec::new(),
                None => self.read_command(command_id).await?,
            };
            Ok(BulkAnswer { events, place: (answer.epoch, answer.position) })
        });
        let answer =
            answered.await.unwrap_or(Err(Refusal::Busy { retry_after_seconds: 1, reason: NOT_IN_TIME }));
        metrics::command_executed(outcome(&answer), started.elapsed());
        answer
    }
}

/// Names the streams that the lines are decided upon.
fn resolve(bulk: PortfolioBulk) -> Resolved {
    let own: HashSet<PortfolioId> = bulk.lines.iter().map(|line| line.wish.own_id()).collect();
    let lines = bulk.lines.into_iter().map(|line| PortfolioLine {
        // What another line opens or has opened is that line's.
        hint: line.hint.filter(|hint| !own.contains(hint)),
        ..line
    });
    let lines: Vec<PortfolioLine> = lines.collect();
    let mut reads = Vec::with_capacity(lines.len() * 2);
    let mut seen = HashSet::new();
    for line in &lines {
        let streams = [Some(line.wish.investor_id.stream()), Some(line.wish.own_id().stream())];
        for stream in streams.into_iter().chain([line.hint.map(PortfolioId::stream)]).flatten() {
            if seen.insert(stream.clone()) {
                reads.push(stream);
            }
        }
    }
    Resolved {
        command_id: bulk.command_id,
        request_hash: bulk.request_hash,
        actor: bulk.actor,
        correlation_id: bulk.correlation_id,
        if_match: None,
        occurred_at: None,
        deadline: bulk.deadline,
        target: StreamId::from("portfolio-bulk"),
        reads,
        command: ResolvedCommand::PortfolioBulk { lines },
    }
}

/// Decides every line; if one cannot be, none is.
pub(super) fn decide(
    lines: &[PortfolioLine],
    view: &mut View<'_>,
    now: DateTime<Utc>,
) -> Result<Decision, Rejection> {
    let mut decision = Decision::default();
    let mut errors = Vec::new();
    let unopened = Portfolio::initial();
    for PortfolioLine { line, wish, hint } in lines {
        let investor = view.get(&wish.investor_id.stream());
        let is_registered = investor.is_some_and(|stream| match &stream.state {
            State::Investor(investor) => investor.registered().is_some(),
            _ => false,
        });
        if !is_registered {
            errors.push(FieldError { field: on_line(*line, "email"), reason: "is unknown".into() });
            continue;
        }
        let own = wish.own_id().stream();
        let by_hand = hint.map(PortfolioId::stream).and_then(|id| Some((view.get(&id)?, id)));
        let (stream, id) = match (view.get(&own), by_hand) {
            (Some(stream), _) if stream.version > Version(0) => (Some(stream), own),
            (_, Some((stream, id))) if as_portfolio(&stream.state).is_some_and(|it| wish.names(it)) => {
                (Some(stream), id)
            }
            (stream, _) => (stream, own),
        };
        let portfolio = stream.as_ref().and_then(|stream| as_portfolio(&stream.state)).unwrap_or(&unopened);
        match portfolio::upsert(portfolio, wish, now) {
            Ok(events) if events.is_empty() => {}
            Ok(events) => {
                let version = stream.as_ref().map_or(Version(0), |stream| stream.version);
                let events = events.into_iter().map(Event::Portfolio).collect();
                decision.parts.push((id, Some(version), events));
            }
            Err(Rejection::InvalidFields(wrong)) => {
                let on_this = |error: FieldError| FieldError { field: on_line(*line, &error.field), ..error };
                errors.extend(wrong.into_iter().map(on_this));
            }
            Err(other) => return Err(other),
        }
    }
    if errors.is_empty() {
        return Ok(decision);
    }
    errors.truncate(ERRORS_MAX);
    Err(Rejection::InvalidFields(errors))
}

/// A field of a line, as it is told to the client.
pub fn on_line(line: u64, field: &str) -> String {
    format!("line {line}: {field}")
}

fn as_portfolio(state: &State) -> Option<&Portfolio> {
    match state {
        State::Portfolio(portfolio) => Some(portfolio),
        _ => None,
    }
}
