//! Many clients buy and sell one holding at the same time, and the sum is exact.
//!
//! | way | what a client does | what becomes of two at once |
//! | --- | --- | --- |
//! | `any version` | sends the trade | the server decides one after the other |
//! | `this version` | sends it with `If-Match`, reads the version it is told, and sends it again | one wins, the other is told so |
//! | `orders` | workers take orders from one queue, and send every fifth of them twice | the second sending has no effect |
//!
//! Each way has a portfolio of its own. In the end the server says what is held, and the clients what they were told: both must
//! be the same number, and the portfolio must have as many facts as trades that were accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream::{FuturesUnordered, TryStreamExt};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use reqwest::StatusCode;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::{Accepted, Client, Error, Place};
use super::table::{Side, Table, number};

/// Units a trade moves at most.
const QUANTITY_MAX: i64 = 5;
/// Every so manieth order is sent twice.
const SENT_TWICE_EVERY: usize = 5;
/// How long the last read waits on the server for what was written.
const MAX_WAIT_MS: u64 = 10_000;

/// How large the race is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaceOptions {
    /// Clients at once.
    pub clients: usize,
    /// Trades of each.
    pub trades: usize,
    /// Orders in the queue.
    pub orders: usize,
    /// Workers that take them.
    pub workers: usize,
    /// What the trades are a function of.
    pub seed: u64,
    /// Tells this race from others on the same server.
    pub run: String,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct RaceReport {
    /// Where it was run.
    pub base_url: String,
    /// One for each way.
    pub ways: Vec<Way>,
}

impl RaceReport {
    /// Whether every sum was exact.
    pub fn is_exact(&self) -> bool {
        self.ways.iter().all(Way::is_exact)
    }
}

/// What came of one way to trade.
#[derive(Debug, Default, Serialize)]
pub struct Way {
    /// Which.
    pub way: &'static str,
    /// The portfolio.
    pub portfolio_id: String,
    /// Clients at once.
    pub clients: usize,
    /// Trades they wanted.
    pub wanted: usize,
    /// Requests they sent for these, all told.
    pub attempts: usize,
    /// Trades that were accepted.
    pub accepted: usize,
    /// Sales that were refused, for there was not enough.
    pub refused: usize,
    /// Requests refused because the version was stale.
    pub conflicts: usize,
    /// Requests sent again because the server was busy or away.
    pub retries: usize,
    /// Sent once more although they had been answered.
    pub sent_twice: usize,
    /// How long it took.
    pub seconds: f64,
    /// What was bought less what was sold, as the clients were told.
    pub expected: i64,
    /// What the server says is held.
    pub held: i64,
    /// Facts in the portfolio, without its opening.
    pub facts: i64,
}

impl Way {
    /// Whether clients and server agree to the last unit and the last fact.
    pub fn is_exact(&self) -> bool {
        self.expected == self.held && self.facts == self.accepted as i64
    }

    fn add(&mut self, told: &Told) {
        self.attempts += told.attempts;
        self.conflicts += told.conflicts;
        self.sent_twice += told.sent_twice;
        match told.accepted {
            Some(_) => self.accepted += 1,
            None => self.refused += 1,
        }
        self.expected += told.moved;
    }
}

/// Units, whole: bought if positive, sold if negative.
type Quantity = i64;

/// What a client was told about one trade.
#[derive(Debug, Default)]
struct Told {
    attempts: usize,
    conflicts: usize,
    sent_twice: usize,
    accepted: Option<Place>,
    moved: Quantity,
}

/// Runs the race on the server at `base_url`.
///
/// # Errors
/// A command that was refused for another reason than the race, or a server that stays away.
pub async fn race(base_url: &str, options: &RaceOptions) -> Result<RaceReport, Error> {
    let client = Client::new(base_url)?;
    let track = Track::lay(&client, options).await?;
    let versions = [("any version", None), ("this version", Some(1))];
    let mut ways = Vec::new();
    for (way, version) in versions {
        ways.push(track.run(way, options.clients, options.clients * options.trades, version).await?);
    }
    if options.orders > 0 {
        ways.push(track.run("orders", options.workers, options.orders, None).await?);
    }
    Ok(RaceReport { base_url: base_url.trim_end_matches('/').into(), ways })
}

/// Where the race is run: an asset, an investor, and the trades to come.
struct Track<'a> {
    client: &'a Client,
    options: &'a RaceOptions,
    investor_id: String,
}

/// The asset that is raced for. Nobody takes it for a real one.
const SYMBOL: &str = "SYNRACE";

impl<'a> Track<'a> {
    async fn lay(client: &'a Client, options: &'a RaceOptions) -> Result<Self, Error> {
        let listing =
            json!({ "symbol": SYMBOL, "name": "SYNTHETIC race", "class": "equity", "currency": "USD" });
        match client.post::<Accepted>("/v1/assets", "demo/race/asset", listing.to_string()).await {
            Err(Error::Refused { problem_type, .. }) if problem_type.ends_with("symbol-taken") => {}
            answer => drop(answer?),
        }
        let run = &options.run;
        let profile = json!({ "name": "Demo Racer", "email": format!("racer.{run}@example.com") });
        let key = format!("demo/race/{run}/investor");
        let registered: Accepted = client.post("/v1/investors", &key, profile.to_string()).await?;
        Ok(Self { client, options, investor_id: registered.id })
    }

    /// `clients` share `wanted` trades; where a version is told, it is the one that the portfolio is opened with.
    async fn run(
        &self,
        way: &'static str,
        clients: usize,
        wanted: usize,
        version: Option<i64>,
    ) -> Result<Way, Error> {
        let opening = json!({ "investor_id": self.investor_id, "name": format!("Race, {way}"), "base_currency": "USD" });
        let key = format!("demo/race/{}/{}", self.options.run, way.replace(' ', "-"));
        let opened: Accepted = self.client.post("/v1/portfolios", &key, opening.to_string()).await?;
        let portfolio_id = opened.id;

        let (since, sent_again) = (Instant::now(), self.client.sent_again());
        let next = Arc::new(AtomicUsize::new(0));
        let is_queue = way == "orders";
        let racing: FuturesUnordered<_> = (0..clients)
            .map(|_| async {
                let mut version = version;
                let mut told = Vec::new();
                loop {
                    let trade = next.fetch_add(1, Ordering::Relaxed);
                    if trade >= wanted {
                        return Ok::<_, Error>(told);
                    }
                    let again = is_queue && trade.is_multiple_of(SENT_TWICE_EVERY);
                    told.push(self.trade(&portfolio_id, trade, &mut version, again).await?);
                }
            })
            .collect();
        let told: Vec<Vec<Told>> = racing.try_collect().await?;
        let mut result = Way { way, portfolio_id, clients, wanted, ..Way::default() };
        result.seconds = since.elapsed().as_secs_f64();
        result.retries = self.client.sent_again() - sent_again;
        result.attempts = result.retries;
        told.iter().flatten().for_each(|told| result.add(told));
        let last = told.iter().flatten().filter_map(|told| told.accepted).max().unwrap_or(opened.place);
        self.ask(&mut result, last).await?;
        Ok(result)
    }

    /// One trade, until it is accepted or refused for good.
    async fn trade(
        &self,
        portfolio_id: &str,
        trade: usize,
        version: &mut Option<i64>,
        again: bool,
    ) -> Result<Told, Error> {
        let quantity = self.quantity(trade);
        let verb = if quantity > 0 { "buy" } else { "sell" };
        let path = format!("/v1/portfolios/{portfolio_id}/{verb}");
        let body =
            json!({ "asset": SYMBOL, "quantity": quantity.abs().to_string(), "price": "10" }).to_string();
        let key = format!("demo/race/trade/{trade}");
        let mut told = Told::default();
        loop {
            told.attempts += 1;
            let answer: Result<Accepted, Error> = match *version {
                Some(version) => self.client.post_at_version(&path, &key, version, body.clone()).await,
                None => self.client.post(&path, &key, body.clone()).await,
            };
            match answer {
                Ok(accepted) => {
                    if version.is_some() {
                        *version = Some(accepted.version);
                    }
                    told.accepted = Some(accepted.place);
                    told.moved = quantity;
                    if again {
                        let repeated: Accepted = self.client.post(&path, &key, body).await?;
                        told.attempts += 1;
                        told.sent_twice += 1;
                        if repeated.place != accepted.place {
                            let reason = format!("{} and then {}", accepted.place, repeated.place);
                            return Err(Error::Unreadable { request: format!("POST {path}"), reason });
                        }
                    }
                    return Ok(told);
                }
                Err(Error::Refused { status: StatusCode::PRECONDITION_FAILED, current_version, .. })
                    if version.is_some() && current_version.is_some() =>
                {
                    told.conflicts += 1;
                    *version = current_version;
                }
                Err(Error::Refused { problem_type, .. })
                    if problem_type.ends_with("insufficient-holding") =>
                {
                    return Ok(told);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What a trade moves: two of three are buys. A function of seed and number, whoever takes it.
    fn quantity(&self, trade: usize) -> Quantity {
        let seed = self.options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(trade as u64);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let quantity = random.random_range(1..=QUANTITY_MAX);
        if random.random_range(0..3) < 2 { quantity } else { -quantity }
    }

    async fn ask(&self, result: &mut Way, last: Place) -> Result<(), Error> {
        let path = format!("/v1/portfolios/{}", result.portfolio_id);
        let waiting = format!("max_wait_ms={MAX_WAIT_MS}&min_position={last}");
        let holdings: Value = self.client.get(&format!("{path}/holdings?{waiting}")).await?;
        let unreadable = |reason: &str| Error::Unreadable {
            request: format!("GET {path}/holdings"),
            reason: format!("{reason}: {holdings}"),
        };
        let held = holdings["holdings"].as_array().ok_or_else(|| unreadable("no holdings"))?;
        result.held = match held.first() {
            Some(holding) => {
                let text = holding["quantity"].as_str().ok_or_else(|| unreadable("no quantity"))?;
                text.parse().map_err(|_| unreadable("a quantity that is not whole"))?
            }
            None => 0,
        };
        let portfolio: Value = self.client.get(&format!("{path}?{waiting}")).await?;
        let version = portfolio["version"].as_i64();
        result.facts = version.ok_or_else(|| unreadable("no version"))? - 1;
        Ok(())
    }
}

/// The race as a table.
pub fn render_race(report: &RaceReport) -> String {
    let heads = [
        "way",
        "clients",
        "wanted",
        "attempts",
        "conflicts",
        "retries",
        "sent twice",
        "refused",
        "accepted",
        "a second",
    ];
    let sums = ["told", "held", ""];
    let columns: Vec<(&str, Side)> = heads
        .iter()
        .chain(&sums)
        .map(|head| (*head, if *head == "way" { Side::Left } else { Side::Right }))
        .collect();
    let mut table = Table::new(&columns);
    for way in &report.ways {
        let counts = [
            way.clients,
            way.wanted,
            way.attempts,
            way.conflicts,
            way.retries,
            way.sent_twice,
            way.refused,
            way.accepted,
        ];
        let rate = Decimal::from((way.wanted as f64 / way.seconds.max(1e-3)) as u64);
        let cells = [way.way.to_owned()].into_iter();
        let cells = cells.chain(counts.map(|count| number(Decimal::from(count), 0)));
        let sums = [number(rate, 0), number(way.expected.into(), 0), number(way.held.into(), 0)];
        let verdict = if way.is_exact() { "exact" } else { "WRONG" };
        table.row(cells.chain(sums).chain([verdict.to_owned()]));
    }
    format!("\n{table}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(expected: i64, held: i64, accepted: usize, facts: i64) -> Way {
        Way { way: "orders", expected, held, accepted, facts, ..Way::default() }
    }

    #[test]
    fn a_sum_is_exact_only_if_units_and_facts_agree() {
        assert!(way(3, 3, 2, 2).is_exact());
        assert!(!way(3, 2, 2, 2).is_exact());
        assert!(!way(3, 3, 2, 3).is_exact());
    }

    #[test]
    fn the_table_says_which_sum_is_wrong() {
        let report = RaceReport { base_url: String::new(), ways: vec![way(3, 3, 1, 1), way(3, 4, 1, 1)] };
        let text = render_race(&report);
        assert!(text.contains("exact") && text.contains("WRONG") && !report.is_exact(), "{text}");
    }
}
