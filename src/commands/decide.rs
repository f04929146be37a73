//! From a command and the states it reads to what it would append: the bridge to the pure core.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::aggregates::{State, Stream, View};
use super::batch::Now;
use super::portfolio_bulk;
use super::request::{Resolved, ResolvedCommand};
use crate::domain::asset::{self, Asset, SymbolOwner};
use crate::domain::ids::{StreamId, Version};
use crate::domain::investor::{self, Investor};
use crate::domain::job::{self, Job, ShardEvent};
use crate::domain::portfolio::command::PortfolioCommand;
use crate::domain::portfolio::{self, Portfolio};
use crate::domain::price::{self, HeldPrice};
use crate::domain::rejection::Rejection;
use crate::event_store::{Append, Details, Guard, Part};
use crate::events::{Event, NewEvent};

/// What a command would append. No parts: nothing would change.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// Stream, expected version (none: blind) and facts; the command's own stream last.
    pub parts: Vec<(StreamId, Option<Version>, Vec<Event>)>,
    pub guards: Vec<(StreamId, Version)>,
    pub details: Option<Details>,
}

impl Decision {
    /// One stream's facts, if there are any.
    fn one(stream_id: &StreamId, version: Version, events: Vec<impl Into<Event>>) -> Self {
        if events.is_empty() {
            return Self::default();
        }
        let events = events.into_iter().map(Into::into).collect();
        Self { parts: vec![(stream_id.clone(), Some(version), events)], ..Self::default() }
    }

    pub(super) fn into_append(self, request: &Resolved, occurred_at: DateTime<Utc>) -> Append {
        let new = |event: Event| NewEvent::new(event, occurred_at);
        let part = |(stream_id, expected, events): (StreamId, Option<Version>, Vec<Event>)| Part {
            stream_id,
            expected,
            events: events.into_iter().map(new).collect(),
        };
        let guard = |(stream_id, expected)| Guard { stream_id, expected };
        let refused = match &request.command {
            ResolvedCommand::Prices { refused, .. } if refused.count > 0 => {
                serde_json::to_value(refused).ok()
            }
            _ => None,
        };
        Append {
            command_id: request.command_id,
            request_hash: Arc::clone(&request.request_hash),
            correlation_id: request.correlation_id,
            causation_position: None,
            actor: Arc::clone(&request.actor),
            parts: self.parts.into_iter().map(part).collect(),
            guards: self.guards.into_iter().map(guard).collect(),
            details: self.details,
            refused,
        }
    }
}

/// Decides a command upon the log and what stands before it in its batch.
pub(super) fn decide(
    request: &Resolved,
    view: &mut View<'_>,
    Now { ours: now, of_jobs }: Now,
) -> Result<Decision, Rejection> {
    let target = stream(view, &request.target);
    match &request.command {
        ResolvedCommand::RegisterInvestor(command) => {
            let (event, details) = investor::register(&as_investor(&target), command)?;
            let details =
                Details { investor_id: command.investor_id.0, name: details.name, email: details.email };
            let decision = Decision::one(&request.target, target.version, vec![event]);
            Ok(Decision { details: Some(details), ..decision })
        }
        ResolvedCommand::ListAsset(command) => {
            let symbol = StreamId::symbol(command.symbol.as_str());
            let owner = stream(view, &symbol);
            let listed = asset::list(symbol_owner(&owner), command)?;
            let claim = (symbol, Some(owner.version), vec![listed.claim.into()]);
            let listing = (request.target.clone(), Some(Version(0)), vec![listed.listing.into()]);
            Ok(Decision { parts: vec![claim, listing], ..Decision::default() })
        }
        ResolvedCommand::RankSources { command } => {
            if target.version > Version(0) {
                check_version(request, &target)?;
            }
            let events = asset::rank_sources(as_asset(&target).unwrap_or(&Asset::initial()), command)?;
            Ok(Decision::one(&request.target, target.version, events))
        }
        ResolvedCommand::HoldPrice(held) => {
            Ok(Decision::one(&request.target, target.version, price::hold(&as_held(&target), held)))
        }
        ResolvedCommand::SettlePrice(settlement) => {
            if target.version > Version(0) {
                check_version(request, &target)?;
            }
            let Some(settled) = price::settle(&as_held(&target), *settlement)? else {
                return Ok(Decision::default());
            };
            let price = settled.price.map(|it| (it.asset_id().price_stream(), None, vec![Event::Price(it)]));
            let fact = (request.target.clone(), Some(target.version), vec![Event::Held(settled.fact)]);
            Ok(Decision { parts: price.into_iter().chain([fact]).collect(), ..Decision::default() })
        }
        ResolvedCommand::ReportEarnings { command } => {
            if target.version > Version(0) {
                check_version(request, &target)?;
            }
            let events =
                asset::report_earnings(as_asset(&target).unwrap_or(&Asset::initial()), command, now)?;
            Ok(Decision::one(&request.target, target.version, events))
        }
        ResolvedCommand::Portfolio { asset_id, command } => {
            if let PortfolioCommand::Open(open) = command {
                as_investor(&stream(view, &open.investor_id.stream())).require_registered()?;
            } else if target.version > Version(0) {
                check_version(request, &target)?;
            }
            let asset = asset_id.map(|id| stream(view, &id.stream()));
            let listed = asset.as_deref().and_then(as_asset).filter(|asset| asset.listing().is_some());
            let unopened = Portfolio::initial();
            let portfolio = as_portfolio(&target).unwrap_or(&unopened);
            let events = portfolio::decide(portfolio, listed, command, now)?;
            let mut decision = Decision::one(&request.target, target.version, events);
            if let (Some(id), Some(asset), false) = (asset_id, &asset, decision.parts.is_empty()) {
                decision.guards.push((id.stream(), asset.version));
            }
            Ok(decision)
        }
        ResolvedCommand::Job { job_id, command } => {
            if target.version > Version(0) {
                check_version(request, &target)?;
            }
            let events = job::decide(as_job(&target).unwrap_or(&Job::initial()), *job_id, command, of_jobs)?;
            Ok(Decision::one(&request.target, target.version, events))
        }
        ResolvedCommand::RecomputeRisk(wanted) => {
            let event = ShardEvent::RiskRecomputeRequested(wanted.clone());
            let part = (request.target.clone(), None, vec![event.into()]);
            Ok(Decision { parts: vec![part], ..Decision::default() })
        }
        ResolvedCommand::PortfolioBulk { lines } => portfolio_bulk::decide(lines, view, now),
        ResolvedCommand::Prices { events, .. } => {
            let part = |(asset_id, event): &(crate::domain::ids::AssetId, _)| {
                (asset_id.price_stream(), None, vec![Event::Price(Clone::clone(event))])
            };
            Ok(Decision { parts: events.iter().map(part).collect(), ..Decision::default() })
        }
    }
}

fn stream(view: &mut View<'_>, id: &StreamId) -> Arc<Stream> {
    view.get(id).unwrap_or_else(|| Arc::new(Stream::initial(id)))
}

fn check_version(request: &Resolved, target: &Stream) -> Result<(), Rejection> {
    match request.if_match {
        Some(expected) if expected != target.version => {
            Err(Rejection::StaleVersion { current_version: target.version })
        }
        _ => Ok(()),
    }
}

fn symbol_owner(stream: &Stream) -> SymbolOwner {
    match stream.state {
        State::Symbol(owner) => owner,
        _ => SymbolOwner::initial(),
    }
}

fn as_asset(stream: &Stream) -> Option<&Asset> {
    match &stream.state {
        State::Asset(asset) => Some(asset),
        _ => None,
    }
}

fn as_held(stream: &Stream) -> HeldPrice {
    match &stream.state {
        State::Held(held) => HeldPrice::clone(held),
        _ => HeldPrice::initial(),
    }
}

fn as_portfolio(stream: &Stream) -> Option<&Portfolio> {
    match &stream.state {
        State::Portfolio(portfolio) => Some(portfolio),
        _ => None,
    }
}

fn as_job(stream: &Stream) -> Option<&Job> {
    match &stream.state {
        State::Job(job) => Some(job),
        _ => None,
    }
}

fn as_investor(stream: &Stream) -> Investor {
    match &stream.state {
        State::Investor(investor) => investor.clone(),
        _ => Investor::initial(),
    }
}
