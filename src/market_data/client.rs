//! How a source is asked over the network: the only place here that waits for anybody.
//!
//! | step | bound |
//! | --- | --- |
//! | a place among those who ask at once, a moment that the pace allows, a breaker that is closed | the time of the fetch |
//! | connect, each piece of the answer, the attempt as a whole | a time of its own each |
//! | all attempts of a request, with their pauses | a time that also ends the last of them |
//! | the body | bytes |
//! | failed: connection, time, 5xx, 429 | again, after a pause of full jitter or what `Retry-After` asks for, if that is not too long |
//! | failed: anything else | refused at once |
//!
//! The place among those who ask at once goes with the body until that is read: so many bodies are in memory at most.
//!
//! A redirect is followed on the same server only. No error repeats an address: there may be a key in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{StatusCode, Version, redirect};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::breaker::{Breaker, Closed, Turn};
use super::pace::Pace;
use super::settings::Asking;
use super::url;
use crate::clock::Clock;
use crate::retry::{Backoff, retry_after};

/// Questions whose last answer is recognised.
const REMEMBERED_MAX: usize = 20_000;
/// A pause that a source asks for is believed up to a day.
const PAUSE_LONGEST: Duration = Duration::from_secs(86_400);
/// How long nobody asks a source that has said that its limit is reached, without saying for how long.
const LIMIT_PAUSE: Duration = Duration::from_secs(60);
/// Redirects on the same server that are followed.
const REDIRECTS_MAX: usize = 3;

/// Asks one source.
pub struct Client {
    http: reqwest::Client,
    asking: Asking,
    clock: Clock,
    is_limit: fn(&[u8]) -> bool,
    slots: Arc<Semaphore>,
    pace: Mutex<Pace>,
    breaker: Mutex<Breaker>,
    remembered: Mutex<Remembered>,
}

/// What a question is known by: everything that decides what is taken from its answer.
pub type Key = [u8; 32];

#[derive(Default)]
struct Remembered(HashMap<Key, Validators>);

impl Remembered {
    /// Keeps the latest. When there is no room, all are forgotten: that costs an answer each, once.
    fn keep(&mut self, key: Key, validators: Validators) {
        if validators == Validators::default() {
            self.0.remove(&key);
            return;
        }
        if self.0.len() >= REMEMBERED_MAX && !self.0.contains_key(&key) {
            self.0.clear();
        }
        self.0.insert(key, validators);
    }
}

/// What an answer is recognised by when it is asked for again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

/// What came.
pub enum Answer {
    /// A body.
    Body(Body),
    /// What came the last time.
    NotModified,
}

/// What is told of an answer that says so.
const LIMIT: &str = "says that its limit of requests is reached, or that the key is not good for this";

/// What a source has said.
#[derive(Default)]
pub struct Body {
    /// It.
    pub bytes: Vec<u8>,
    /// Nobody has told where it ends: it was read until the connection was closed, and may be half of what was meant.
    pub is_unframed: bool,
    /// What to remember it by once all of it is taken.
    pub validators: Validators,
    /// The place among those who ask: somebody else's once this is gone.
    _place: Option<OwnedSemaphorePermit>,
}

/// What became of one attempt.
enum Attempt {
    Answered(Answer),
    Refused(String),
    Failed { reason: String, after: Option<Duration>, is_fault: bool },
}

impl Client {
    /// One that asks as told. `is_limit` recognises a body that says that the limit of requests is reached.
    ///
    /// # Errors
    /// The system has no certificates, or something else that TLS needs.
    pub fn open(asking: &Asking, is_limit: fn(&[u8]) -> bool, clock: Clock) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .user_agent(&asking.user_agent)
            .connect_timeout(asking.connect)
            .read_timeout(asking.read)
            .pool_max_idle_per_host(asking.concurrency as usize)
            .referer(false)
            .redirect(redirect::Policy::custom(|attempt| {
                let is_here =
                    attempt.previous().iter().all(|before| before.origin() == attempt.url().origin());
                if is_here && attempt.previous().len() <= REDIRECTS_MAX {
                    attempt.follow()
                } else {
                    attempt.stop()
                }
            }))
            .build()?;
        let now = Instant::now();
        Ok(Self {
            http,
            clock,
            is_limit,
            slots: Arc::new(Semaphore::new(asking.concurrency as usize)),
            pace: Mutex::new(Pace::new(asking.requests_per_minute, asking.concurrency, now)),
            breaker: Mutex::new(Breaker::new(asking.failures_max, asking.rest)),
            remembered: Mutex::default(),
            asking: asking.clone(),
        })
    }

    /// Asks until there is an answer, for as long as is worth it and at most until the deadline. Dropping it is safe. An
    /// answer is recognised by the key of the question; without one it comes as a whole.
    ///
    /// # Errors
    /// Why there is none, in words that follow the name of the source.
    pub async fn get(
        &self,
        url: &str,
        key: Option<&Key>,
        deadline: Instant,
        retried: &AtomicU64,
    ) -> Result<Answer, String> {
        let asked = timeout_at(deadline, async {
            let place = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| "is closed".to_owned())?;
            Ok(match self.ask_until_answered(url, key, retried).await? {
                Answer::Body(body) => Answer::Body(Body { _place: Some(place), ..body }),
                Answer::NotModified => Answer::NotModified,
            })
        });
        asked.await.unwrap_or_else(|_| {
            Err("was not asked in time: the fetch has taken as long as it may".to_owned())
        })
    }

    /// Remembers an answer that was taken as a whole.
    pub fn remember(&self, key: Key, validators: Validators) {
        lock(&self.remembered).keep(key, validators);
    }

    async fn ask_until_answered(
        &self,
        url: &str,
        key: Option<&Key>,
        retried: &AtomicU64,
    ) -> Result<Answer, String> {
        let mut pauses = Backoff::full_jitter(self.asking.pause_first, self.asking.pause_max);
        // Waiting for others is not this request's fault: its time begins when it is asked first.
        let mut turn = self.admitted().await?;
        let give_up_at = Instant::now() + self.asking.within;
        for nth in 1.. {
            let probe = Probe(&self.breaker, turn);
            let ends_at = give_up_at.min(Instant::now() + self.asking.attempt);
            let attempt = timeout_at(ends_at, self.attempt(url, key)).await;
            std::mem::forget(probe);
            let attempt = attempt.unwrap_or_else(|_| Attempt::failed("did not answer in time"));
            let (reason, after) = match attempt {
                Attempt::Answered(answer) => {
                    lock(&self.breaker).answered();
                    return Ok(answer);
                }
                Attempt::Refused(reason) => {
                    lock(&self.breaker).answered();
                    return Err(reason);
                }
                Attempt::Failed { reason, after, is_fault } => {
                    let mut breaker = lock(&self.breaker);
                    if is_fault {
                        breaker.failed(turn, Instant::now())
                    } else {
                        breaker.answered()
                    }
                    (reason, after)
                }
            };
            if let Some(after) = after {
                lock(&self.pace).pause_until(Instant::now() + after.min(PAUSE_LONGEST));
                if after > self.asking.pause_max {
                    return Err(format!("{reason} and asks to come back in {} s", after.as_secs()));
                }
            }
            let pause = pause(after, pauses.next_pause());
            let again_at = Instant::now() + pause;
            let times = if nth == 1 { "once".to_owned() } else { format!("{nth} times") };
            let reason = format!("{reason} (asked {times})");
            if nth == self.asking.attempts || again_at >= give_up_at {
                return Err(reason);
            }
            tracing::debug!(server = url::origin(url), reason, attempt = nth, ?pause, "asking again");
            retried.fetch_add(1, Ordering::Relaxed);
            sleep_until(again_at).await;
            turn = timeout_at(give_up_at, self.admitted()).await.unwrap_or(Err(reason))?;
        }
        Err("was not asked".to_owned())
    }

    /// Waits until it may be asked.
    async fn admitted(&self) -> Result<Turn, String> {
        loop {
            self.paused()?;
            // A moment of the pace is for asking: who would be sent away takes none.
            let closed = lock(&self.breaker).closed(Instant::now());
            let admitted = match closed {
                Some(closed) => Err(closed),
                None => {
                    self.paced().await?;
                    lock(&self.breaker).admit(Instant::now())
                }
            };
            match admitted {
                Ok(turn) => return Ok(turn),
                Err(Closed::For(wait)) => sleep_until(Instant::now() + wait).await,
                Err(Closed::Away) => {
                    return Err("is away: it has failed again and again, and is left alone".to_owned());
                }
            }
        }
    }

    /// Waits for a moment that the pace allows. A pause that the source wishes meanwhile holds for who waits as well.
    async fn paced(&self) -> Result<(), String> {
        let mut at = lock(&self.pace).take(Instant::now());
        loop {
            sleep_until(at).await;
            let paused = self.paused()?;
            if paused.is_zero() {
                return Ok(());
            }
            at = Instant::now() + paused;
        }
    }

    /// How long nobody may ask.
    fn paused(&self) -> Result<Duration, String> {
        let paused = lock(&self.pace).paused_for(Instant::now());
        if paused > self.asking.pause_max {
            return Err(format!("asks not to be asked for another {} s", paused.as_secs() + 1));
        }
        Ok(paused)
    }

    async fn attempt(&self, url: &str, key: Option<&Key>) -> Attempt {
        let known = key.and_then(|key| lock(&self.remembered).0.get(key).cloned()).unwrap_or_default();
        let is_known = known != Validators::default();
        let mut request = self.http.get(url);
        if let Some(etag) = known.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(modified) = known.modified {
            request = request.header(header::IF_MODIFIED_SINCE, modified);
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Attempt::failed(broken(&error)),
        };
        let status = response.status();
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if is_known => return Attempt::Answered(Answer::NotModified),
            _ => return declined(status, response.headers(), self.clock.now()),
        }
        let too_large =
            || Attempt::Refused(format!("answers with more than {} bytes", self.asking.body_bytes_max));
        if response.content_length().is_some_and(|length| length > self.asking.body_bytes_max) {
            return too_large();
        }
        let validators = Validators {
            etag: response.headers().get(header::ETAG).cloned(),
            modified: response.headers().get(header::LAST_MODIFIED).cloned(),
        };
        let is_framed = response.content_length().is_some()
            || response.headers().contains_key(header::TRANSFER_ENCODING)
            || response.version() == Version::HTTP_2;
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => break,
                Ok(Some(chunk)) if (bytes.len() + chunk.len()) as u64 > self.asking.body_bytes_max => {
                    return too_large();
                }
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Err(error) => return Attempt::failed(broken(&error)),
            }
        }
        if (self.is_limit)(&bytes) {
            lock(&self.pace).pause_until(Instant::now() + LIMIT_PAUSE);
            return Attempt::Refused(LIMIT.to_owned());
        }
        Attempt::Answered(Answer::Body(Body { bytes, is_unframed: !is_framed, validators, _place: None }))
    }
}

impl Attempt {
    fn failed(reason: &str) -> Self {
        Self::Failed { reason: reason.to_owned(), after: None, is_fault: true }
    }
}

/// Lets the next one ask when whoever was to find out has gone away without an answer.
struct Probe<'a>(&'a Mutex<Breaker>, Turn);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        lock(self.0).given_up(self.1);
    }
}

/// A status that is no success.
fn declined(status: StatusCode, headers: &HeaderMap, now: DateTime<Utc>) -> Attempt {
    let after = headers.get(header::RETRY_AFTER).and_then(|after| retry_after(after.to_str().ok()?, now));
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Attempt::Failed { reason: "is asked too often (429)".to_owned(), after, is_fault: false };
    }
    if status.is_server_error() {
        return Attempt::Failed { reason: format!("answers {}", status.as_u16()), after, is_fault: true };
    }
    if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
        let to = headers.get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
        let is_here = to.starts_with('/') && !to.starts_with("//");
        let to = if is_here { "itself, again and again" } else { url::origin(to.trim_start_matches('/')) };
        return Attempt::Refused(format!(
            "sends us elsewhere ({}), to {}",
            status.as_u16(),
            super::seen::part(to)
        ));
    }
    Attempt::Refused(match status {
        StatusCode::NOT_FOUND => "knows no such symbol (404)".to_owned(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            format!("does not let us in ({})", status.as_u16())
        }
        _ => format!("answers {}", status.as_u16()),
    })
}

/// What happened to a connection. The error itself names the address.
fn broken(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "did not answer in time"
    } else if error.is_connect() && is_about_certificates(error) {
        "has a certificate that is not trusted"
    } else if error.is_connect() {
        "cannot be reached"
    } else if error.is_body() || error.is_decode() {
        "breaks off in the middle of its answer"
    } else {
        "breaks the connection"
    }
}

fn is_about_certificates(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(it) = cause {
        if it.to_string().contains("certificate") {
            return true;
        }
        cause = it.source();
    }
    false
}

/// What was asked for, and never less than what is drawn: a date that has passed is no leave to hammer.
fn pause(after: Option<Duration>, drawn: Duration) -> Duration {
    after.unwrap_or_default().max(drawn)
}

/// Nothing that is locked can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
