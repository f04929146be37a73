//! One person with one portfolio, over HTTP: for tests that need to know what was told to whom.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::processes::http;

/// Somebody with a portfolio.
pub struct Trader {
    http: reqwest::Client,
    base: String,
    symbol: String,
    portfolio: String,
}

impl Trader {
    /// Registers, lists an asset and opens a portfolio.
    pub async fn start(address: SocketAddr) -> Self {
        Self::start_on(address, "AAA").await
    }

    /// The same with an asset of this symbol.
    pub async fn start_on(address: SocketAddr, symbol: &str) -> Self {
        let mut client = Self {
            http: http().build().unwrap(),
            base: format!("http://{address}/v1"),
            symbol: symbol.to_owned(),
            portfolio: String::new(),
        };
        let email = format!("{}@example.invalid", Uuid::now_v7());
        let investor = client.post("investors", json!({"name": "Example", "email": email})).await;
        let asset = json!({"symbol": symbol, "name": "A", "class": "equity", "currency": "USD"});
        client.post("assets", asset).await;
        let opening =
            json!({"investor_id": investor["id"], "name": "P", "base_currency": "USD", "cash": "tracked"});
        let opened = client.post("portfolios", opening).await;
        client.portfolio = opened["id"].as_str().unwrap().to_owned();
        client
    }

    /// Deposits once; how long the answer took.
    pub async fn deposit(&self) -> Duration {
        let began = Instant::now();
        let deposit = json!({"amount": "10", "currency": "USD"});
        self.post(&format!("portfolios/{}/deposit", self.portfolio), deposit).await;
        began.elapsed()
    }

    /// Posts so many prices as so many events, each body until it is stored.
    pub async fn post_prices(&self, count: usize) {
        // Of one body's prices, those of one source become one event.
        const SOURCES: usize = 1_000;
        for begin in (0..count).step_by(SOURCES) {
            let price = |n: usize| {
                let at = format!("2026-01-05T10:{:02}:00Z", begin / SOURCES);
                json!({"asset": self.symbol, "price": "10.5", "at": at, "source": format!("s{n}")})
            };
            let prices: Vec<_> = (0..SOURCES.min(count - begin)).map(price).collect();
            let (body, key) = (json!({"prices": prices}), Uuid::now_v7().to_string());
            let post = || {
                let posting = self.http.post(format!("{}/prices", self.base)).json(&body);
                posting.header("idempotency-key", &key).send()
            };
            while !post().await.unwrap().status().is_success() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let sent = self.http.post(format!("{}/{path}", self.base)).json(&body).send().await.unwrap();
        let (status, answer) = (sent.status(), sent.json::<Value>().await.unwrap());
        assert!(status.is_success(), "{status} to {path}: {answer}");
        answer
    }

    /// Deposits, buys and prices; the place of the last deposit.
    pub async fn trade(&self, times: usize) -> String {
        let mut place = String::new();
        for n in 0..times {
            let portfolio = format!("portfolios/{}", self.portfolio);
            let deposit = json!({"amount": format!("{}", 1_000 + n), "currency": "USD"});
            let deposited = self.post(&format!("{portfolio}/deposit"), deposit).await;
            place = deposited["place"].as_str().unwrap().to_owned();
            let buy = json!({"asset": self.symbol, "quantity": "1", "price": "10.5"});
            self.post(&format!("{portfolio}/buy"), buy).await;
            let price = json!({"asset": self.symbol, "price": format!("{}", 10 + n), "day": "2026-01-05", "source": "manual"});
            self.post("prices", json!({"prices": [price]})).await;
        }
        place
    }

    /// What is held, as of a place at least: status and body.
    pub async fn read_at(&self, place: &str) -> (u16, Value) {
        let path = format!("{}/portfolios/{}/holdings?min_position={place}", self.base, self.portfolio);
        let answer = self.http.get(path).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}
