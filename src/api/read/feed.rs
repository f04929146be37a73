//! The public feed: the whole log for other systems, page by page or as server-sent events.
//!
//! Both give every event once and in order to whoever goes on from the place they were given (`next`, the `id` of an event).
//! A stream of events is pulled by the connection: what a client has not taken is not read for it, and one that takes
//! nothing any more is cut off by the server's sockets. Streams end with the process, and there are only so many of them.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use futures::stream;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::answer::{Answered, send};
use super::failed;
use crate::api::Api;
use crate::api::answer::place;
use crate::api::fields::Field;
use crate::api::openapi::FindProblems;
use crate::api::problem::{self, Problem};
use crate::api::query::{EventType, Limit, Query, SearchText, Since};
use crate::domain::fields::Fields;
use crate::domain::ids::{Epoch, Position, StreamId};
use crate::events::CloudEvent;
use crate::queries::log::feed::{Fed, FeedPage, Filter, PageSize, page};
use crate::queries::log::tail::Follower;
use crate::queries::{Answer, LIMIT_DEFAULT};

/// A connection on which nothing happens for so long says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long a client should wait before it connects again, in the words of the protocol.
const BEGINNING: &str = "retry: 1000\n\n";
const EVENT_STREAM: &str = "text/event-stream";

/// Which part of the log.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Events after this place: `next` of the page before, such as `1:901`, or a bare position. From the first event if
    /// not told. `Last-Event-ID` goes before it.
    #[param(value_type = Option<String>, example = "1:901")]
    after: Field<Since>,
    /// Events of a page: 1 to 500; 50 if not told. A stream of events has no limit.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Field<Limit>,
    /// Events of this type only.
    #[param(value_type = Option<String>, example = "AssetBought")]
    r#type: Field<EventType>,
    /// Events of this stream only.
    #[param(value_type = Option<String>, example = "portfolio-019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90")]
    stream: Field<SearchText>,
}

/// Headers of the feed.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only its description is used")]
pub(crate) struct FeedHeaders {
    /// `text/event-stream` for server-sent events: `id` is the place to go on from, `event` the type, `data` the event.
    #[param(rename = "Accept", required = false)]
    accept: String,
    /// The `id` of the last event that a client of server-sent events has seen: it goes on after it.
    #[param(rename = "Last-Event-ID", required = false, example = "1:901")]
    last_event_id: String,
    /// The `ETag` of an answer that the client has: if the rows are the same, the answer is 304.
    #[param(rename = "If-None-Match", required = false)]
    if_none_match: String,
}

/// A part of the log.
#[derive(Serialize, ToSchema)]
pub(crate) struct Events {
    /// The events, in the order of the log.
    #[schema(value_type = Vec<Described>)]
    items: Vec<Box<RawValue>>,
    /// The place to go on from. The log ends here when it is that of `as_of`; otherwise there is more, also after a
    /// page without events.
    #[schema(example = "1:901")]
    next: String,
}

/// An event of the log, as CloudEvents 1.0 in JSON.
#[derive(ToSchema)]
#[schema(as = CloudEvent)]
#[allow(dead_code, reason = "written by `CloudEvent`; here it is described")]
struct Described {
    #[schema(example = "1.0")]
    specversion: String,
    /// The event's name, the same in every copy of it.
    #[schema(example = "0f8e4c1a-3d5b-5c2e-9f7a-6b1d2c3e4f50.0")]
    id: String,
    #[schema(example = "/portfolio-insight/log")]
    source: String,
    /// What happened.
    #[schema(example = "AssetBought")]
    r#type: String,
    /// The stream.
    #[schema(example = "portfolio-019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90")]
    subject: String,
    /// When it happened.
    time: DateTime<Utc>,
    #[schema(example = "application/json")]
    datacontenttype: String,
    /// The history of the log.
    #[schema(example = 1)]
    epoch: i32,
    /// Its place in the log: 1, 2, 3, … without a hole.
    #[schema(example = "901")]
    position: String,
    /// Its place in the stream: 1, 2, 3, …
    #[schema(example = "7")]
    version: String,
    /// The version of the shape of `data`.
    #[schema(example = 1)]
    schemaversion: i16,
    /// When the log took it.
    recordedtime: DateTime<Utc>,
    /// Joins everything that one request caused.
    correlationid: Uuid,
    /// Position of the event that caused it, if one did.
    #[schema(required = false)]
    causationposition: String,
    /// Who sent the command: an opaque id.
    #[schema(example = "local")]
    actor: String,
    /// The fact.
    #[schema(value_type = Object)]
    data: serde_json::Value,
}

/// Follow the log
///
/// Every event of the installation, in order, without a gap: for systems that want to know what happened. Go on from `next`;
/// while it is not the place of `as_of`, there is more. With `Accept: text/event-stream` the same as server-sent events that
/// go on as the log grows, and `Last-Event-ID` resumes. The log holds no personal data.
#[utoipa::path(get, path = "/v1/events", tag = "log", operation_id = "followLog",
    params(Wanted, FeedHeaders),
    responses((status = 200, description = "A page, or a stream of events", content(
        (Answered<Events> = "application/json"), (String = "text/event-stream"))), FindProblems))]
pub(crate) async fn follow(
    State(api): State<Arc<Api>>,
    Query(wanted): Query<Wanted>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut fields = Fields::new();
    let after = wanted.after.optional("after", &mut fields);
    let limit = wanted.limit.optional("limit", &mut fields).map_or(LIMIT_DEFAULT, |Limit(limit)| limit);
    let event_type = wanted.r#type.optional("type", &mut fields).map(|EventType(name)| name.to_owned());
    let stream = wanted.stream.optional("stream", &mut fields);
    fields.finish()?;
    let filter = Filter { event_type, stream: stream.map(|SearchText(name)| StreamId::from(name.as_str())) };
    let is_stream = accepts_events(&request);
    let after = match last_event_id(&request)?.filter(|_| is_stream) {
        Some(after) => after,
        None => after.unwrap_or_default(),
    };
    // A stream begins with a question, too: the place must be one of this history, and there must be such a stream.
    let size = PageSize::of(if is_stream { 1 } else { limit as usize });
    let found = match page(&api.pool, after.epoch, after.position, size, &filter).await.map_err(failed)? {
        Fed::Page(found) => found,
        Fed::Elsewhere => return Err(elsewhere(&after)),
        Fed::NoStream => return Err(Problem::not_found("stream")),
    };
    if is_stream {
        return streamed(&api, after.position, filter);
    }
    let answer = Answer { as_of: found.as_of, parked: false, data: found };
    Ok(send(&request, answer, |found| Events {
        items: found.events.iter().map(|event| raw(&CloudEvent::from(event))).collect(),
        next: place(found.next.0, found.next.1),
    }))
}

fn raw(event: &CloudEvent<'_>) -> Box<RawValue> {
    RawValue::from_string(event.line()).expect("a line of JSON is JSON")
}

fn elsewhere(after: &Since) -> Problem {
    let named = match after.epoch {
        Some(epoch) => place(epoch, after.position),
        None => after.position.to_string(),
    };
    Problem::new(problem::DEAD_EPOCH, format!("{named} is a place of another history than this log's"))
}

fn accepts_events(request: &HeaderMap) -> bool {
    let accepted = request.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|range| range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(EVENT_STREAM))
}

fn last_event_id(request: &HeaderMap) -> Result<Option<Since>, Problem> {
    const NAME: &str = "Last-Event-ID";
    // A browser that has seen no event yet sends none, or an empty one.
    let Some(value) = request.get(NAME).filter(|value| !value.is_empty()) else { return Ok(None) };
    let place = value.to_str().ok().and_then(Since::read).filter(|since| since.epoch.is_some());
    let refused =
        || Problem::field(problem::MALFORMED_HEADER, NAME, "must be the id of an event, such as 1:901");
    place.map(Some).ok_or_else(refused)
}

/// A connection that follows the log.
struct Connection {
    follower: Follower,
    stop: CancellationToken,
    /// Given back when the connection ends.
    _permit: OwnedSemaphorePermit,
    said: Instant,
    begun: bool,
    /// Where the client would go on from, if that is news to it.
    untold: Option<(Epoch, Position)>,
}

fn streamed(api: &Api, after: Position, filter: Filter) -> Result<Response, Problem> {
    let permit = Arc::clone(&api.event_streams).try_acquire_owned();
    let permit = permit.map_err(|_| Problem::busy("as many clients follow the log as may at once", 5))?;
    let connection = Connection {
        follower: api.tail.follow(after, filter),
        stop: api.stop.clone(),
        _permit: permit,
        said: Instant::now(),
        begun: false,
        untold: None,
    };
    let body = stream::unfold(connection, |mut connection| async {
        let said = connection.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(said)), connection))
    });
    let headers = [(header::CONTENT_TYPE, EVENT_STREAM), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(body)).into_response())
}

impl Connection {
    /// What is said next; nothing more at the end of the process, or where the log cannot be followed: the client comes
    /// back and learns why.
    async fn next(&mut self) -> Option<String> {
        if !self.begun {
            self.begun = true;
            return Some(BEGINNING.to_owned());
        }
        loop {
            let found = tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                found = self.follower.next() => found,
                () = tokio::time::sleep_until(self.said + KEEP_ALIVE) => return Some(self.keep_alive()),
            };
            match found {
                Ok(page) if page.events.is_empty() => {
                    self.untold = Some(page.next);
                    if self.said.elapsed() >= KEEP_ALIVE {
                        return Some(self.keep_alive());
                    }
                }
                Ok(page) => {
                    self.untold = None;
                    self.said = Instant::now();
                    return Some(events(&page));
                }
                Err(error) => {
                    tracing::info!(%error, "a client cannot follow the log any more");
                    return None;
                }
            }
        }
    }

    /// A comment, or the place that the client has been led to past events that it did not want.
    fn keep_alive(&mut self) -> String {
        self.said = Instant::now();
        match self.untold.take() {
            Some((epoch, position)) => format!("id: {}\n\n", place(epoch, position)),
            None => ": keep-alive\n\n".to_owned(),
        }
    }
}

fn events(page: &FeedPage<Arc<crate::events::Envelope>>) -> String {
    let mut text = String::new();
    for event in &page.events {
        let id = place(event.epoch, event.position);
        let line = CloudEvent::from(&**event).line();
        write!(text, "id: {id}\nevent: {}\ndata: {line}\n\n", event.event_type).expect("memory takes text");
    }
    text
}
