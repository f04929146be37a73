//! Prices in bulk: a body is a sequence of commands, one for each window of lines.
//!
//! Windows, their ids and the grouping into events are a pure function of the body's bytes, so that a resend
//! after a lost answer finds what is stored and finishes what is missing. Good lines are kept; refused ones are
//! named with their line, and stand in the metadata of the window's last event for the resend to answer from.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::answer::Refusal;
use super::execute::{Commands, Executed, original};
use super::request::{AssetRef, RefusedLine, Resolved, ResolvedCommand};
use crate::domain::asset::Asset;
use crate::domain::currency::Currency;
use crate::domain::ids::{Epoch, Position, StreamId};
use crate::domain::money::{Price, Quantity};
use crate::domain::price::{self, Observation, PriceLine};
use crate::domain::rejection::{FieldError, Rejection};
use crate::events::{Envelope, Event, Metadata};

/// Most lines of a body.
pub const LINES_MAX: usize = 100_000;
const WINDOW_LINES_MAX: usize = 2_000;
const WINDOW_BYTES_MAX: usize = 512 * 1_024;
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

/// Lines that become one command.
#[derive(Debug, PartialEq, Eq)]
struct Window<'a> {
    lines: Vec<(u64, &'a str)>,
}

impl Commands {
    /// Appends a body of prices, window by window.
    ///
    /// # Errors
    /// [`Refusal::Rejected`] when the body as a whole cannot be read or no line of it was good;
    /// [`Refusal::Busy`] when time ran out: what is durable stays, and a resend finishes the rest.
    pub async fn post_prices(&self, bulk: &PriceBulk) -> Result<PricesAnswer, Refusal> {
        let posted = tokio::time::timeout_at(bulk.deadline, async {
            let text = std::str::from_utf8(&bulk.body).map_err(|_| body_error("is not UTF-8"))?;
            let lines = split(text, bulk.format)?;
            let mut answer = PricesAnswer::default();
            for (k, window) in windows(&lines).into_iter().enumerate() {
                self.post_window(bulk, k, &window, &mut answer).await?;
            }
            if answer.accepted == 0 {
                let errors = answer.rejected.into_iter().map(|line| FieldError {
                    field: line.field.map_or_else(
                        || format!("line {}", line.line),
                        |field| format!("line {}: {field}", line.line),
                    ),
                    reason: line.reason,
                });
                return Err(Refusal::Rejected(Rejection::InvalidFields(errors.collect())));
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
            request_hash: hash(window),
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
    async fn read_window(
        &self,
        window: &Window<'_>,
    ) -> Result<(Vec<Observation>, Vec<RefusedLine>), Refusal> {
        let now = self.clock().now();
        let mut assets: HashMap<String, Option<Arc<Asset>>> = HashMap::new();
        let mut observations = Vec::with_capacity(window.lines.len());
        let mut refused = Vec::new();
        for (line, text) in &window.lines {
            let parsed = match parse_line(text) {
                Ok(parsed) => parsed,
                Err(errors) => {
                    refused.extend(errors.into_iter().map(|error| RefusedLine::new(*line, error)));
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
                    refused.extend(errors.into_iter().map(|error| RefusedLine::new(*line, error)));
                }
                Err(other) => {
                    refused.push(RefusedLine { line: *line, field: None, reason: other.to_string() });
                }
            }
        }
        Ok((observations, refused))
    }
}

impl PricesAnswer {
    fn refuse(&mut self, refused: Vec<RefusedLine>) {
        let mut lines: Vec<u64> = refused.iter().map(|line| line.line).collect();
        lines.dedup();
        self.rejected_count += lines.len() as u64;
        let room = REFUSED_SHOWN_MAX.saturating_sub(self.rejected.len());
        self.rejected.extend(refused.into_iter().take(room));
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

/// A line as it was sent. Text only: numbers would have passed through a binary float.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineBody<'a> {
    #[serde(borrow)]
    asset: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    price: std::borrow::Cow<'a, str>,
    at: Option<String>,
    day: Option<String>,
    source: Option<String>,
    volume: Option<String>,
    currency: Option<String>,
}

struct ParsedLine {
    asset: String,
    line: PriceLine,
}

fn parse_line(text: &str) -> Result<ParsedLine, Vec<FieldError>> {
    let mut json = serde_json::Deserializer::from_str(text);
    let body: Result<LineBody<'_>, _> = serde_path_to_error::deserialize(&mut json);
    let body = body.map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." || path == "?" { String::new() } else { path };
        vec![FieldError { field, reason: error.into_inner().to_string() }]
    })?;
    if let Err(error) = json.end() {
        return Err(vec![FieldError { field: String::new(), reason: error.to_string() }]);
    }
    let mut errors = Vec::new();
    let mut refuse = |field: &str, reason: String| {
        errors.push(FieldError { field: field.into(), reason });
    };
    let price = body.price.parse::<Price>().map_err(|e| refuse("price", e.to_string())).unwrap_or_default();
    let volume = body.volume.map(|v| v.parse::<Quantity>().map_err(|e| refuse("volume", e.to_string())));
    let currency = body.currency.map(|c| c.parse::<Currency>().map_err(|e| refuse("currency", e.into())));
    let at = body.at.map(|at| {
        let parsed = DateTime::parse_from_rfc3339(&at).map(|at| at.with_timezone(&Utc));
        parsed.map_err(|_| refuse("at", "is not an instant such as \"2026-03-02T14:30:00Z\"".into()))
    });
    let day = body.day.map(|day| {
        let parsed = NaiveDate::parse_from_str(&day, "%Y-%m-%d");
        parsed.map_err(|_| refuse("day", "is not a day such as \"2026-03-02\"".into()))
    });
    if !errors.is_empty() {
        return Err(errors);
    }
    let line = PriceLine {
        price,
        at: at.and_then(Result::ok),
        day: day.and_then(Result::ok),
        source: body.source,
        volume: volume.and_then(Result::ok),
        currency: currency.and_then(Result::ok),
    };
    Ok(ParsedLine { asset: body.asset.into_owned(), line })
}

/// The numbered lines of a body. Blank lines count and hold nothing.
fn split(text: &str, format: BodyFormat) -> Result<Vec<(u64, &str)>, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Many<'a> {
        #[serde(borrow)]
        prices: Vec<&'a RawValue>,
    }
    let lines: Vec<(u64, &str)> = match format {
        BodyFormat::Ndjson => (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()).collect(),
        BodyFormat::Json => {
            let whole: &RawValue = serde_json::from_str(text).map_err(|e| body_error(&e.to_string()))?;
            let is_many = serde_json::from_str::<HashMap<String, &RawValue>>(whole.get())
                .is_ok_and(|members| members.contains_key("prices"));
            if is_many {
                let many: Many<'_> =
                    serde_json::from_str(whole.get()).map_err(|e| body_error(&e.to_string()))?;
                (1..).zip(many.prices.iter().map(|line| line.get())).collect()
            } else {
                vec![(1, whole.get())]
            }
        }
    };
    if lines.is_empty() {
        return Err(body_error("holds no prices"));
    }
    if lines.len() > LINES_MAX {
        return Err(body_error(&format!("has {} lines, at most {LINES_MAX} are taken at once", lines.len())));
    }
    Ok(lines)
}

fn body_error(reason: &str) -> Refusal {
    Refusal::Rejected(Rejection::field("body", reason))
}

/// Cuts lines into windows of at most 2,000 lines and 512 KiB: a function of the bytes alone.
fn windows<'a>(lines: &[(u64, &'a str)]) -> Vec<Window<'a>> {
    let mut windows = Vec::new();
    let mut lines_of_window: Vec<(u64, &str)> = Vec::new();
    let mut bytes = 0;
    for &(number, line) in lines {
        let is_full = lines_of_window.len() == WINDOW_LINES_MAX || bytes + line.len() > WINDOW_BYTES_MAX;
        if is_full && !lines_of_window.is_empty() {
            windows.push(Window { lines: std::mem::take(&mut lines_of_window) });
            bytes = 0;
        }
        bytes += line.len();
        lines_of_window.push((number, line));
    }
    if !lines_of_window.is_empty() {
        windows.push(Window { lines: lines_of_window });
    }
    windows
}

fn hash(window: &Window<'_>) -> Arc<[u8]> {
    let mut hasher = Sha256::new();
    for (_, line) in &window.lines {
        hasher.update(line.as_bytes());
        hasher.update(b"\n");
    }
    Arc::from(&hasher.finalize()[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_bounded_in_lines_and_bytes() {
        let short = "x";
        let lines: Vec<(u64, &str)> = (1..=4_001).map(|n| (n, short)).collect();
        let sizes: Vec<usize> = windows(&lines).iter().map(|w| w.lines.len()).collect();
        assert_eq!(sizes, [2_000, 2_000, 1]);
        let long = "y".repeat(300 * 1_024);
        let lines: Vec<(u64, &str)> = (1..=3).map(|n| (n, long.as_str())).collect();
        assert_eq!(windows(&lines).len(), 3);
    }

    #[test]
    fn blank_lines_count_but_hold_nothing() {
        let lines = split("{}\n\n{}\n", BodyFormat::Ndjson).unwrap();
        assert_eq!(lines, [(1, "{}"), (3, "{}")]);
    }

    #[test]
    fn a_broken_line_is_named_with_its_field() {
        let error = |text: &str| parse_line(text).err().unwrap().remove(0);
        assert_eq!(error(r#"{"asset":"A","price":5}"#).field, "price");
        assert_eq!(error(r#"{"asset":"A","price":"1e400","at":"x"}"#).field, "price");
        assert_eq!(error(r#"{"asset":"A","price":"1","at":"yesterday"}"#).field, "at");
        assert_eq!(error(r#"{"asset":"A","price":"1","colour":"red"}"#).field, "colour");
        assert_eq!(error("{").field, "");
    }
}
