//! From lines that a client sent to events: each line is checked alone, good lines are grouped.
//!
//! Both are functions of the lines (and of when they came), so that a resend makes the same events.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, SubsecRound, Utc};

use super::event::{Close, ClosesObserved, PRICES_PER_EVENT_MAX, PriceEvent, PricesObserved, Tick};
use crate::domain::asset::Asset;
use crate::domain::currency::Currency;
use crate::domain::dates;
use crate::domain::fields::Fields;
use crate::domain::ids::AssetId;
use crate::domain::money::{Price, Quantity};
use crate::domain::rejection::Rejection;

/// The source of a price whose sender told none.
pub const DEFAULT_SOURCE: &str = "manual";
/// Characters of a source's name.
const SOURCE_CHARS_MAX: usize = 50;
/// Instants are kept to the microsecond, as the database keeps them.
const INSTANT_DECIMALS: u16 = 6;

/// A price as it was sent: parsed, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceLine {
    /// Price of one unit, in quote units.
    pub price: Price,
    /// When, for a tick.
    pub at: Option<DateTime<Utc>>,
    /// The exchange's calendar day, for a close.
    pub day: Option<NaiveDate>,
    /// Where it is from.
    pub source: Option<String>,
    /// Units traded.
    pub volume: Option<Quantity>,
    /// Confirms the asset's currency.
    pub currency: Option<Currency>,
}

/// A price that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The asset.
    pub asset_id: AssetId,
    /// Where it is from.
    pub source: String,
    /// The asset's currency.
    pub currency: Currency,
    /// The price.
    pub observed: Observed,
}

/// A tick or a close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// A price at an instant.
    Tick(Tick),
    /// The closing price of a day.
    Close(Close),
}

/// Checks a price of `asset`, which is `None` when there is no such asset.
///
/// # Errors
/// [`Rejection::InvalidFields`] with everything that is wrong; fields are named without a line number.
pub fn observe(
    asset: Option<&Asset>,
    line: &PriceLine,
    now: DateTime<Utc>,
) -> Result<Observation, Rejection> {
    let source = line.source.as_deref().unwrap_or(DEFAULT_SOURCE);
    let mut fields = Fields::new();
    fields.require(line.price.is_positive(), "price", "must be greater than 0");
    fields.require(!line.volume.is_some_and(Quantity::is_negative), "volume", "must not be negative");
    fields.take("source", check_source(source));
    let observed = check_time(&mut fields, line, now);

    let Some(listing) = asset.and_then(Asset::listing) else {
        fields.refuse("asset", "is unknown");
        return Err(fields.rejection());
    };
    if line.currency.as_ref().is_some_and(|told| *told != listing.currency) {
        fields.refuse("currency", format!("is not the asset's currency, {}", listing.currency));
    }
    let Some(observed) = observed else {
        return Err(fields.rejection());
    };
    fields.finish()?;
    Ok(Observation {
        asset_id: listing.asset_id,
        source: source.to_owned(),
        currency: listing.currency.clone(),
        observed,
    })
}

/// A tick or a close: exactly one of `at` and `day`, not too far ahead.
fn check_time(fields: &mut Fields, line: &PriceLine, now: DateTime<Utc>) -> Option<Observed> {
    let PriceLine { price, volume, .. } = *line;
    match (line.at, line.day) {
        (Some(at), None) => {
            fields.take("at", dates::check_instant(at, now))?;
            Some(Observed::Tick(Tick { at: at.trunc_subsecs(INSTANT_DECIMALS), price, volume }))
        }
        (None, Some(day)) => {
            // The day has begun somewhere on earth, so that its close may have come.
            fields.take("day", dates::check_day(day, dates::latest_day(now)))?;
            Some(Observed::Close(Close { day, price, volume }))
        }
        (None, None) => {
            fields.refuse("at", "is missing: a tick has `at`, a close has `day`");
            None
        }
        (Some(_), Some(_)) => {
            fields.refuse("day", "excludes `at`: a tick has `at`, a close has `day`");
            None
        }
    }
}

/// Whether this may name a source: 1 to 50 small letters, digits or any of `. _ -`.
///
/// # Errors
/// A text for the client.
pub fn check_source(source: &str) -> Result<(), &'static str> {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if (1..=SOURCE_CHARS_MAX).contains(&source.len()) && source.bytes().all(valid) {
        Ok(())
    } else {
        Err("is not a source: 1 to 50 small letters, digits or any of . _ -")
    }
}

/// Groups a window of prices into events: one for each asset, source and kind, in the order in which they first
/// appear, with at most [`PRICES_PER_EVENT_MAX`] prices; what is beyond that begins another event.
pub fn group(window: &[Observation]) -> Vec<(AssetId, PriceEvent)> {
    let mut events: Vec<(AssetId, PriceEvent)> = Vec::new();
    let mut open: HashMap<(AssetId, &str, bool), usize> = HashMap::new();
    for observation in window {
        let is_tick = matches!(observation.observed, Observed::Tick(_));
        let key = (observation.asset_id, observation.source.as_str(), is_tick);
        let has_room = |i: &usize| events[*i].1.price_count() < PRICES_PER_EVENT_MAX;
        let index = open.get(&key).copied().filter(has_room).unwrap_or_else(|| {
            events.push((observation.asset_id, empty_event(observation)));
            events.len() - 1
        });
        open.insert(key, index);
        match (&mut events[index].1, &observation.observed) {
            (PriceEvent::PricesObserved(event), Observed::Tick(tick)) => event.ticks.push(tick.clone()),
            (PriceEvent::ClosesObserved(event), Observed::Close(close)) => event.closes.push(close.clone()),
            _ => {}
        }
    }
    events
}

fn empty_event(observation: &Observation) -> PriceEvent {
    let Observation { asset_id, source, currency, observed } = observation.clone();
    match observed {
        Observed::Tick(_) => {
            PriceEvent::PricesObserved(PricesObserved { asset_id, source, currency, ticks: Vec::new() })
        }
        Observed::Close(_) => {
            PriceEvent::ClosesObserved(ClosesObserved { asset_id, source, currency, closes: Vec::new() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::asset::{AssetClass, AssetEvent, AssetListed};
    use crate::domain::money::Rate;
    use uuid::Uuid;

    const NOW: &str = "2024-03-01T12:00:00Z";

    fn asset() -> Asset {
        let mut asset = Asset::initial();
        asset.evolve(&AssetEvent::AssetListed(AssetListed {
            asset_id: AssetId(Uuid::from_u128(1)),
            symbol: "AAPL".parse().unwrap(),
            name: "Apple".to_owned(),
            class: AssetClass::Equity,
            currency: Currency::usd(),
            quote_unit: Rate::ONE,
            isin: None,
            exchange: None,
        }));
        asset
    }

    fn tick(at: &str) -> PriceLine {
        let at = Some(at.parse().unwrap());
        PriceLine { price: "1".parse().unwrap(), at, day: None, source: None, volume: None, currency: None }
    }

    fn close(day: &str) -> PriceLine {
        PriceLine { at: None, day: Some(day.parse().unwrap()), ..tick(NOW) }
    }

    fn refused(line: &PriceLine) -> Vec<String> {
        match observe(Some(&asset()), line, NOW.parse().unwrap()) {
            Ok(_) => vec![],
            Err(Rejection::InvalidFields(errors)) => errors.into_iter().map(|e| e.field).collect(),
            Err(other) => panic!("{other:?} is not about fields"),
        }
    }

    #[test]
    fn a_price_is_a_tick_or_a_close_of_a_time_that_has_come() {
        assert_eq!(refused(&tick(NOW)), [""; 0]);
        assert_eq!(refused(&tick("2024-03-01T12:05:00Z")), [""; 0]);
        assert_eq!(refused(&tick("2024-03-01T12:05:01Z")), ["at"]);
        assert_eq!(refused(&tick("1899-12-31T00:00:00Z")), ["at"]);
        assert_eq!(refused(&close("2024-03-02")), [""; 0]);
        assert_eq!(refused(&close("2024-03-03")), ["day"]);
        assert_eq!(refused(&close("1899-12-31")), ["day"]);
        assert_eq!(refused(&PriceLine { at: None, ..tick(NOW) }), ["at"]);
        assert_eq!(refused(&PriceLine { day: close("2024-03-01").day, ..tick(NOW) }), ["day"]);
    }

    #[test]
    fn everything_wrong_with_a_price_is_told() {
        let line = PriceLine {
            price: Price::ZERO,
            source: Some("Big Bank".to_owned()),
            volume: Some("-1".parse().unwrap()),
            currency: Some("EUR".parse().unwrap()),
            ..tick(NOW)
        };
        assert_eq!(refused(&line), ["price", "volume", "source", "currency"]);
        let unknown = observe(None, &tick(NOW), NOW.parse().unwrap());
        assert_eq!(unknown, Err(Rejection::field("asset", "is unknown")));
    }

    #[test]
    fn an_instant_is_kept_to_the_microsecond() {
        let line = tick("2024-03-01T11:00:00.123456789Z");
        let observation = observe(Some(&asset()), &line, NOW.parse().unwrap()).unwrap();
        let Observed::Tick(tick) = observation.observed else { panic!("a tick") };
        assert_eq!(tick.at.to_rfc3339(), "2024-03-01T11:00:00.123456+00:00");
    }

    #[test]
    fn a_window_becomes_one_event_per_asset_source_and_kind() {
        let of = |asset: u128, source: &str, line: PriceLine| Observation {
            asset_id: AssetId(Uuid::from_u128(asset)),
            source: source.to_owned(),
            ..observe(Some(&self::asset()), &line, NOW.parse().unwrap()).unwrap()
        };
        let window = [
            of(2, "a", tick(NOW)),
            of(1, "a", tick(NOW)),
            of(2, "b", tick(NOW)),
            of(2, "a", close("2024-03-01")),
            of(2, "a", tick(NOW)),
        ];
        let events = group(&window);
        let shape: Vec<_> = events.iter().map(|(id, event)| (id.0.as_u128(), event.price_count())).collect();
        assert_eq!(shape, [(2, 2), (1, 1), (2, 1), (2, 1)]);
    }

    #[test]
    fn an_event_has_at_most_a_thousand_prices() {
        let one = observe(Some(&asset()), &tick(NOW), NOW.parse().unwrap()).unwrap();
        let events = group(&vec![one; 2_001]);
        let sizes: Vec<_> = events.iter().map(|(_, event)| event.price_count()).collect();
        assert_eq!(sizes, [1_000, 1_000, 1]);
    }
}
