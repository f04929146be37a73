//! How rows are answered: with the place they are of, and a tag by which a client that has them is not sent them again.
//!
//! The tag is over the rows and not over `as_of`, which moves on while the rows stay. Hence it is weak, and good for
//! `If-None-Match` only.
//!
//! Lists also say when the last event came that could have changed them (`Last-Modified`), for clients that only know dates.
//! A date has whole seconds, so it is the next one after the event, and is left out until that has come. Whoever wants to be
//! exact compares tags, which go before dates (RFC 9110, 13.1.3).

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::queries;

/// As in `Sun, 06 Nov 1994 08:49:37 GMT`.
const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// The place in the log that an answer is of: it holds everything up to there of what it is about.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AsOf {
    /// The history; another one begins when the log was restored.
    #[schema(example = 1)]
    epoch: i32,
    /// The position in it.
    #[schema(example = 901)]
    position: i64,
    /// When the log took the last event that is in the answer; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_at: Option<DateTime<Utc>>,
}

/// An answer as it is sent.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "written by `send`; here it is described")]
pub(super) struct Answered<T> {
    /// Which place of the log this is.
    as_of: AsOf,
    /// An event could not be applied: the rows stand before it until it is dealt with. Absent otherwise.
    #[schema(required = false)]
    parked: bool,
    #[serde(flatten)]
    rows: T,
}

/// Part of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// The rows.
    items: Vec<T>,
    /// What `after` takes to get the rows after these; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl<T> Page<T> {
    /// The page as clients see it.
    pub(super) fn of<R>(page: queries::Page<R>) -> Self
    where
        T: From<R>,
    {
        Self { items: page.items.into_iter().map(T::from).collect(), next: page.next }
    }
}

/// Rows as they are sent, with their tag.
pub(super) struct Rendered {
    rows: String,
    tag: String,
}

impl Rendered {
    /// Writes a document, an object with at least one field.
    pub(super) fn of(document: &impl Serialize) -> Self {
        let rows = serde_json::to_string(document).expect("rows are always JSON");
        let tag = tag(&rows);
        Self { rows, tag }
    }

    /// Sends the rows as of a moment, or 304 to a client that has them.
    pub(super) fn send(&self, request: &HeaderMap, as_of: queries::AsOf, parked: bool) -> Response {
        self.send_dated(request, as_of, parked, None)
    }

    /// How much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.rows.len() + self.tag.len()
    }

    /// The same with the date of [`last_modified`], if there is one: a client that has the rows may know them by that.
    pub(super) fn send_dated(
        &self,
        request: &HeaderMap,
        as_of: queries::AsOf,
        parked: bool,
        modified: Option<DateTime<Utc>>,
    ) -> Response {
        let mut response = self.tagged(request, as_of, parked, modified);
        if let Some(modified) = modified {
            let date = modified.format(HTTP_DATE).to_string();
            let date = HeaderValue::try_from(date).expect("a date is visible ASCII");
            response.headers_mut().insert(header::LAST_MODIFIED, date);
        }
        response
    }

    fn tagged(
        &self,
        request: &HeaderMap,
        as_of: queries::AsOf,
        parked: bool,
        modified: Option<DateTime<Utc>>,
    ) -> Response {
        let tagged =
            [(header::ETAG, HeaderValue::try_from(&self.tag).expect("hexadecimal digits in quotes"))];
        if has(request, &self.tag) || modified.is_some_and(|modified| has_since(request, modified)) {
            return (StatusCode::NOT_MODIFIED, tagged).into_response();
        }
        let queries::AsOf { epoch, position, recorded_at, changed_at: _ } = as_of;
        let as_of = AsOf { epoch: epoch.0, position: position.0, recorded_at };
        let as_of = serde_json::to_string(&as_of).expect("numbers and times are always JSON");
        let parked = if parked { r#""parked":true,"# } else { "" };
        // The inside of the rows goes on where this begins.
        let body = format!("{{\"as_of\":{as_of},{parked}{}", &self.rows[1..]);
        (tagged, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// Sends what `document` makes of the rows, or 304 to a client that has it.
pub(super) fn send<R, T: Serialize>(
    request: &HeaderMap,
    answer: queries::Answer<R>,
    document: impl FnOnce(R) -> T,
) -> Response {
    Rendered::of(&document(answer.data)).send(request, answer.as_of, answer.parked)
}

fn tag(rows: &str) -> String {
    let digest = Sha256::digest(rows);
    let first = u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
    format!("W/\"{first:016x}\"")
}

/// Weak comparison (RFC 9110, 8.8.3.2) with every tag of every `If-None-Match`.
fn has(request: &HeaderMap, tag: &str) -> bool {
    let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(',')).map(str::trim);
    known.any(|known| known == "*" || opaque(known) == opaque(tag))
}

/// Whether the client has what was last modified then, by its own account. A request with tags is judged by these alone.
fn has_since(request: &HeaderMap, modified: DateTime<Utc>) -> bool {
    if request.contains_key(header::IF_NONE_MATCH) {
        return false;
    }
    let since = request.get(header::IF_MODIFIED_SINCE).and_then(|date| date.to_str().ok());
    since.and_then(|date| DateTime::parse_from_rfc2822(date).ok()).is_some_and(|since| modified <= since)
}

/// The date of rows that have not changed since an instant: the next whole second; none while that lies ahead.
pub(super) fn last_modified(as_of: &queries::AsOf, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let at = as_of.changed_at?.duration_trunc(TimeDelta::seconds(1)).ok()?;
    Some(at + TimeDelta::seconds(1)).filter(|at| *at <= now)
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::ids::{Epoch, Position};

    fn send_to(known: Option<&str>, position: i64, rows: &[i64]) -> Response {
        let mut request = HeaderMap::new();
        if let Some(known) = known {
            request.insert(header::IF_NONE_MATCH, known.parse().unwrap());
        }
        let as_of = queries::AsOf {
            epoch: Epoch(1),
            position: Position(position),
            recorded_at: None,
            changed_at: None,
        };
        send(&request, queries::Answer { as_of, parked: false, data: rows }, |rows| json!({"items": rows}))
    }

    #[tokio::test]
    async fn a_client_that_has_the_rows_is_not_sent_them() {
        let first = send_to(None, 5, &[7, 9]);
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert!(tag.starts_with("W/\""), "{tag}");
        let body = axum::body::to_bytes(first.into_body(), 1_000).await.unwrap();
        assert_eq!(body, r#"{"as_of":{"epoch":1,"position":5},"items":[7,9]}"#);

        let status = |known: &str, position, rows| send_to(Some(known), position, rows).status();
        assert_eq!(status(&tag, 6, &[7, 9]), StatusCode::NOT_MODIFIED);
        assert_eq!(status(&format!("\"x\", {tag}"), 5, &[7, 9]), StatusCode::NOT_MODIFIED);
        assert_eq!(status("*", 5, &[7, 9]), StatusCode::NOT_MODIFIED);
        assert_eq!(status(&tag, 5, &[9, 7]), StatusCode::OK);
    }

    #[test]
    fn a_client_that_knows_only_dates_is_not_sent_what_has_not_changed() {
        let instant = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let changed = instant("2024-03-01T09:30:00.25Z");
        let as_of = queries::AsOf {
            epoch: Epoch(1),
            position: Position(5),
            recorded_at: None,
            changed_at: Some(changed),
        };
        // Something may still happen in that second.
        assert_eq!(last_modified(&as_of, instant("2024-03-01T09:30:00.9Z")), None);
        let modified = last_modified(&as_of, instant("2024-03-01T09:30:07Z"));
        assert_eq!(modified, Some(instant("2024-03-01T09:30:01Z")));

        let rendered = Rendered::of(&json!({"items": []}));
        let send = |headers: &[(header::HeaderName, &str)]| {
            let request =
                headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            rendered.send_dated(&request, as_of, false, modified)
        };
        let first = send(&[]);
        assert_eq!(first.headers()[header::LAST_MODIFIED], "Fri, 01 Mar 2024 09:30:01 GMT");
        let status = |date: &str| send(&[(header::IF_MODIFIED_SINCE, date)]).status();
        assert_eq!(status("Fri, 01 Mar 2024 09:30:01 GMT"), StatusCode::NOT_MODIFIED);
        assert_eq!(status("Fri, 01 Mar 2024 09:30:00 GMT"), StatusCode::OK);
        assert_eq!(status("yesterday"), StatusCode::OK);
        let with_tag =
            [(header::IF_NONE_MATCH, "\"x\""), (header::IF_MODIFIED_SINCE, "Fri, 01 Mar 2024 09:30:01 GMT")];
        assert_eq!(send(&with_tag).status(), StatusCode::OK);
    }
}
