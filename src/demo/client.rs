//! The demo's side of HTTP: a client as anyone could write it.
//!
//! Every command carries an `Idempotency-Key`, so whatever became of a request, sending it again is safe: that is what happens
//! after a 429, a 503 or a broken connection, until the patience ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::{HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

/// How long a request is sent again before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Why the demo could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server said no; its problem document says why.
    #[error("{request} was refused with {status}:\n{problem}")]
    Refused {
        /// Method and path.
        request: String,
        /// The status.
        status: StatusCode,
        /// The stable type of the problem document, or nothing.
        problem_type: String,
        /// The version that a stale one is told.
        current_version: Option<i64>,
        /// The problem document, indented.
        problem: String,
    },
    /// No answer for as long as was worth waiting.
    #[error("{request} got no answer for {} s", PATIENCE.as_secs())]
    Unreachable {
        /// Method and path.
        request: String,
        /// What went wrong last.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is not what the API's description promises.
    #[error("the answer to {request} cannot be read: {reason}")]
    Unreadable {
        /// Method and path.
        request: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The client itself cannot be built.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// Speaks with one server.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base_url: String,
    sent_again: Arc<AtomicUsize>,
}

/// What a command is answered with, as far as the demo needs it.
#[derive(Debug, Deserialize)]
pub struct Accepted {
    /// Of what it created or changed.
    pub id: String,
    /// Of the stream it changed, after it.
    pub version: i64,
    /// Where it stands in the log: what `min_position` takes.
    pub place: Place,
}

/// A place in the log, `epoch:position`; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Place {
    /// The history.
    pub epoch: i32,
    /// The place in it.
    pub position: i64,
}

impl TryFrom<String> for Place {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(epoch, position)| {
            Some(Self { epoch: epoch.parse().ok()?, position: position.parse().ok()? })
        });
        parts.ok_or_else(|| format!("{text:?} is not a place such as 1:901"))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.epoch, self.position)
    }
}

impl Client {
    /// A client of the server at `base_url`, for example `http://127.0.0.1:8080`.
    pub fn new(base_url: &str) -> Result<Self, Error> {
        // The server is on this machine: whatever proxy the environment names is not the way to it.
        let http = reqwest::Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build();
        let (http, base_url) = (http.map_err(Error::Client)?, base_url.trim_end_matches('/').into());
        Ok(Self { http, base_url, sent_again: Arc::default() })
    }

    /// Requests that were sent again because the server was busy or away.
    pub fn sent_again(&self) -> usize {
        self.sent_again.load(Ordering::Relaxed)
    }

    /// Sends a JSON body under an idempotency key.
    pub async fn post<A: DeserializeOwned>(&self, path: &str, key: &str, body: String) -> Result<A, Error> {
        let body = Body { key, content_type: "application/json", if_match: None, text: body };
        self.send(Method::POST, path, Some(body)).await
    }

    /// The same, only if what it changes still has this version.
    pub async fn post_at_version<A: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        version: i64,
        body: String,
    ) -> Result<A, Error> {
        let if_match = Some(format!("\"{version}\""));
        let body = Body { key, content_type: "application/json", if_match, text: body };
        self.send(Method::POST, path, Some(body)).await
    }

    /// Sends lines of JSON under an idempotency key.
    pub async fn post_lines<A: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        lines: String,
    ) -> Result<A, Error> {
        let body = Body { key, content_type: "application/x-ndjson", if_match: None, text: lines };
        self.send(Method::POST, path, Some(body)).await
    }

    /// Asks.
    pub async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, Error> {
        self.send(Method::GET, path, None).await
    }

    async fn send<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Body<'_>>,
    ) -> Result<A, Error> {
        let name = format!("{method} {path}");
        let give_up_at = Instant::now() + PATIENCE;
        let mut pause = PAUSE_MIN;
        loop {
            let mut request = self.http.request(method.clone(), format!("{}{path}", self.base_url));
            if let Some(body) = &body {
                let content_type = HeaderValue::from_static(body.content_type);
                request = request.header("idempotency-key", body.key).header("content-type", content_type);
                if let Some(version) = &body.if_match {
                    request = request.header("if-match", version);
                }
                request = request.body(body.text.clone());
            }
            let is_last = Instant::now() >= give_up_at;
            match request.send().await {
                Ok(response) if !is_last && asks_to_wait(&response) => {
                    sleep(retry_after(&response).unwrap_or(pause)).await;
                }
                Ok(response) => return read(name, response).await,
                Err(source) if is_last => return Err(Error::Unreachable { request: name, source }),
                Err(_) => sleep(pause).await,
            }
            self.sent_again.fetch_add(1, Ordering::Relaxed);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// What a command sends.
struct Body<'a> {
    key: &'a str,
    content_type: &'static str,
    if_match: Option<String>,
    text: String,
}

/// Overloaded, restarting, or the read models are not yet where the question wants them.
fn asks_to_wait(response: &Response) -> bool {
    const LATER: [StatusCode; 3] =
        [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    LATER.contains(&response.status())
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(PAUSE_MAX))
}

async fn read<A: DeserializeOwned>(request: String, response: Response) -> Result<A, Error> {
    let status = response.status();
    let body = match response.bytes().await {
        Ok(body) => body,
        Err(source) => return Err(Error::Unreachable { request, source }),
    };
    if !status.is_success() {
        return Err(refused(request, status, &body));
    }
    serde_json::from_slice(&body).map_err(|error| Error::Unreadable { request, reason: error.to_string() })
}

fn refused(request: String, status: StatusCode, body: &[u8]) -> Error {
    let Ok(problem) = serde_json::from_slice::<serde_json::Value>(body) else {
        let problem = String::from_utf8_lossy(body).into_owned();
        return Error::Refused {
            request,
            status,
            problem_type: String::new(),
            current_version: None,
            problem,
        };
    };
    let problem_type = problem["type"].as_str().unwrap_or_default().to_owned();
    let current_version = problem["current_version"].as_i64();
    Error::Refused { request, status, problem_type, current_version, problem: format!("{problem:#}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_compared_and_written() {
        let place = |text: &str| Place::try_from(text.to_owned());
        assert!(place("1:901").unwrap() < place("1:1000").unwrap());
        assert!(place("1:901").unwrap() < place("2:5").unwrap());
        assert_eq!(place("1:901").unwrap().to_string(), "1:901");
        assert!(place("901").is_err());
    }

    #[test]
    fn a_refusal_prints_the_problem_document() {
        let body = br#"{"type":"/problems/insufficient_cash","detail":"on 2000-01-03 only 5 USD would be available"}"#;
        let error = refused("POST /v1/portfolios/1/buy".into(), StatusCode::CONFLICT, body);
        let text = error.to_string();
        assert!(text.starts_with("POST /v1/portfolios/1/buy was refused with 409 Conflict:\n{"), "{text}");
        assert!(text.contains("only 5 USD"));
    }
}
