//! Clients that load the API while it is being killed, and remember every answer.
//!
//! A few commands they give up, as a client does that is killed itself. So what they remember is all that anybody was ever
//! promised. They remember little of each command, so that an hour of them fits into memory.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::Days;
use insight::clock::Clock;
use insight::domain::ids::Position;
use insight::domain::price::PriceEvent;
use insight::event_store::read;
use insight::events::Event;
use rand::RngExt;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::caller::{Answer, Caller, Request, Seen};

/// Commands of a client that may be sent again.
const RECENT: usize = 200;
/// One in so many commands opens a portfolio, and one that is old is left alone: no history grows for ever.
const OPENS_ONE_IN: usize = 500;
/// One in so many lists an asset, which is two events in two streams, and is given up.
const LISTS_ONE_IN: usize = 200;

/// Where assets are listed.
pub const LISTING: &str = "/v1/assets";
/// A listing and the claim to its symbol.
pub const EVENTS_OF_LISTING: usize = 2;

/// What was promised of one accepted command: where its events stand.
#[derive(Debug, PartialEq, Eq)]
struct Promise {
    command_id: Uuid,
    positions: Vec<i64>,
}

/// All that clients were told.
#[derive(Debug, Default)]
pub struct Memory {
    accepted: Vec<Promise>,
    /// Accepted, and changed nothing.
    idle: usize,
    refused: Vec<Uuid>,
    /// Sent, and their answer not waited for.
    pub given_up: Vec<Request>,
    /// Ticks that were accepted, by who sent them.
    ticks: BTreeMap<String, usize>,
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Memory>,
    setup: Memory,
}

impl Load {
    /// Registers an investor, lists assets, opens portfolios, and lets so many clients loose on them, as fast as they can.
    pub async fn start(address: SocketAddr, seed: u64, clients: u64) -> Self {
        Self::start_at(&[address], seed, clients, Duration::ZERO, Arc::default()).await
    }

    /// The same at several addresses, each client with a pause after each command.
    pub async fn start_at(
        addresses: &[SocketAddr],
        seed: u64,
        clients: u64,
        pause: Duration,
        seen: Arc<Seen>,
    ) -> Self {
        let new = |n: u64, world: World| Client {
            caller: Caller::new(addresses, seed.wrapping_add(n), Arc::clone(&seen)),
            source: format!("client-{n}"),
            world,
            memory: Memory::default(),
            recent: VecDeque::new(),
        };
        let mut first = new(0, World::default());
        first.make_world().await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Self { stop: Arc::clone(&stop), clients: JoinSet::new(), setup: Memory::default() };
        for n in 1..=clients {
            let stop = Arc::clone(&stop);
            let mut client = new(n, first.world.clone());
            load.clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    client.one().await;
                    tokio::time::sleep(pause).await;
                }
                client.memory
            });
        }
        load.setup = first.memory;
        load
    }

    /// Lets every client finish what it has begun, and hands over what they remember.
    pub async fn finish(self) -> Memory {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = self.setup;
        for memory in self.clients.join_all().await {
            all.accepted.extend(memory.accepted);
            all.idle += memory.idle;
            all.refused.extend(memory.refused);
            all.given_up.extend(memory.given_up);
            for (source, ticks) in memory.ticks {
                *all.ticks.entry(source).or_default() += ticks;
            }
        }
        all
    }
}

/// What clients act upon.
#[derive(Debug, Default, Clone)]
struct World {
    investor: String,
    assets: Vec<String>,
    portfolios: Vec<String>,
}

struct Client {
    caller: Caller,
    source: String,
    world: World,
    memory: Memory,
    recent: VecDeque<(Request, Answer)>,
}

impl Client {
    async fn make_world(&mut self) {
        let investor = json!({"name": "Load", "email": format!("{}@example.invalid", Uuid::now_v7())});
        self.world.investor = self.create("/v1/investors", investor).await;
        let mark = self.below(1_000_000);
        for (symbol, class, currency) in [
            ("AAA", "equity", "USD"),
            ("BBB", "etf", "EUR"),
            ("CCC", "crypto", "USD"),
            ("EURUSD", "fx", "USD"),
        ] {
            let symbol = if class == "fx" { symbol.to_owned() } else { format!("{symbol}{mark}") };
            let listing = json!({"symbol": symbol, "name": symbol, "class": class, "currency": currency});
            let answer = self.command(LISTING, listing).await;
            // Another load may have been here: a pair has one name, which will do as well as an id.
            let is_there = class == "fx" && answer.status == 409;
            assert!(is_there || answer.status == 201, "an asset is not refused: {}", answer.body);
            self.world.assets.push(if is_there { symbol } else { answer.id() });
        }
        let mut lines = Vec::new();
        for asset in self.world.assets.clone() {
            for back in 1..120 {
                let price = format!("{}.{:03}", 3 + self.below(2), self.below(1_000));
                lines.push(json!({"asset": asset, "price": price, "day": day(back), "source": "exchange"}));
            }
        }
        self.command("/v1/prices", json!({"prices": lines})).await;
        for n in 0..6 {
            self.open(n).await;
        }
    }

    async fn open(&mut self, n: usize) {
        let basis = ["fifo", "lifo", "hifo", "average", "fifo", "average"][n % 6];
        let opening = json!({"investor_id": self.world.investor, "name": format!("P{n}"), "cost_basis": basis,
            "base_currency": if n.is_multiple_of(2) { "USD" } else { "EUR" }, "fees_in_cost": n.is_multiple_of(3),
            "cash": if n < 2 { "tracked" } else { "untracked" }, "allow_short": n == 5});
        let portfolio = self.create("/v1/portfolios", opening).await;
        self.world.portfolios.push(portfolio);
    }

    async fn create(&mut self, path: &str, body: Value) -> String {
        let answer = self.command(path, body).await;
        assert_eq!(answer.status, 201, "{path} is not refused: {}", answer.body);
        answer.id()
    }

    fn below(&mut self, n: usize) -> usize {
        self.caller.below(n)
    }

    /// Sends something, whatever comes to mind.
    async fn one(&mut self) {
        if self.below(OPENS_ONE_IN) == 0 {
            let (n, old) = (self.below(6), self.below(self.world.portfolios.len()));
            self.world.portfolios.swap_remove(old);
            self.open(n).await;
            return;
        }
        if self.below(LISTS_ONE_IN) == 0 {
            let symbol = Uuid::from_bytes(self.caller.random.random()).simple().to_string();
            let symbol = format!("GU{}", symbol[..12].to_uppercase());
            let listing = json!({"symbol": symbol, "name": "Given up", "class": "equity", "currency": "USD"});
            return self.give_up(LISTING.to_owned(), listing).await;
        }
        let portfolio = self.below(self.world.portfolios.len());
        let asset = self.below(self.world.assets.len() - 1);
        let asset = self.world.assets[asset].clone();
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
            _ => return self.prices().await,
        };
        let path = format!("/v1/portfolios/{}/{action}", self.world.portfolios[portfolio]);
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
    async fn prices(&mut self) {
        let mut lines = Vec::new();
        for _ in 0..=self.below(20) {
            let asset = self.below(self.world.assets.len());
            let price = format!("{}.{:03}", 1 + self.below(9), self.below(1_000));
            lines.push(json!({"asset": self.world.assets[asset], "price": price, "at": Clock::System.now(),
                "source": self.source}));
        }
        if self.below(8) == 0 {
            let asset = self.below(self.world.assets.len());
            let closes = json!([{"asset": self.world.assets[asset], "price": "3.5", "day": day(self.below(3)),
                "source": "exchange"}]);
            self.command("/v1/prices", json!({"prices": closes})).await;
        }
        self.command("/v1/prices", json!({"prices": lines})).await;
    }

    /// Sends until there is an answer that stands, and remembers it.
    async fn command(&mut self, path: impl Into<String>, body: Value) -> Answer {
        let request = self.caller.request(path, body);
        let answer = self.caller.send(&request).await;
        self.memory.take(&request, &answer);
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((request, answer.clone()));
        answer
    }

    /// Sends once and does not wait.
    async fn give_up(&mut self, path: String, body: Value) {
        let request = self.caller.request(path, body);
        let patience = Duration::from_micros(u64::try_from(self.below(3_000)).unwrap());
        match tokio::time::timeout(patience, self.caller.attempt(&request)).await.ok().flatten() {
            Some(answer) => self.memory.take(&request, &answer),
            None => self.memory.given_up.push(request),
        }
    }

    /// An accepted command has the same answer for ever, whatever was killed in between. One that changed nothing left
    /// nothing in the log to remember it by: it is judged anew.
    async fn resend(&mut self) {
        let drawn = self.below(self.recent.len().max(1));
        let Some((request, answer)) = self.recent.get(drawn).cloned() else { return };
        if !answer.is_accepted() || answer.body["events"] == json!([]) {
            return;
        }
        let again = self.caller.send(&request).await;
        assert_eq!(again, answer, "a retry gets the same answer: {request:?}");
    }
}

/// The day so many days ago.
fn day(back: usize) -> String {
    (Clock::System.now().date_naive() - Days::new(u64::try_from(back).unwrap())).to_string()
}

impl Memory {
    /// Remembers an answer.
    pub fn take(&mut self, request: &Request, answer: &Answer) {
        let command_id = request.command_id();
        if !answer.is_accepted() {
            return self.refused.push(command_id);
        }
        if request.path == "/v1/prices" {
            let first = &request.body["prices"][0];
            if !first["at"].is_null() {
                let source = first["source"].as_str().unwrap().to_owned();
                *self.ticks.entry(source).or_default() +=
                    usize::try_from(answer.body["accepted"].as_u64().unwrap()).unwrap();
            }
            return;
        }
        assert_eq!(answer.body["command_id"], json!(command_id), "a key means the same command for ever");
        let events = answer.body["events"].as_array().unwrap();
        for (ordinal, event) in events.iter().enumerate() {
            assert_eq!(event["event_id"], json!(format!("{command_id}.{ordinal}")), "{request:?}");
        }
        let positions: Vec<i64> = events.iter().map(|event| event["position"].as_i64().unwrap()).collect();
        if positions.is_empty() {
            self.idle += 1;
        } else {
            self.accepted.push(Promise { command_id, positions });
        }
    }
}

/// How many commands were accepted, refused and given up; price bodies are not among them.
pub fn tally(memory: &Memory) -> (usize, usize, usize) {
    (memory.accepted.len() + memory.idle, memory.refused.len(), memory.given_up.len())
}

/// What the log holds of each command: the positions of its events, in the order of their ordinals.
pub async fn commands_in_log(pool: &PgPool) -> (HashMap<Uuid, Vec<i64>>, BTreeMap<String, usize>) {
    const SLICE: i64 = 20_000;
    let (mut log, mut ticks): (HashMap<Uuid, Vec<i64>>, BTreeMap<String, usize>) = Default::default();
    let mut last = Position(0);
    loop {
        let events = read::after(pool, last, SLICE).await.unwrap().events;
        let Some(newest) = events.last() else { return (log, ticks) };
        last = newest.position;
        for event in events {
            let places = log.entry(event.event_id.command_id).or_default();
            let ordinal = usize::try_from(event.event_id.ordinal).unwrap();
            assert_eq!(ordinal, places.len(), "a command is whole: {} at {}", event.event_id, event.position);
            places.push(event.position.0);
            if let Event::Price(PriceEvent::PricesObserved(observed)) = event.event().unwrap() {
                *ticks.entry(observed.source).or_default() += observed.ticks.len();
            }
        }
    }
}

/// Every accepted command is in the log once and as it was answered, and of the refused ones nothing.
pub async fn assert_promises_kept(pool: &PgPool, memory: &Memory) {
    let (log, ticks) = commands_in_log(pool).await;
    let lost: Vec<_> =
        memory.accepted.iter().filter(|promise| !log.contains_key(&promise.command_id)).collect();
    assert!(lost.is_empty(), "nothing acknowledged is lost: {} are, such as {:?}", lost.len(), lost[0]);
    let mut told = HashSet::new();
    for promise in &memory.accepted {
        assert_eq!(
            log[&promise.command_id], promise.positions,
            "an answer says what is in the log: {promise:?}"
        );
        assert!(told.insert(promise.command_id), "a command is accepted once: {promise:?}");
    }
    let done: Vec<_> = memory.refused.iter().filter(|refused| log.contains_key(refused)).collect();
    assert!(done.is_empty(), "nothing refused is in the log: {done:?}");
    let of_load = ticks.into_iter().filter(|(source, _)| source.starts_with("client-"));
    assert_eq!(of_load.collect::<BTreeMap<_, _>>(), memory.ticks, "every tick is there once, by client");
}
