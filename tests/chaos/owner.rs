//! A client that knows exactly what its portfolio holds, because nobody else writes it and it sends one command after the
//! other: so it knows what must be accepted, what must be refused, and what a read must show.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use insight::clock::Clock;
use rust_decimal::Decimal;
use serde_json::json;
use uuid::Uuid;

use crate::caller::{Answer, Caller, Seen};

const PAUSE: Duration = Duration::from_millis(15);
/// Commands after which it opens another portfolio, so that no history grows for ever.
const COMMANDS: usize = 1_500;

/// How many reads were held against what is known.
#[derive(Debug, Default)]
pub struct Compared {
    pub commands: AtomicUsize,
    pub reads: AtomicUsize,
    /// Reads that were told that their place is not visible yet: an honest answer.
    pub not_yet: AtomicUsize,
}

/// What the portfolio holds, in whole units and US dollars.
struct Ledger {
    version: i64,
    held: i64,
    cash: i64,
    /// Of the last change.
    place: String,
    /// The newest version that a read has shown.
    shown: i64,
}

/// Buys, sells and looks until stopped.
pub async fn run(
    addresses: Vec<SocketAddr>,
    seed: u64,
    seen: Arc<Seen>,
    compared: Arc<Compared>,
    stop: Arc<AtomicBool>,
) {
    let mut caller = Caller::new(&addresses, seed, seen);
    caller.read_within = Duration::from_secs(5);
    let investor = json!({"name": "Owner", "email": format!("{}@example.invalid", Uuid::now_v7())});
    let investor = caller.create("/v1/investors", investor).await;
    let symbol = format!("OWN{}", Uuid::from_bytes(rand::RngExt::random(&mut caller.random)).simple());
    let listing =
        json!({"symbol": symbol[..15].to_uppercase(), "name": "Owned", "class": "equity", "currency": "USD"});
    let asset = caller.create("/v1/assets", listing).await;
    let day = Clock::System.now().date_naive().to_string();
    while !stop.load(Ordering::Relaxed) {
        let opening = json!({"investor_id": investor, "name": "Own", "base_currency": "USD", "cash": "tracked", "time_zone": "UTC"});
        let opened = caller.command("/v1/portfolios", opening).await;
        assert_eq!(opened.status, 201, "{}", opened.body);
        let path = format!("/v1/portfolios/{}", opened.id());
        let mut ledger = Ledger { version: 1, held: 0, cash: 0, place: opened.place(), shown: 0 };
        for _ in 0..COMMANDS {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            ledger.act(&mut caller, &path, &asset, &day).await;
            compared.commands.fetch_add(1, Ordering::Relaxed);
            if caller.below(3) == 0 {
                ledger.look(&mut caller, &path, &compared).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Ledger {
    /// Does something whose outcome is certain.
    async fn act(&mut self, caller: &mut Caller, path: &str, asset: &str, day: &str) {
        let price = 1 + caller.below(9) as i64;
        let some = 1 + caller.below(20) as i64;
        let trade = |quantity: i64| json!({"asset": asset, "quantity": quantity.to_string(), "price": price.to_string(), "trade_date": day});
        let money = |amount: i64| json!({"amount": amount.to_string(), "currency": "USD", "trade_date": day});
        // What is done, what it changes, and why it would be refused.
        let (action, body, held, cash, refusal) = match caller.below(12) {
            0..=2 => ("deposit", money(some * 10), 0, some * 10, None),
            3 if self.cash > 0 => ("withdraw", money(1), 0, -1, None),
            4 => ("withdraw", money(self.cash + some), 0, 0, Some("insufficient-cash")),
            5 => ("buy", trade(self.cash / price + some), 0, 0, Some("insufficient-cash")),
            6 => ("sell", trade(self.held + some), 0, 0, Some("insufficient-holding")),
            7..=9 if self.cash >= price => {
                let units = some.min(self.cash / price);
                ("buy", trade(units), units, -units * price, None)
            }
            _ if self.held > 0 => {
                let units = some.min(self.held);
                ("sell", trade(units), -units, units * price, None)
            }
            _ => ("deposit", money(some), 0, some, None),
        };
        let answer = caller.command(format!("{path}/{action}"), body.clone()).await;
        let told = format!("{action} {body} with {} held, {} in cash: {answer:?}", self.held, self.cash);
        match refusal {
            None => {
                assert_eq!(answer.status, 201, "nothing is refused that is certainly possible: {told}");
                self.version += 1;
                assert_eq!(answer.version(), self.version, "versions follow one another: {told}");
                self.place = answer.place();
                (self.held, self.cash) = (self.held + held, self.cash + cash);
            }
            Some(problem) => {
                assert_eq!(
                    answer.body["type"],
                    format!("/problems/{problem}"),
                    "no more leaves than is there: {told}"
                );
            }
        }
    }

    /// Reads what was just written, or whatever there is.
    async fn look(&mut self, caller: &mut Caller, path: &str, compared: &Compared) {
        let must_see = caller.below(3) > 0;
        let wanted =
            if must_see { format!("?min_position={}&max_wait_ms=3000", self.place) } else { String::new() };
        let answer = caller.read(&format!("{path}/holdings{wanted}")).await;
        if answer.status != 200 {
            assert!(
                answer.status == 504 || (!must_see && self.shown == 0),
                "a read is as old as it says: {answer:?}"
            );
            compared.not_yet.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let version = answer.version();
        assert!(version >= self.shown, "a read never goes back: version {version} after {}", self.shown);
        assert!(version <= self.version, "a read shows nothing that was never written: {answer:?}");
        self.shown = version;
        if must_see {
            assert_eq!(
                version, self.version,
                "a read that names a place has seen it ({}): {answer:?}",
                self.place
            );
        }
        if version == self.version {
            let told = format!("{} held and {} in cash at {}: {answer:?}", self.held, self.cash, self.place);
            let shown = (amount(&answer, "holdings", "quantity"), amount(&answer, "cash", "balance"));
            assert_eq!(
                shown,
                (self.held.into(), self.cash.into()),
                "a read shows what was acknowledged: {told}"
            );
        }
        compared.reads.fetch_add(1, Ordering::Relaxed);
    }
}

/// The only row's amount; zero where there is no row.
fn amount(answer: &Answer, list: &str, field: &str) -> Decimal {
    let row = answer.body[list].as_array().and_then(|rows| rows.first());
    row.and_then(|row| row[field].as_str()).map_or(Decimal::ZERO, |text| text.parse().expect("a decimal"))
}
