//! Prices that wait for somebody to confirm them: a source told one that is far from the last.
//!
//! Each has a stream of its own, so that a decision about it reads at most two events, however long the asset's prices are;
//! it is a function of what was told, so that the same answer of a source is held once.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::event::{Close, ClosesObserved, PriceEvent, PricesObserved, Tick};
use crate::domain::currency::Currency;
use crate::domain::ids::{AssetId, HeldId, Position};
use crate::domain::money::{Price, Quantity};
use crate::domain::rejection::Rejection;

/// What happened to a price that was held back.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub enum HeldEvent {
    /// A price was told that is too far from the last one to be believed without a word from somebody.
    PriceHeld(PriceHeld),
    /// Somebody confirmed it; it stands in the asset's prices from now on, or comes with its series.
    HeldPriceAccepted(HeldPriceAccepted),
    /// Somebody said that it is wrong.
    HeldPriceDismissed(HeldPriceDismissed),
}

impl HeldEvent {
    /// The asset concerned.
    pub fn asset_id(&self) -> AssetId {
        match self {
            Self::PriceHeld(event) => event.asset_id,
            Self::HeldPriceAccepted(event) => event.asset_id,
            Self::HeldPriceDismissed(event) => event.asset_id,
        }
    }
}

/// Payload of `PriceHeld`: one of `at` and `day` is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PriceHeld {
    /// The held price.
    pub held_id: HeldId,
    /// The asset.
    pub asset_id: AssetId,
    /// Where the price is from.
    pub source: String,
    /// The asset's currency.
    pub currency: Currency,
    /// When, of a tick.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<DateTime<Utc>>,
    /// The exchange's calendar day, of a close.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub day: Option<NaiveDate>,
    /// Price of one unit, in quote units.
    pub price: Price,
    /// Units traded, if told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub volume: Option<Quantity>,
    /// The price that it is far from.
    pub last_price: Price,
    /// Why it is held, in a sentence.
    pub reason: String,
    /// It stands for a series that is told anew: accepted, it brings no price by itself, and the next fetch brings them all.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub told_anew: bool,
}

/// Payload of `HeldPriceAccepted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldPriceAccepted {
    /// The held price.
    pub held_id: HeldId,
    /// The asset.
    pub asset_id: AssetId,
}

/// Payload of `HeldPriceDismissed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldPriceDismissed {
    /// The held price.
    pub held_id: HeldId,
    /// The asset.
    pub asset_id: AssetId,
}

/// What somebody says about a held price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It is right.
    Accept,
    /// It is wrong.
    Dismiss,
}

impl Settlement {
    /// As it is told afterwards.
    pub fn done(self) -> &'static str {
        match self {
            Self::Accept => "accepted",
            Self::Dismiss => "dismissed",
        }
    }
}

/// Names in this space make ids of held prices.
const HELD_PRICES: Uuid = Uuid::from_u128(0x5b0c_6d8e_42f7_4b1a_8f0e_93d1_6a7c_20be);

impl HeldId {
    /// The id of what a source has told: the same for the same answer. `after` is the event that the price would replace, or
    /// that settled the same price before: what was accepted, stands no more and is told again is another question.
    pub fn of(
        asset_id: AssetId,
        source: &str,
        at: Option<DateTime<Utc>>,
        day: Option<NaiveDate>,
        price: Price,
        after: Position,
    ) -> Self {
        let at = at.map(|at| at.timestamp_micros().to_string()).unwrap_or_default();
        let day = day.map(|day| day.to_string()).unwrap_or_default();
        let told = format!("{asset_id}\n{source}\n{at}\n{day}\n{price}\n{after}");
        Self(Uuid::new_v5(&HELD_PRICES, told.as_bytes()))
    }
}

/// A held price as its stream tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeldPrice {
    held: Option<PriceHeld>,
    settled: Option<Settlement>,
}

impl HeldPrice {
    /// One without events.
    pub fn initial() -> Self {
        Self::default()
    }

    /// Takes in an event of its stream.
    pub fn evolve(&mut self, event: &HeldEvent) {
        match event {
            HeldEvent::PriceHeld(held) => self.held = Some(held.clone()),
            HeldEvent::HeldPriceAccepted(_) => self.settled = Some(Settlement::Accept),
            HeldEvent::HeldPriceDismissed(_) => self.settled = Some(Settlement::Dismiss),
        }
    }
}

/// Holds a price. One that was held before is no event, whatever has become of it.
pub fn hold(state: &HeldPrice, price: &PriceHeld) -> Vec<HeldEvent> {
    if state.held.is_some() { Vec::new() } else { vec![HeldEvent::PriceHeld(price.clone())] }
}

/// What settling makes: the fact, and for the asset's prices the price itself if it was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// For the stream of the held price.
    pub fact: HeldEvent,
    /// For the asset's prices; none for one that its series brings.
    pub price: Option<PriceEvent>,
}

/// Accepts or dismisses a held price. The same word twice is no event.
///
/// # Errors
/// [`Rejection`]: there is no such price, or the other word was said before.
pub fn settle(state: &HeldPrice, settlement: Settlement) -> Result<Option<Settled>, Rejection> {
    let Some(held) = &state.held else {
        return Err(Rejection::NotFound { kind: "held price" });
    };
    match state.settled {
        Some(before) if before == settlement => return Ok(None),
        Some(before) => return Err(Rejection::AlreadySettled { how: before.done() }),
        None => {}
    }
    let (held_id, asset_id) = (held.held_id, held.asset_id);
    Ok(Some(match settlement {
        Settlement::Dismiss => {
            let fact = HeldEvent::HeldPriceDismissed(HeldPriceDismissed { held_id, asset_id });
            Settled { fact, price: None }
        }
        Settlement::Accept => {
            let fact = HeldEvent::HeldPriceAccepted(HeldPriceAccepted { held_id, asset_id });
            Settled { fact, price: observed(held) }
        }
    }))
}

/// The price as it would have been observed.
fn observed(held: &PriceHeld) -> Option<PriceEvent> {
    if held.told_anew {
        return None;
    }
    let PriceHeld { asset_id, price, volume, .. } = *held;
    let (source, currency) = (held.source.clone(), held.currency.clone());
    if let Some(at) = held.at {
        let ticks = vec![Tick { at, price, volume }];
        return Some(PriceEvent::PricesObserved(PricesObserved { asset_id, source, currency, ticks }));
    }
    let closes = vec![Close { day: held.day?, price, volume }];
    Some(PriceEvent::ClosesObserved(ClosesObserved { asset_id, source, currency, closes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> PriceHeld {
        let asset_id = AssetId(Uuid::from_u128(1));
        let at: DateTime<Utc> = "2024-03-01T09:30:00Z".parse().unwrap();
        let price: Price = "500".parse().unwrap();
        PriceHeld {
            held_id: HeldId::of(asset_id, "demo", Some(at), None, price, Position(0)),
            asset_id,
            source: "demo".into(),
            currency: Currency::usd(),
            at: Some(at),
            day: None,
            price,
            volume: None,
            last_price: "100".parse().unwrap(),
            reason: "is 400 % above the last price".into(),
            told_anew: false,
        }
    }

    fn after(events: &[HeldEvent]) -> HeldPrice {
        let mut state = HeldPrice::initial();
        events.iter().for_each(|event| state.evolve(event));
        state
    }

    #[test]
    fn a_price_is_held_once() {
        let events = hold(&HeldPrice::initial(), &held());
        assert_eq!(events, [HeldEvent::PriceHeld(held())]);
        assert_eq!(hold(&after(&events), &held()), []);
    }

    #[test]
    fn an_accepted_price_joins_the_others_once() {
        let mut state = after(&[HeldEvent::PriceHeld(held())]);
        let settled = settle(&state, Settlement::Accept).unwrap().unwrap();
        let Some(PriceEvent::PricesObserved(observed)) = &settled.price else { panic!("a tick") };
        assert_eq!((observed.ticks[0].price, observed.source.as_str()), (held().price, "demo"));
        state.evolve(&settled.fact);
        assert_eq!(settle(&state, Settlement::Accept), Ok(None));
        let refused = settle(&state, Settlement::Dismiss);
        assert_eq!(refused, Err(Rejection::AlreadySettled { how: "accepted" }));
    }

    #[test]
    fn one_that_is_told_anew_with_its_series_brings_no_price_by_itself() {
        let state = after(&[HeldEvent::PriceHeld(PriceHeld { told_anew: true, ..held() })]);
        let settled = settle(&state, Settlement::Accept).unwrap().unwrap();
        assert!(matches!(settled.fact, HeldEvent::HeldPriceAccepted(_)));
        assert_eq!(settled.price, None);
    }

    #[test]
    fn a_dismissed_price_brings_nothing_and_what_was_never_held_is_not_found() {
        let state = after(&[HeldEvent::PriceHeld(held())]);
        let settled = settle(&state, Settlement::Dismiss).unwrap().unwrap();
        assert_eq!(settled.price, None);
        let unknown = settle(&HeldPrice::initial(), Settlement::Accept);
        assert_eq!(unknown, Err(Rejection::NotFound { kind: "held price" }));
    }

    #[test]
    fn the_same_answer_has_the_same_id() {
        let mut other = held();
        other.price = "501".parse().unwrap();
        let after = |it: &PriceHeld, position| {
            HeldId::of(it.asset_id, &it.source, it.at, it.day, it.price, Position(position))
        };
        assert_eq!(after(&held(), 0), held().held_id);
        assert_ne!(after(&other, 0), held().held_id);
        assert_ne!(after(&held(), 9), held().held_id, "what was settled before is another question");
    }
}
