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
    portfolio: String,
}

impl Trader {
    /// Registers, lists an asset and opens a portfolio.
    pub async fn start(address: SocketAddr) -> Self {
        let mut client = Self {
            http: http().build().unwrap(),
            base: format!("http://{address}/v1"),
            portfolio: String::new(),
        };
        let email = format!("{}@example.invalid", Uuid::now_v7());
        let investor = client.post("investors", json!({"name": "Example", "email": email})).await;
        let asset = json!({"symbol": "AAA", "name": "A", "class": "equity", "currency": "USD"});
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
            let buy = json!({"asset": "AAA", "quantity": "1", "price": "10.5"});
            self.post(&format!("{portfolio}/buy"), buy).await;
            let price = json!({"asset": "AAA", "price": format!("{}", 10 + n), "day": "2026-01-05", "source": "manual"});
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
