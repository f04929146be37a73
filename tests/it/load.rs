//! Clients that load the API while it is being killed, and remember every answer.
//!
//! A client sends a command with its key until it is answered, however often the connection breaks; a few commands it
//! gives up, as a client does that is killed itself. So what it remembers is all that anybody was ever promised.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::Days;
use insight::clock::Clock;
use insight::domain::ids::Position;
use insight::domain::price::PriceEvent;
use insight::event_store::read;
use insight::events::Event;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinSet;
use uuid::Uuid;

/// How long a command is sent again before the test has failed.
const ANSWERED_WITHIN: Duration = Duration::from_secs(90);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(8);

/// What was sent, and what came of it.
#[derive(Debug, Clone)]
pub struct Sent {
    path: String,
    key: String,
    body: Value,
    /// None: it was given up.
    answer: Option<Answer>,
}

/// A final answer.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    body: Value,
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Vec<Sent>>,
    setup: Vec<Sent>,
}

impl Load {
    /// Registers an investor, lists assets, opens portfolios, and lets so many clients loose on them.
    pub async fn start(address: SocketAddr, seed: u64, clients: u64) -> Self {
        let mut first = Client::new(address, seed);
        let world = Arc::new(first.make_world().await);
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Self { stop: Arc::clone(&stop), clients: JoinSet::new(), setup: first.sent };
        for n in 1..=clients {
            let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
            let mut client = Client::new(address, seed.wrapping_add(n));
            client.source = format!("client-{n}");
            load.clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    client.one(&world).await;
                }
                client.sent
            });
        }
        load
    }

    /// Lets every client finish what it has begun, and hands over what they remember.
    pub async fn finish(self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = self.setup;
        all.extend(self.clients.join_all().await.into_iter().flatten());
        all
    }
}

/// What clients act upon.
struct World {
    assets: Vec<String>,
    portfolios: Vec<String>,
}

struct Client {
    http: reqwest::Client,
    base: String,
    random: StdRng,
    source: String,
    sent: Vec<Sent>,
}

impl Client {
    fn new(address: SocketAddr, seed: u64) -> Self {
        let http = reqwest::Client::builder().timeout(ATTEMPT).build().unwrap();
        let (random, source) = (StdRng::seed_from_u64(seed), String::new());
        Self { http, base: format!("http://{address}"), random, source, sent: Vec::new() }
    }

    async fn make_world(&mut self) -> World {
        let investor = json!({"name": "Load", "email": format!("{}@example.invalid", Uuid::now_v7())});
        let investor = self.create("/v1/investors", investor).await;
        let mut assets = Vec::new();
        for (symbol, class, currency) in [
            ("AAA", "equity", "USD"),
            ("BBB", "etf", "EUR"),
            ("CCC", "crypto", "USD"),
            ("EURUSD", "fx", "USD"),
        ] {
            let listing = json!({"symbol": symbol, "name": symbol, "class": class, "currency": currency});
            assets.push(self.create("/v1/assets", listing).await);
        }
        let mut lines = Vec::new();
        for (asset, back) in assets.iter().flat_map(|asset| (1..120).map(move |back| (asset, back))) {
            let price = format!("{}.{:03}", 3 + self.below(2), self.below(1_000));
            lines.push(json!({"asset": asset, "price": price, "day": day(back), "source": "exchange"}));
        }
        self.command("/v1/prices".to_owned(), json!({"prices": lines})).await;
        let mut portfolios = Vec::new();
        for (n, basis) in ["fifo", "lifo", "hifo", "average", "fifo", "average"].into_iter().enumerate() {
            let opening = json!({"investor_id": investor, "name": format!("P{n}"), "cost_basis": basis,
                "base_currency": if n % 2 == 0 { "USD" } else { "EUR" }, "fees_in_cost": n % 3 == 0,
                "cash": if n < 2 { "tracked" } else { "untracked" }, "allow_short": n == 5});
            portfolios.push(self.create("/v1/portfolios", opening).await);
        }
        World { assets, portfolios }
    }

    async fn create(&mut self, path: &str, body: Value) -> String {
        let answer = self.command(path.to_owned(), body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body["id"].as_str().unwrap().to_owned()
    }

    fn below(&mut self, n: usize) -> usize {
        self.random.random_range(0..n)
    }

    /// Sends something, whatever comes to mind.
    async fn one(&mut self, world: &World) {
        let portfolio = &world.portfolios[self.below(world.portfolios.len())];
        let asset = &world.assets[self.below(world.assets.len() - 1)];
        let back = if self.below(5) == 0 { self.below(200) } else { 0 };
        let day = day(back);
        let amount = format!("{}.{:02}", 1 + self.below(90), self.below(100));
        let trade = json!({"asset": asset, "quantity": format!("{}.5", self.below(20)), "price": amount,
            "fee": "0.33", "trade_date": day});
        let (action, body) = match self.below(20) {
            0..=6 => ("buy", trade),
            7..=11 => ("sell", trade),
            12 | 13 => {
                ("deposit", json!({"amount": format!("{amount}1"), "currency": "EUR", "trade_date": day}))
            }
            14 => ("withdraw", json!({"amount": amount, "currency": "USD", "trade_date": day})),
            15 => {
                let basis = ["fifo", "lifo", "hifo", "average"][self.below(4)];
                ("settings", json!({"cost_basis": basis}))
            }
            _ => {
                self.prices(world).await;
                return;
            }
        };
        let path = format!("/v1/portfolios/{portfolio}/{action}");
        if self.below(30) == 0 {
            self.give_up(path, body).await;
        } else {
            self.command(path, body).await;
        }
        if self.below(10) == 0 {
            self.resend().await;
        }
    }

    /// Ticks that only this client sends, so that they can be counted; sometimes a close.
    async fn prices(&mut self, world: &World) {
        let mut lines = Vec::new();
        for _ in 0..=self.below(20) {
            let asset = &world.assets[self.below(world.assets.len())];
            let price = format!("{}.{:03}", 1 + self.below(9), self.below(1_000));
            lines.push(
                json!({"asset": asset, "price": price, "at": Clock::System.now(), "source": self.source}),
            );
        }
        if self.below(8) == 0 {
            let asset = &world.assets[self.below(world.assets.len())];
            let closes =
                json!([{"asset": asset, "price": "3.5", "day": day(self.below(3)), "source": "exchange"}]);
            self.command("/v1/prices".to_owned(), json!({"prices": closes})).await;
        }
        self.command("/v1/prices".to_owned(), json!({"prices": lines})).await;
    }

    /// Sends until there is an answer that stands.
    async fn command(&mut self, path: String, body: Value) -> Answer {
        let key = Uuid::from_bytes(self.random.random()).to_string();
        let began = Instant::now();
        let answer = loop {
            if let Some(answer) = self.attempt(&path, &key, &body).await {
                break answer;
            }
            assert!(began.elapsed() < ANSWERED_WITHIN, "no answer to {path} {body}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let sent = Sent { path, key, body, answer: Some(answer.clone()) };
        self.sent.push(sent);
        answer
    }

    /// Sends once and does not wait.
    async fn give_up(&mut self, path: String, body: Value) {
        let key = Uuid::from_bytes(self.random.random()).to_string();
        let patience = Duration::from_micros(u64::try_from(self.below(3_000)).unwrap());
        let answer = tokio::time::timeout(patience, self.attempt(&path, &key, &body)).await.ok().flatten();
        self.sent.push(Sent { path, key, body, answer });
    }

    /// An accepted command has the same answer for ever, whatever was killed in between. One that changed nothing left
    /// nothing in the log to remember it by: it is judged anew.
    async fn resend(&mut self) {
        let drawn = self.below(self.sent.len().max(1));
        let Some(Sent { path, key, body, answer: Some(answer) }) = self.sent.get(drawn).cloned() else {
            return;
        };
        if answer.status >= 400 || answer.body["events"] == json!([]) {
            return;
        }
        let began = Instant::now();
        while began.elapsed() < ANSWERED_WITHIN {
            if let Some(again) = self.attempt(&path, &key, &body).await {
                assert_eq!(again, answer, "{path} {body}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no answer to {path} {body} sent again");
    }

    /// One attempt; `None` where the outcome is unknown or the server is busy.
    async fn attempt(&self, path: &str, key: &str, body: &Value) -> Option<Answer> {
        let request =
            self.http.post(format!("{}{path}", self.base)).header("Idempotency-Key", key).json(body);
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let answer = Answer { status, body: answer.json().await.ok()? };
        match status {
            200 | 201 | 409 | 422 => Some(answer),
            503 => None,
            _ => panic!("{status} to {path} {body}: {}", answer.body),
        }
    }
}

/// The day so many days ago.
fn day(back: usize) -> String {
    (Clock::System.now().date_naive() - Days::new(u64::try_from(back).unwrap())).to_string()
}

/// How many commands were accepted, refused and given up.
pub fn tally(sent: &[Sent]) -> (usize, usize, usize) {
    let accepted = |sent: &&Sent| sent.answer.as_ref().is_some_and(|answer| answer.status < 400);
    let given_up = sent.iter().filter(|sent| sent.answer.is_none()).count();
    let accepted = sent.iter().filter(accepted).count();
    (accepted, sent.len() - accepted - given_up, given_up)
}

/// Every accepted command is in the log once and as it was answered, and of the refused ones nothing.
pub async fn assert_promises_kept(pool: &PgPool, sent: &[Sent]) {
    let mut log: BTreeMap<Uuid, Vec<(String, i64)>> = BTreeMap::new();
    let mut ticks: BTreeMap<String, usize> = BTreeMap::new();
    for event in read::after(pool, Position(0), i64::MAX).await.unwrap().events {
        let named = (event.event_id.to_string(), event.position.0);
        log.entry(event.event_id.command_id).or_default().push(named);
        if let Event::Price(PriceEvent::PricesObserved(observed)) = event.event().unwrap() {
            *ticks.entry(observed.source).or_default() += observed.ticks.len();
        }
    }
    let mut promised: BTreeMap<String, usize> = BTreeMap::new();
    for Sent { path, body, answer, .. } in sent {
        let Some(Answer { status, body: answer }) = answer else { continue };
        if *status >= 400 {
            continue;
        }
        if path == "/v1/prices" && !body["prices"][0]["at"].is_null() {
            let source = body["prices"][0]["source"].as_str().unwrap();
            let accepted = usize::try_from(answer["accepted"].as_u64().unwrap()).unwrap();
            *promised.entry(source.to_owned()).or_default() += accepted;
        }
        if path == "/v1/prices" {
            continue;
        }
        let command: Uuid = answer["command_id"].as_str().unwrap().parse().unwrap();
        let events = answer["events"].as_array().unwrap().iter();
        let events: Vec<(String, i64)> = events
            .map(|event| {
                (event["event_id"].as_str().unwrap().to_owned(), event["position"].as_i64().unwrap())
            })
            .collect();
        let stored = log.remove(&command).unwrap_or_default();
        assert_eq!(stored, events, "{path} {body}");
    }
    assert_eq!(ticks, promised, "ticks by client");
}
