//! A client of the API that does what a good client does: it sends a command with its key until it is answered, however
//! often the connection breaks, and goes to another address when one does not answer.
//!
//! It also holds the API to what every answer owes: a status that the documents name, and `Retry-After` with a 503.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use uuid::Uuid;

use crate::processes::http;

/// How long a command is sent again before the run has failed.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(20);
/// Of the ids that the API makes of keys. It is for ever, as the API says.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0d_5f6e_0c3b_4f0e_9a55_37f1_2b8c_d4a1);

/// A command as it is sent, and sent again.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub key: String,
    pub if_match: Option<i64>,
    pub body: Value,
}

impl Request {
    /// The id that the log knows it by.
    pub fn command_id(&self) -> Uuid {
        Uuid::new_v5(&NAMESPACE, ["local", "POST", &self.path, &self.key].join("\n").as_bytes())
    }
}

/// A final answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    pub fn is_accepted(&self) -> bool {
        self.status < 400
    }

    /// The id of what was created.
    pub fn id(&self) -> String {
        self.text("id")
    }

    /// What `min_position` takes.
    pub fn place(&self) -> String {
        self.text("place")
    }

    pub fn version(&self) -> i64 {
        self.body["version"].as_i64().unwrap_or_else(|| panic!("an answer without a version: {self:?}"))
    }

    fn text(&self, name: &str) -> String {
        self.body[name].as_str().unwrap_or_else(|| panic!("an answer without {name}: {self:?}")).to_owned()
    }
}

/// What all clients of a run saw together.
#[derive(Debug, Default)]
pub struct Seen {
    /// When commands were acknowledged.
    pub acknowledged: Mutex<Vec<Instant>>,
    /// When reads were answered with rows.
    pub read: Mutex<Vec<Instant>>,
    /// When commands were answered 503, and how long that took.
    pub busy: Mutex<Vec<(Instant, Duration)>>,
    pub refused: AtomicU64,
    /// Attempts whose outcome the client never learnt.
    pub unknown: AtomicU64,
}

impl Seen {
    fn note(&self, attempt: Option<&Answer>, took: Duration, is_read: bool) {
        let now = Instant::now();
        match attempt {
            None => drop(self.unknown.fetch_add(1, Ordering::Relaxed)),
            Some(answer) if answer.status == 503 => self.busy.lock().unwrap().push((now, took)),
            Some(answer) if answer.is_accepted() && is_read => self.read.lock().unwrap().push(now),
            Some(answer) if answer.is_accepted() => self.acknowledged.lock().unwrap().push(now),
            Some(_) if is_read => {}
            Some(_) => drop(self.refused.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// One client.
pub struct Caller {
    http: reqwest::Client,
    bases: Vec<String>,
    turn: usize,
    /// How long one attempt to read may take: longer than the read is told to wait.
    pub read_within: Duration,
    pub random: StdRng,
    pub seen: Arc<Seen>,
}

impl Caller {
    pub fn new(addresses: &[SocketAddr], seed: u64, seen: Arc<Seen>) -> Self {
        let http = http().timeout(ATTEMPT).build().unwrap();
        let bases: Vec<String> = addresses.iter().map(|address| format!("http://{address}")).collect();
        let mut random = StdRng::seed_from_u64(seed);
        let turn = random.random_range(0..bases.len());
        Self { http, bases, turn, read_within: ATTEMPT * 4, random, seen }
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.random.random_range(0..n)
    }

    /// A command that was never sent before.
    pub fn request(&mut self, path: impl Into<String>, body: Value) -> Request {
        let key = Uuid::from_bytes(self.random.random()).to_string();
        Request { path: path.into(), key, if_match: None, body }
    }

    /// Sends until there is an answer that stands.
    pub async fn send(&mut self, request: &Request) -> Answer {
        let began = Instant::now();
        loop {
            if let Some(answer) = self.attempt(request).await {
                return answer;
            }
            assert!(began.elapsed() < ANSWERED_WITHIN, "every command is answered: none came to {request:?}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Sends a new command until there is an answer that stands.
    pub async fn command(&mut self, path: impl Into<String>, body: Value) -> Answer {
        let request = self.request(path, body);
        self.send(&request).await
    }

    /// The same for something that cannot be refused; its id.
    pub async fn create(&mut self, path: &str, body: Value) -> String {
        let answer = self.command(path, body).await;
        assert_eq!(answer.status, 201, "{path} is not refused: {}", answer.body);
        answer.id()
    }

    /// One attempt; `None` where the outcome is unknown or the server is busy.
    pub async fn attempt(&mut self, request: &Request) -> Option<Answer> {
        let Request { path, key, if_match, body } = request;
        let mut sending =
            self.http.post(format!("{}{path}", self.base())).header("Idempotency-Key", key).json(body);
        if let Some(version) = if_match {
            sending = sending.header("If-Match", format!("\"{version}\""));
        }
        let answer = self.outcome(sending, false).await?;
        match answer.status {
            200 | 201 | 409 | 412 | 422 => Some(answer),
            _ => panic!(
                "an answer is one that the documents name: {} to {request:?}: {}",
                answer.status, answer.body
            ),
        }
    }

    /// Reads until there is an answer that stands: rows, or that they are not there yet.
    pub async fn read(&mut self, path: &str) -> Answer {
        let began = Instant::now();
        loop {
            let asking = self.http.get(format!("{}{path}", self.base())).timeout(self.read_within);
            if let Some(answer) = self.outcome(asking, true).await {
                assert!(
                    [200, 404, 504].contains(&answer.status),
                    "a read is answered as documented: {path}: {answer:?}"
                );
                return answer;
            }
            assert!(began.elapsed() < ANSWERED_WITHIN, "every read is answered: none came to {path}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn base(&self) -> &str {
        &self.bases[self.turn % self.bases.len()]
    }

    /// Sends one request. Where nobody answers, the next one goes elsewhere.
    async fn outcome(&mut self, request: reqwest::RequestBuilder, is_read: bool) -> Option<Answer> {
        let began = Instant::now();
        let outcome = read_whole(request).await;
        self.seen.note(outcome.as_ref(), began.elapsed(), is_read);
        let stands = outcome.filter(|answer| answer.status != 503);
        if stands.is_none() {
            self.turn += 1;
        }
        stands
    }
}

async fn read_whole(request: reqwest::RequestBuilder) -> Option<Answer> {
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    let comes_back = answer.headers().contains_key("retry-after");
    let body: Value = answer.json().await.ok()?;
    assert!(status != 503 || comes_back, "a 503 has Retry-After: {body}");
    Some(Answer { status, body })
}
