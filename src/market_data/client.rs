//! How a source is asked over the network: the only place here that waits for anybody.
//!
//! | step | bound |
//! | --- | --- |
//! | a place among those who ask at once, a moment that the pace allows, a breaker that is closed | the time of the fetch |
//! | connect, each piece of the answer, the attempt as a whole | a time of its own each |
//! | the body | bytes |
//! | failed: connection, time, 5xx, 429 | again, after a pause of full jitter or what `Retry-After` asks for, if that is not too long |
//! | failed: anything else | refused at once |
//!
//! A redirect is followed on the same server only. No error repeats an address: there may be a key in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{StatusCode, redirect};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::breaker::{Breaker, Closed};
use super::pace::Pace;
use super::settings::Asking;
use super::url;
use crate::clock::Clock;
use crate::retry::{Backoff, retry_after};

/// Addresses whose last answer is recognised.
const REMEMBERED_MAX: usize = 20_000;
/// A pause that a source asks for is believed up to a day.
const PAUSE_LONGEST: Duration = Duration::from_secs(86_400);
/// Redirects on the same server that are followed.
const REDIRECTS_MAX: usize = 3;

/// Asks one source.
pub struct Client {
    http: reqwest::Client,
    asking: Asking,
    clock: Clock,
    slots: Semaphore,
    pace: Mutex<Pace>,
    breaker: Mutex<Breaker>,
    /// By the hash of the address.
    remembered: Mutex<HashMap<[u8; 32], Validators>>,
}

/// What an answer is recognised by when it is asked for again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

/// What came.
pub enum Answer {
    /// A body, and what to remember it by once all of it is taken.
    Body(Vec<u8>, Validators),
    /// What came the last time.
    NotModified,
}

/// What became of one attempt.
enum Attempt {
    Answered(Answer),
    Refused(String),
    Failed { reason: String, after: Option<Duration>, is_fault: bool },
}

impl Client {
    /// One that asks as told.
    ///
    /// # Errors
    /// The system has no certificates, or something else that TLS needs.
    pub fn open(asking: &Asking, clock: Clock) -> Result<Self, reqwest::Error> {
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
            slots: Semaphore::new(asking.concurrency as usize),
            pace: Mutex::new(Pace::new(asking.requests_per_minute, asking.concurrency, now)),
            breaker: Mutex::new(Breaker::new(asking.failures_max, asking.rest)),
            remembered: Mutex::default(),
            asking: asking.clone(),
        })
    }

    /// Asks until there is an answer, for as long as is worth it and at most until the deadline. Dropping it is safe.
    ///
    /// # Errors
    /// Why there is none, in words that follow the name of the source.
    pub async fn get(&self, url: &str, deadline: Instant, retried: &AtomicU64) -> Result<Answer, String> {
        let asked = timeout_at(deadline, async {
            let _slot = self.slots.acquire().await.map_err(|_| "is closed".to_owned())?;
            self.ask_until_answered(url, retried).await
        });
        asked.await.unwrap_or_else(|_| {
            Err("was not asked in time: the fetch has taken as long as it may".to_owned())
        })
    }

    /// Remembers an answer that was taken as a whole.
    pub fn remember(&self, url: &str, validators: Validators) {
        let mut remembered = lock(&self.remembered);
        if validators != Validators::default() && remembered.len() < REMEMBERED_MAX {
            remembered.insert(hash(url), validators);
        }
    }

    async fn ask_until_answered(&self, url: &str, retried: &AtomicU64) -> Result<Answer, String> {
        let mut pauses = Backoff::full_jitter(self.asking.pause_first, self.asking.pause_max);
        let mut give_up_at = None;
        for nth in 1.. {
            self.admitted().await?;
            // Waiting for others is not this request's fault.
            let give_up_at = *give_up_at.get_or_insert_with(|| Instant::now() + self.asking.within);
            let probe = Probe(&self.breaker);
            let attempt = timeout(self.asking.attempt, self.attempt(url)).await;
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
                        breaker.failed(Instant::now())
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
            let pause = after.unwrap_or_else(|| pauses.next_pause());
            let again_at = Instant::now() + pause;
            if nth == self.asking.attempts || again_at > give_up_at {
                let times = if nth == 1 { "once".to_owned() } else { format!("{nth} times") };
                return Err(format!("{reason} (asked {times})"));
            }
            tracing::debug!(server = url::origin(url), reason, attempt = nth, ?pause, "asking again");
            retried.fetch_add(1, Ordering::Relaxed);
            sleep_until(again_at).await;
        }
        Err("was not asked".to_owned())
    }

    /// Waits until it may be asked.
    async fn admitted(&self) -> Result<(), String> {
        loop {
            let paused = lock(&self.pace).paused_for(Instant::now());
            if paused > self.asking.pause_max {
                return Err(format!("asks not to be asked for another {} s", paused.as_secs() + 1));
            }
            let at = lock(&self.pace).take(Instant::now());
            sleep_until(at).await;
            let admitted = lock(&self.breaker).admit(Instant::now());
            match admitted {
                Ok(()) => return Ok(()),
                Err(Closed::For(wait)) => sleep_until(Instant::now() + wait).await,
                Err(Closed::Away) => {
                    return Err("is away: it has failed again and again, and is left alone".to_owned());
                }
            }
        }
    }

    async fn attempt(&self, url: &str) -> Attempt {
        let known = lock(&self.remembered).get(&hash(url)).cloned().unwrap_or_default();
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
            StatusCode::NOT_MODIFIED => return Attempt::Answered(Answer::NotModified),
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
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => return Attempt::Answered(Answer::Body(body, validators)),
                Ok(Some(chunk)) if (body.len() + chunk.len()) as u64 > self.asking.body_bytes_max => {
                    return too_large();
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Err(error) => return Attempt::failed(broken(&error)),
            }
        }
    }
}

impl Attempt {
    fn failed(reason: &str) -> Self {
        Self::Failed { reason: reason.to_owned(), after: None, is_fault: true }
    }
}

/// Lets the next one ask when whoever was to find out has gone away without an answer.
struct Probe<'a>(&'a Mutex<Breaker>);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        lock(self.0).given_up();
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
    if status.is_redirection() {
        let to = headers.get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
        let to = if to.contains("://") { url::origin(to) } else { "itself, again and again" };
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
    } else if error.is_connect() {
        "cannot be reached"
    } else if error.is_body() || error.is_decode() {
        "breaks off in the middle of its answer"
    } else {
        "breaks the connection"
    }
}

fn hash(url: &str) -> [u8; 32] {
    Sha256::digest(url.as_bytes()).into()
}

/// Nothing that is locked can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
