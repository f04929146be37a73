//! A command as it comes in, and as it waits: with everything it names looked up.

use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use uuid::Uuid;

use super::portfolio_bulk::PortfolioLine;
use crate::domain::asset::{ListAsset, RankSources, ReportEarnings};
use crate::domain::currency::Symbol;
use crate::domain::ids::{AssetId, HeldId, JobId, PortfolioId, StreamId, Version};
use crate::domain::investor::RegisterInvestor;
use crate::domain::job::{JobCommand, RiskRecomputeRequested};
use crate::domain::portfolio::command::PortfolioCommand;
use crate::domain::price::{PriceEvent, PriceHeld, Settlement};
use crate::domain::rejection::FieldError;

/// A command with what is known about who sent it and how long they wait.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is wished.
    pub command: Command,
    /// The command's id: the same for a resend.
    pub command_id: Uuid,
    /// SHA-256 of the body without personal data.
    pub request_hash: Arc<[u8]>,
    /// Opaque id of who sent it.
    pub actor: Arc<str>,
    /// Joins everything that this request causes.
    pub correlation_id: Uuid,
    /// The version that the stream must have, if the client said so.
    pub if_match: Option<Version>,
    /// When the thing happened, if the client said so.
    pub occurred_at: Option<DateTime<Utc>>,
    /// After this nobody waits for the answer.
    pub deadline: Instant,
}

/// Everything that can be wished, but for prices (see [`super::prices`]).
#[derive(Debug, Clone)]
pub enum Command {
    /// Register an investor.
    RegisterInvestor(RegisterInvestor),
    /// List an asset under a symbol that nobody has.
    ListAsset(ListAsset),
    /// Rank an asset's sources of prices.
    RankSources {
        /// The asset.
        asset: AssetRef,
        /// The ranking.
        command: RankSources,
    },
    /// Hold a price back until somebody confirms it.
    HoldPrice(PriceHeld),
    /// Accept or dismiss a price that was held back.
    SettlePrice {
        /// Which.
        held_id: HeldId,
        /// What is said about it.
        settlement: Settlement,
    },
    /// Report the earnings of a quarter.
    ReportEarnings {
        /// The asset.
        asset: AssetRef,
        /// The report.
        command: ReportEarnings,
    },
    /// Change a portfolio.
    Portfolio {
        /// Which.
        portfolio_id: PortfolioId,
        /// The asset that a trade names; its id is put into the command once it is known.
        asset: Option<AssetRef>,
        /// The wish.
        command: PortfolioCommand,
    },
    /// Change a job, or one of its runs.
    Job {
        /// Which.
        job_id: JobId,
        /// The wish.
        command: JobCommand,
    },
    /// Ask whoever owns a shard for the risk of all its portfolios. Nothing is read, nothing refused.
    RecomputeRisk(RiskRecomputeRequested),
}

/// An asset as a client names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AssetRef {
    /// By id.
    Id(AssetId),
    /// By symbol.
    Symbol(Symbol),
}

impl FromStr for AssetRef {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        text.parse().map(Self::Symbol).map_err(|_| "is not an asset's id or symbol")
    }
}

/// A request with its asset found and its streams named: what waits for a batch.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub command: ResolvedCommand,
    pub command_id: Uuid,
    pub request_hash: Arc<[u8]>,
    pub actor: Arc<str>,
    pub correlation_id: Uuid,
    pub if_match: Option<Version>,
    pub occurred_at: Option<DateTime<Utc>>,
    pub deadline: Instant,
    /// The stream that the client means to change: whose version `If-Match` names.
    pub target: StreamId,
    /// Streams that must be known before it can be decided. New ones need not be.
    pub reads: Vec<StreamId>,
}

impl Resolved {
    /// Whether it changes a job or one of its runs.
    pub(crate) fn is_of_a_job(&self) -> bool {
        matches!(self.command, ResolvedCommand::Job { .. })
    }
}

#[derive(Debug)]
pub(crate) enum ResolvedCommand {
    RegisterInvestor(RegisterInvestor),
    ListAsset(ListAsset),
    RankSources { command: RankSources },
    HoldPrice(PriceHeld),
    SettlePrice(Settlement),
    ReportEarnings { command: ReportEarnings },
    Portfolio { asset_id: Option<AssetId>, command: PortfolioCommand },
    Job { job_id: JobId, command: JobCommand },
    RecomputeRisk(RiskRecomputeRequested),
    PortfolioBulk { lines: Vec<PortfolioLine> },
    Prices { events: Vec<(AssetId, PriceEvent)>, refused: Refused },
}

/// A line of a bulk body that was left out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RefusedLine {
    /// Its number in the body, from 1.
    pub line: u64,
    /// The field that is wrong, if it is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl RefusedLine {
    /// As an error of the body; of a body that is one line, the field alone.
    pub(crate) fn into_error(self, is_one: bool) -> FieldError {
        let field = match (self.field, is_one) {
            (Some(field), true) => field,
            (None, true) => "body".to_owned(),
            (Some(field), false) => format!("line {}: {field}", self.line),
            (None, false) => format!("line {}", self.line),
        };
        FieldError { field, reason: self.reason }
    }
}

/// The lines of a window that were left out: how many, and what was wrong with the first of them. It stands in the
/// log, so it is bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Refused {
    pub count: u64,
    pub lines: Vec<RefusedLine>,
}

/// Errors of a window that are spelt out.
const REFUSED_KEPT_MAX: usize = 200;

impl Refused {
    /// Notes what is wrong with a line.
    pub(crate) fn note(&mut self, line: u64, errors: Vec<FieldError>) {
        self.count += 1;
        let room = REFUSED_KEPT_MAX.saturating_sub(self.lines.len());
        self.lines.extend(errors.into_iter().take(room).map(|error| RefusedLine {
            line,
            field: (!error.field.is_empty()).then_some(error.field),
            reason: error.reason,
        }));
    }
}

impl Request {
    /// Names the streams of this request; `asset_id` is what its asset was found to be.
    pub(crate) fn resolve(self, asset_id: Option<AssetId>) -> Resolved {
        let (target, reads, command) = match self.command {
            Command::RegisterInvestor(command) => {
                (command.investor_id.stream(), vec![], ResolvedCommand::RegisterInvestor(command))
            }
            Command::ListAsset(command) => {
                let symbol = StreamId::symbol(command.symbol.as_str());
                (command.asset_id.stream(), vec![symbol], ResolvedCommand::ListAsset(command))
            }
            Command::RankSources { command, .. } => {
                let stream = asset_id.unwrap_or(AssetId(Uuid::nil())).stream();
                (stream.clone(), vec![stream], ResolvedCommand::RankSources { command })
            }
            Command::HoldPrice(price) => {
                let stream = price.held_id.stream();
                (stream.clone(), vec![stream], ResolvedCommand::HoldPrice(price))
            }
            Command::SettlePrice { held_id, settlement } => {
                let stream = held_id.stream();
                (stream.clone(), vec![stream], ResolvedCommand::SettlePrice(settlement))
            }
            Command::ReportEarnings { command, .. } => {
                let stream = asset_id.unwrap_or(AssetId(Uuid::nil())).stream();
                (stream.clone(), vec![stream], ResolvedCommand::ReportEarnings { command })
            }
            Command::Portfolio { portfolio_id, mut command, .. } => {
                let stream = portfolio_id.stream();
                let reads = match &mut command {
                    // The portfolio itself is new; whose it will be must be known.
                    PortfolioCommand::Open(open) => vec![open.investor_id.stream()],
                    PortfolioCommand::Buy(trade) | PortfolioCommand::Sell(trade) => {
                        trade.asset_id = asset_id.unwrap_or(trade.asset_id);
                        vec![stream.clone(), trade.asset_id.stream()]
                    }
                    _ => vec![stream.clone()],
                };
                (stream, reads, ResolvedCommand::Portfolio { asset_id, command })
            }
            Command::Job { job_id, command } => {
                let stream = job_id.stream();
                (stream.clone(), vec![stream], ResolvedCommand::Job { job_id, command })
            }
            Command::RecomputeRisk(request) => {
                (StreamId::of_shard(request.shard), vec![], ResolvedCommand::RecomputeRisk(request))
            }
        };
        Resolved {
            command,
            command_id: self.command_id,
            request_hash: self.request_hash,
            actor: self.actor,
            correlation_id: self.correlation_id,
            if_match: self.if_match,
            occurred_at: self.occurred_at,
            deadline: self.deadline,
            target,
            reads,
        }
    }

    /// The asset that must be found before the request can be resolved.
    pub(crate) fn asset(&self) -> Option<&AssetRef> {
        match &self.command {
            Command::RankSources { asset, .. } | Command::ReportEarnings { asset, .. } => Some(asset),
            Command::Portfolio { asset, .. } => asset.as_ref(),
            Command::RegisterInvestor(_)
            | Command::ListAsset(_)
            | Command::Job { .. }
            | Command::RecomputeRisk(_)
            | Command::HoldPrice(_)
            | Command::SettlePrice { .. } => None,
        }
    }
}
