//! Prices in bulk: a body is a sequence of commands, one for each window of lines.
//!
//! Windows, their ids and the grouping into events are a pure function of the body's bytes, so that a resend
//! after a lost answer finds what is stored and finishes what is missing. Good lines are kept; refused ones are
//! named with their line, and stand in the metadata of the window's last event for the resend to answer from.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::answer::Refusal;
use super::execute::{Commands, Executed, original};
use super::price_lines::{Window, parse_line, split, windows};
use super::request::{AssetRef, Refused, RefusedLine, Resolved, ResolvedCommand};
use crate::domain::asset::Asset;
use crate::domain::ids::{Epoch, Position, StreamId};
use crate::domain::price::{self, Observation};
use crate::domain::rejection::{FieldError, Rejection};
use crate::events::{Envelope, Event, Metadata};

/// Refused lines that an answer spells out; the rest is counted.
const REFUSED_SHOWN_MAX: usize = 1_000;

/// How the lines of a body are marked off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    /// One object, or `{"prices": […]}`.
    Json,
    /// One object a line.
    Ndjson,
}

/// Prices on their way in.
#[derive(Debug, Clone)]
pub struct PriceBulk {
    /// The command; the windows' ids derive from it.
    pub command_id: Uuid,
    /// Opaque id of who sent it.
    pub actor: Arc<str>,
    /// Joins everything that this request causes.
    pub correlation_id: Uuid,
    /// After this nobody waits for the answer.
    pub deadline: Instant,
    /// The body as it was sent.
    pub body: Bytes,
    /// How it is to be read.
    pub format: BodyFormat,
}

/// What became of a body of prices.
#[derive(Debug, Clone, Default)]
pub struct PricesAnswer {
    /// Prices in the log.
    pub accepted: u64,
    /// Lines that were left out, the first of them.
    pub rejected: Vec<RefusedLine>,
    /// How many were left out.
    pub rejected_count: u64,
    /// Every good line up to this one is in the log.
    pub last_durable_line: u64,
    /// Place of the last event.
    pub place: Option<(Epoch, Position)>,
}

impl Commands {
    /// Appends a body of prices, window by window.
    ///
    /// # Errors
    /// [`Refusal::Rejected`] when the body as a whole cannot be read or no line of it was good;
    /// [`Refusal::Busy`] when time ran out: what is durable stays, and a resend finishes the rest.
    pub async fn post_prices(&self, bulk: &PriceBulk) -> Result<PricesAnswer, Refusal> {
        let posted = tokio::time::timeout_at(bulk.deadline, async {
            let lines = split(&bulk.body, bulk.format).map_err(Refusal::Rejected)?;
            let mut answer = PricesAnswer::default();
            for (k, window) in windows(&lines).into_iter().enumerate() {
                self.post_window(bulk, k, &window, &mut answer).await?;
            }
            if answer.accepted == 0 {
                let is_one = bulk.format == BodyFormat::Json && lines.len() == 1;
                let errors = answer.rejected.into_iter().map(|line| line.into_error(is_one)).collect();
                return Err(Refusal::Rejected(Rejection::InvalidFields(errors)));
            }
            Ok(answer)
        });
        posted.await.unwrap_or(Err(Refusal::Busy {
            retry_after_seconds: 1,
            reason: "the prices were not stored in time; sending the same body again finishes them",
        }))
    }

    async fn post_window(
        &self,
        bulk: &PriceBulk,
        k: usize,
        window: &Window<'_>,
        answer: &mut PricesAnswer,
    ) -> Result<(), Refusal> {
        let (observations, refused) = self.read_window(window).await?;
        let last_line = window.lines.last().map_or(0, |(line, _)| *line);
        let resolved = Resolved {
            command_id: Uuid::new_v5(&bulk.command_id, format!("window:{k}").as_bytes()),
            request_hash: hash(window, &bulk.body),
            actor: Arc::clone(&bulk.actor),
            correlation_id: bulk.correlation_id,
            if_match: None,
            occurred_at: None,
            deadline: bulk.deadline,
            target: StreamId::from("price-bulk"),
            reads: Vec::new(),
            command: ResolvedCommand::Prices {
                events: price::group(&observations),
                refused: refused.clone(),
            },
        };
        let resolved = Arc::new(resolved);
        let executed = if observations.is_empty() {
            // Nothing to append; but the window may be known with lines that were good then.
            match self.read_command(resolved.command_id).await? {
                events if events.is_empty() => None,
                events => Some(original(&resolved, events)?),
            }
        } else {
            Some(self.run_window(resolved).await?)
        };
        match executed {
            Some(Executed { before: Some(events), .. }) => answer.count_stored(&events),
            Some(Executed { answer: stored, before: None }) => {
                answer.accepted += observations.len() as u64;
                answer.place = Some((stored.epoch, stored.position));
                answer.refuse(refused);
            }
            None => answer.refuse(refused),
        }
        answer.last_durable_line = last_line;
        Ok(())
    }

    /// Checks each line; nothing is refused for its neighbour.
    async fn read_window(&self, window: &Window<'_>) -> Result<(Vec<Observation>, Refused), Refusal> {
        let now = self.clock().now();
        let mut assets: HashMap<String, Option<Arc<Asset>>> = HashMap::new();
        let mut observations = Vec::with_capacity(window.lines.len());
        let mut refused = Refused::default();
        for (line, text) in &window.lines {
            let parsed = match parse_line(text) {
                Ok(parsed) => parsed,
                Err(errors) => {
                    refused.note(*line, errors);
                    continue;
                }
            };
            let asset = match assets.get(&parsed.asset) {
                Some(asset) => asset.clone(),
                None => {
                    let found = match AssetRef::from_str(&parsed.asset) {
                        Ok(asset) => self.find_asset(&asset).await?,
                        Err(_) => None,
                    };
                    assets.insert(parsed.asset.clone(), found.clone());
                    found
                }
            };
            match price::observe(asset.as_deref(), &parsed.line, now) {
                Ok(observation) => observations.push(observation),
                Err(Rejection::InvalidFields(errors)) => {
                    refused.note(*line, errors);
                }
                Err(other) => {
                    let error = FieldError { field: String::new(), reason: other.to_string() };
                    refused.note(*line, vec![error]);
                }
            }
        }
        Ok((observations, refused))
    }
}

impl PricesAnswer {
    fn refuse(&mut self, refused: Refused) {
        self.rejected_count += refused.count;
        let room = REFUSED_SHOWN_MAX.saturating_sub(self.rejected.len());
        self.rejected.extend(refused.lines.into_iter().take(room));
    }

    /// Counts a window from its events in the log.
    fn count_stored(&mut self, events: &[Envelope]) {
        for envelope in events {
            if let Ok(Event::Price(price)) = envelope.event() {
                self.accepted += price.price_count() as u64;
            }
            let metadata: Metadata = serde_json::from_str(&envelope.metadata).unwrap_or_default();
            let refused = metadata.refused.and_then(|refused| serde_json::from_value(refused).ok());
            self.refuse(refused.unwrap_or_default());
            self.place = Some((envelope.epoch, envelope.position));
        }
    }
}

/// What tells a window from another under the same id: its lines, and the body that it is part of.
fn hash(window: &Window<'_>, body: &[u8]) -> Arc<[u8]> {
    let mut hasher = Sha256::new();
    hasher.update(Sha256::digest(body));
    for (_, line) in &window.lines {
        hasher.update(line);
        hasher.update(b"\n");
    }
    Arc::from(&hasher.finalize()[..])
}
