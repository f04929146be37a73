//! Query parameters: read as strictly as bodies. An unknown or repeated parameter is a mistake that would otherwise go unseen.

use std::str::FromStr;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::de::value::{Error, MapDeserializer};

use super::fields::{Field, FieldValue};
use super::problem::{self, Problem};
use crate::domain::fields::Fields;
use crate::domain::ids::{Epoch, Position};
use crate::events::Event;
use crate::queries::LIMIT_MAX;

/// How long a read waits for `min_position` when nothing is said.
const WAIT_DEFAULT: Duration = Duration::from_millis(2_000);
/// The longest wait.
const WAIT_MAX_MS: u64 = 10_000;

/// The parameters of a request.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        type Pairs = axum::extract::Query<Vec<(String, String)>>;
        let Ok(axum::extract::Query(pairs)) = Pairs::try_from_uri(&parts.uri) else {
            return Err(Problem::field(problem::INVALID_FIELDS, "query", "cannot be read"));
        };
        let pairs = MapDeserializer::<_, Error>::new(pairs.into_iter());
        T::deserialize(pairs).map(Self).map_err(|error| unreadable(&error.to_string()))
    }
}

/// serde names unknown and repeated parameters in its message, between backticks.
fn unreadable(error: &str) -> Problem {
    let name = error.split('`').nth(1).unwrap_or("query");
    let reason = if error.starts_with("duplicate") { "is there twice" } else { "is unknown" };
    Problem::field(problem::INVALID_FIELDS, name, reason)
}

/// Rows of a page: 1 to 500.
pub struct Limit(pub u32);

impl FieldValue for Limit {
    const EXPECTED: &'static str = "a whole number from 1 to 500";
    fn from_text(text: &str) -> Result<Self, String> {
        whole_number(text).filter(|limit| (1..=LIMIT_MAX).contains(limit)).map(Self).ok_or_else(Self::refusal)
    }
}

/// Something to look for: 1 to 200 characters, none of them a control character.
pub struct SearchText(pub String);

impl FieldValue for SearchText {
    const EXPECTED: &'static str = "1 to 200 characters";
    fn from_text(text: &str) -> Result<Self, String> {
        let is_text = (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        is_text.then(|| Self(text.to_owned())).ok_or_else(Self::refusal)
    }
}

/// A statistic to compare with: a finite number.
pub struct Statistic(pub f64);

impl FieldValue for Statistic {
    const EXPECTED: &'static str = "a number such as \"1.5\"";
    fn from_text(text: &str) -> Result<Self, String> {
        // Rust also reads `inf` and `NaN`, and numbers that are no longer told from infinity.
        let is_number = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        let number = is_number.then(|| text.parse::<f64>().ok()).flatten();
        number.filter(|number| number.is_finite()).map(Self).ok_or_else(Self::refusal)
    }
}

/// Milliseconds to wait: 0 to 10,000.
pub struct WaitMs(u64);

impl FieldValue for WaitMs {
    const EXPECTED: &'static str = "a whole number from 0 to 10000";
    fn from_text(text: &str) -> Result<Self, String> {
        whole_number(text).filter(|wait| *wait <= WAIT_MAX_MS).map(Self).ok_or_else(Self::refusal)
    }
}

/// A place in the log, `epoch:position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The history.
    pub epoch: Epoch,
    /// The position in it.
    pub position: Position,
}

impl FieldValue for Place {
    const EXPECTED: &'static str = "a place such as \"1:901\"";
    fn from_text(text: &str) -> Result<Self, String> {
        let place = text.split_once(':').and_then(|(epoch, position)| {
            Some(Self { epoch: Epoch(whole_number(epoch)?), position: Position(whole_number(position)?) })
        });
        place.ok_or_else(Self::refusal)
    }
}

/// A place in the log to go on from: `epoch:position`, or a position of the history as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Since {
    /// The history; none for the one that is going on.
    pub epoch: Option<Epoch>,
    /// The position in it; 0 is before the first event.
    pub position: Position,
}

impl Since {
    /// Reads one.
    pub fn read(text: &str) -> Option<Self> {
        let Ok(Place { epoch, position }) = Place::from_text(text) else {
            return Some(Self { epoch: None, position: Position(whole_number(text)?) });
        };
        Some(Self { epoch: Some(epoch), position })
    }
}

impl FieldValue for Since {
    const EXPECTED: &'static str = "a place such as \"1:901\", or a position";
    fn from_text(text: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(Self::refusal)
    }
}

/// The name of a type of event.
pub struct EventType(pub &'static str);

impl FieldValue for EventType {
    const EXPECTED: &'static str = "a type of event that this program knows, such as \"AssetBought\"";
    fn from_text(text: &str) -> Result<Self, String> {
        let known = Event::KINDS.iter().find(|kind| kind.event_type == text);
        known.map(|kind| Self(kind.event_type)).ok_or_else(Self::refusal)
    }
}

/// Digits only: no sign, no spaces.
pub fn whole_number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// What a read must have seen, and how long it may wait for it.
#[derive(Debug, Clone, Copy)]
pub struct Freshness {
    /// Nothing, or a place.
    pub min_position: Option<Place>,
    /// At most this long.
    pub max_wait: Duration,
}

impl Freshness {
    /// From its two parameters.
    pub fn read(min_position: Field<Place>, max_wait_ms: Field<WaitMs>, fields: &mut Fields) -> Self {
        let max_wait = max_wait_ms.optional("max_wait_ms", fields);
        Self {
            min_position: min_position.optional("min_position", fields),
            max_wait: max_wait.map_or(WAIT_DEFAULT, |WaitMs(wait)| Duration::from_millis(wait)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Parameters {
        limit: Field<Limit>,
        min_position: Field<Place>,
        max_wait_ms: Field<WaitMs>,
    }

    /// The limit and freshness of a query, or the fields that it is refused for.
    async fn read(query: &str) -> Result<(Option<u32>, Freshness), String> {
        let request = axum::http::Request::get(format!("/?{query}")).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        let parameters = Query::<Parameters>::from_request_parts(&mut parts, &()).await;
        let Query(Parameters { limit, min_position, max_wait_ms }) =
            parameters.map_err(|problem| problem.detail().to_owned())?;
        let mut fields = Fields::new();
        let limit = limit.optional("limit", &mut fields).map(|Limit(limit)| limit);
        let freshness = Freshness::read(min_position, max_wait_ms, &mut fields);
        fields.finish().map_err(|rejection| rejection.to_string())?;
        Ok((limit, freshness))
    }

    #[tokio::test]
    async fn parameters_are_read_strictly() {
        let (limit, freshness) = read("").await.unwrap();
        assert_eq!((limit, freshness.min_position, freshness.max_wait), (None, None, WAIT_DEFAULT));
        let (limit, freshness) = read("limit=500&min_position=1%3A901&max_wait_ms=0").await.unwrap();
        assert_eq!((limit, freshness.max_wait), (Some(500), Duration::ZERO));
        assert_eq!(freshness.min_position, Some(Place { epoch: Epoch(1), position: Position(901) }));

        for limit in ["0", "501", "-1", "+1", "1.0", "", "99999999999"] {
            let refused = read(&format!("limit={limit}")).await.unwrap_err();
            assert_eq!(refused, "limit must be a whole number from 1 to 500", "{limit}");
        }
        for place in ["901", "1:", ":1", "1:-1", "a:b", "1:99999999999999999999"] {
            assert!(
                read(&format!("min_position={place}")).await.unwrap_err().starts_with("min_position must")
            );
        }
        assert_eq!(read("colour=red").await.unwrap_err(), "colour is unknown");
        assert_eq!(read("limit=1&limit=2").await.unwrap_err(), "limit is there twice");
        let both = read("limit=x&max_wait_ms=10001").await.unwrap_err();
        assert!(both.contains("limit must") && both.contains("max_wait_ms must"), "{both}");
    }
}
