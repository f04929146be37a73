//! Clients: what they wish, what they were told, and whether it was true when they were told.

use std::sync::Arc;
use std::time::Duration;

use rust_decimal::Decimal;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::operations::Wish;
use super::store::Store;
use super::writer::Writer;
use crate::commands::answer::Answer;
use crate::commands::batch::{Found, Pending, Verdict};
use crate::commands::load::fold;
use crate::commands::request::{AssetRef, Command, Request, Resolved};
use crate::domain::asset::{AssetClass, ListAsset};
use crate::domain::ids::{AssetId, InvestorId, PortfolioId, Position, StreamId, Version};
use crate::domain::investor::{InvestorDetails, RegisterInvestor};
use crate::domain::money::Amount;
use crate::domain::portfolio::command::{ChangeAccounting, OpenPortfolio, PortfolioCommand, TradeCommand};
use crate::domain::portfolio::event::{CashMode, CostBasis, PortfolioEvent, Settlement};
use crate::domain::rejection::Rejection;
use crate::event_store::Place;
use crate::events::{Envelope, Event};

const INVESTOR: InvestorId = InvestorId(Uuid::from_u128(1));
const ASSETS: [AssetId; 2] = [AssetId(Uuid::from_u128(11)), AssetId(Uuid::from_u128(12))];
const PORTFOLIOS: [PortfolioId; 3] =
    [PortfolioId(Uuid::from_u128(21)), PortfolioId(Uuid::from_u128(22)), PortfolioId(Uuid::from_u128(23))];

/// All calls, in the order in which they were first sent.
#[derive(Default)]
pub(super) struct Clients {
    calls: Vec<Call>,
}

struct Call {
    request: Arc<Resolved>,
    waiting: Option<(usize, oneshot::Receiver<Verdict>)>,
    told: Option<Told>,
}

/// A final answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    Accepted(Answer),
    Refused(Rejection),
    Unchanged,
}

impl Clients {
    /// What the world begins with.
    pub(super) fn opening(&self) -> Vec<Command> {
        let details = InvestorDetails { name: "Somebody".into(), email: "somebody@example.invalid".into() };
        let mut commands = vec![Command::RegisterInvestor(RegisterInvestor {
            investor_id: INVESTOR,
            details,
            risk_tolerance: None,
            experience_level: None,
        })];
        commands.extend(ASSETS.iter().zip(["AAA", "BBB"]).map(|(asset_id, symbol)| {
            Command::ListAsset(ListAsset {
                asset_id: *asset_id,
                symbol: symbol.parse().unwrap(),
                name: symbol.into(),
                class: AssetClass::Equity,
                currency: "USD".parse().unwrap(),
                quote_unit: None,
                isin: None,
                exchange: None,
            })
        }));
        commands.extend(PORTFOLIOS.map(|portfolio_id| Command::Portfolio {
            portfolio_id,
            asset: None,
            command: PortfolioCommand::Open(OpenPortfolio {
                portfolio_id,
                investor_id: INVESTOR,
                name: "Growth".into(),
                base_currency: "USD".parse().unwrap(),
                time_zone: None,
                cost_basis: CostBasis::Fifo,
                fees_in_cost: true,
                cash: CashMode::Untracked,
                allow_short: false,
            }),
        }));
        commands
    }

    /// A wish as a command, with the version that its client believes in, where it names one.
    pub(super) fn wish(&self, wish: Wish, store: &Store) -> (Command, Option<Version>) {
        let (portfolio_id, asset_id) = (PORTFOLIOS[wish.portfolio], ASSETS[wish.asset]);
        let quantity = Decimal::from(wish.quantity.unsigned_abs());
        let trade = TradeCommand {
            asset_id,
            quantity: quantity.to_string().parse().unwrap(),
            price: "10".parse().unwrap(),
            fee: Amount::ZERO,
            tax: Amount::ZERO,
            currency: None,
            fx_rate: None,
            settle: Settlement::Asset,
            trade_date: None,
            note: None,
        };
        let basis = if wish.portfolio == 0 { CostBasis::Lifo } else { CostBasis::Average };
        let (asset, command) = match wish.quantity {
            0 => {
                let change = ChangeAccounting { cost_basis: Some(basis), ..ChangeAccounting::default() };
                (None, PortfolioCommand::ChangeAccounting(change))
            }
            1.. => (Some(AssetRef::Id(asset_id)), PortfolioCommand::Buy(trade)),
            _ => (Some(AssetRef::Id(asset_id)), PortfolioCommand::Sell(trade)),
        };
        let version = store.stream_after(&portfolio_id.stream(), Version(0)).len() as i64;
        let if_match = wish.if_match.then_some(Version(version));
        (Command::Portfolio { portfolio_id, asset, command }, if_match)
    }

    pub(super) fn send(&mut self, command: impl Into<Wanted>, at: usize, writer: &mut Writer) {
        let Wanted(command, if_match) = command.into();
        let asset_id = match &command {
            Command::Portfolio { asset: Some(AssetRef::Id(id)), .. } => Some(*id),
            _ => None,
        };
        let hash = Sha256::digest(format!("{command:?}"));
        let request = Request {
            command,
            command_id: Uuid::from_u128(1_000 + self.calls.len() as u128),
            request_hash: Arc::from(&hash[..]),
            actor: "simulation".into(),
            correlation_id: Uuid::from_u128(7),
            if_match,
            occurred_at: None,
            deadline: Instant::now() + Duration::from_secs(3_600),
        };
        let request = Arc::new(request.resolve(asset_id));
        let waiting = Some((at, queue(&request, Found::default(), writer)));
        self.calls.push(Call { request, waiting, told: None });
    }

    /// Sends a command once more, whether its answer is known or not.
    pub(super) fn resend(&mut self, drawn: usize, at: usize, writer: &mut Writer) {
        let count = self.calls.len();
        let call = &mut self.calls[drawn % count];
        if call.waiting.is_none() {
            // Only acceptance is for ever: anything else is judged anew, and unknown until it is.
            call.told = call.told.take().filter(|told| matches!(told, Told::Accepted(_)));
            call.waiting = Some((at, queue(&call.request, Found::default(), writer)));
        }
    }

    pub(super) fn resend_unknown(&mut self, writers: &mut [Writer]) {
        for call in self.calls.iter_mut().filter(|call| call.waiting.is_none() && call.told.is_none()) {
            call.waiting = Some((0, queue(&call.request, Found::default(), &mut writers[0])));
        }
    }

    /// Every client looks whether there is an answer.
    pub(super) fn hear(&mut self, writers: &mut [Writer], store: &mut Store) {
        for call in &mut self.calls {
            let Some((at, mut waiting)) = call.waiting.take() else { continue };
            match waiting.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => call.waiting = Some((at, waiting)),
                // The process died: the outcome is unknown.
                Err(oneshot::error::TryRecvError::Closed) => {}
                Ok(verdict) => match answer(&call.request, verdict, store) {
                    Heard::Told(told) => call.is_told(told),
                    Heard::Again(found, newest) => {
                        newest.into_iter().for_each(|place| writers[at].saw(place));
                        call.waiting = Some((at, queue(&call.request, found, &mut writers[at])));
                    }
                },
            }
        }
    }

    /// A restore took everything after this position: what was told of it is void.
    pub(super) fn lost_after(&mut self, head: Position) {
        for call in &mut self.calls {
            call.waiting = None;
            if matches!(&call.told, Some(Told::Accepted(answer)) if answer.position > head) {
                call.told = None;
            }
        }
    }

    pub(super) fn all_told(&self) -> bool {
        self.calls.iter().all(|call| call.told.is_some() && call.waiting.is_none())
    }

    pub(super) fn all_accepted(&self) -> bool {
        self.calls.iter().all(|call| matches!(call.told, Some(Told::Accepted(_))))
    }

    /// What was told, by command.
    pub(super) fn told(&self) -> impl Iterator<Item = (Uuid, &Told)> {
        self.calls.iter().filter_map(|call| Some((call.request.command_id, call.told.as_ref()?)))
    }
}

/// A command and the version that it insists on.
pub(super) struct Wanted(Command, Option<Version>);

impl From<Command> for Wanted {
    fn from(command: Command) -> Self {
        Self(command, None)
    }
}

impl From<(Command, Option<Version>)> for Wanted {
    fn from((command, if_match): (Command, Option<Version>)) -> Self {
        Self(command, if_match)
    }
}

impl Call {
    /// An accepted command is answered the same for ever; a refusal is judged anew.
    fn is_told(&mut self, told: Told) {
        if let Some(before @ Told::Accepted(_)) = &self.told {
            assert_eq!(*before, told, "the same command was answered otherwise");
        }
        self.told = Some(told);
    }
}

fn queue(request: &Arc<Resolved>, found: Found, writer: &mut Writer) -> oneshot::Receiver<Verdict> {
    let (reply, verdict) = oneshot::channel();
    writer.push(Pending::new(Arc::clone(request), found, reply));
    verdict
}

enum Heard {
    Told(Told),
    /// With what was read for it, and the newest event of that.
    Again(Found, Option<Place>),
}

/// What the request's own task makes of a verdict: no "no" leaves from memory alone.
fn answer(request: &Resolved, verdict: Verdict, store: &Store) -> Heard {
    match verdict {
        Verdict::Accepted { answer, .. } => Heard::Told(Told::Accepted(Arc::unwrap_or_clone(answer))),
        Verdict::Known => known(&store.command(request.command_id)),
        Verdict::No { rejection, reads } => confirm(request, &reads, store, || {
            assert_true(request, &rejection, store);
            Told::Refused(rejection.clone())
        }),
        Verdict::Unchanged { reads } => confirm(request, &reads, store, || Told::Unchanged),
        Verdict::Missing(streams) => {
            let mut newest = None;
            let load = |id: StreamId| {
                let events = store.stream_after(&id, Version(0));
                newest = newest_of(newest.take(), &events);
                let stream = fold(&id, &events).expect("the log can be read");
                (id, Arc::new(stream))
            };
            let streams = streams.into_iter().map(load).collect();
            Heard::Again(Found { streams, ..Found::default() }, newest)
        }
        other => panic!("nobody expects {other:?}"),
    }
}

fn confirm(
    request: &Resolved,
    reads: &[(StreamId, Version)],
    store: &Store,
    stands: impl FnOnce() -> Told,
) -> Heard {
    let own = store.command(request.command_id);
    if !own.is_empty() {
        return known(&own);
    }
    let newer: Vec<_> = reads.iter().flat_map(|(id, version)| store.stream_after(id, *version)).collect();
    if newer.is_empty() {
        return Heard::Told(stands());
    }
    let newest = newest_of(None, &newer);
    let decoded = |event: Envelope| (event.stream_id.clone(), event.version, event.event().expect("a fact"));
    Heard::Again(Found { newer: newer.into_iter().map(decoded).collect(), ..Found::default() }, newest)
}

fn newest_of(before: Option<Place>, events: &[Envelope]) -> Option<Place> {
    before.into_iter().chain(events.iter().map(Place::from)).max_by_key(|place| place.position)
}

fn known(events: &[Envelope]) -> Heard {
    Heard::Told(Told::Accepted(Answer::from_log(events).expect("a known command has events")))
}

/// No false refusal: the log itself, counted by hand, gives the reason.
fn assert_true(request: &Resolved, rejection: &Rejection, store: &Store) {
    let events = store.stream_after(&request.target, Version(0));
    match rejection {
        Rejection::StaleVersion { current_version } => {
            assert_eq!(current_version.0, events.len() as i64, "the version that a client was told");
            assert_ne!(request.if_match, Some(*current_version), "a refusal although the version fits");
        }
        Rejection::InsufficientHolding { held, .. } => {
            let asset =
                request.reads.iter().find(|id| id.kind_and_rest().0 == "asset").expect("a trade names one");
            let counted = held_of(&events, asset);
            assert_eq!(held.to_string(), counted.to_string(), "what a client was told to hold");
        }
        other => panic!("nobody expects {other:?}"),
    }
}

/// Units held of an asset, from the facts of one portfolio.
pub(super) fn held_of<'a>(events: impl IntoIterator<Item = &'a Envelope>, asset: &StreamId) -> Decimal {
    let change = |event: &Envelope| match event.event().expect("a fact") {
        Event::Portfolio(PortfolioEvent::AssetBought(bought)) if bought.asset_id.stream() == *asset => {
            bought.quantity.to_string().parse().unwrap()
        }
        Event::Portfolio(PortfolioEvent::AssetSold(sold)) if sold.asset_id.stream() == *asset => {
            -sold.quantity.to_string().parse::<Decimal>().unwrap()
        }
        _ => Decimal::ZERO,
    };
    events.into_iter().map(change).sum()
}

/// Every portfolio and asset there is.
pub(super) fn holdings() -> impl Iterator<Item = (StreamId, StreamId)> {
    PORTFOLIOS.into_iter().flat_map(|portfolio| ASSETS.map(|asset| (portfolio.stream(), asset.stream())))
}
