//! What rows act upon: assets, one investor, portfolios. Made over HTTP, once a row.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{Answer, Connection};

/// Assets that every world has.
pub const ASSETS: usize = 20;
const OPENED_AT_ONCE: usize = 32;
const VISIBLE_WITHIN: Duration = Duration::from_secs(120);

/// What a command is answered with, as far as rows need it.
#[derive(Deserialize)]
pub struct Accepted {
    /// Of what was created or changed.
    pub id: String,
    /// What `min_position` takes.
    pub place: String,
}

/// What is said of a portfolio (`holdings`, `risk`, …), once it reflects what was done at this place.
pub async fn read_at(
    connection: &mut Connection,
    portfolio: &str,
    what: &str,
    place: &str,
) -> anyhow::Result<Answer> {
    let path = format!("/v1/portfolios/{portfolio}/{what}?min_position={place}&max_wait_ms=10000");
    let since = Instant::now();
    loop {
        let answer = connection.get(&path).await?;
        match answer.status {
            200 => return Ok(answer),
            // Not yet, and the server waits no longer in one go.
            504 if since.elapsed() < VISIBLE_WITHIN => {}
            _ => drop(answer.json::<Value>()?),
        }
    }
}

/// Ids of what there is.
pub struct World {
    /// Symbols.
    pub assets: Vec<String>,
    /// Portfolio ids.
    pub portfolios: Arc<[String]>,
}

impl World {
    /// Lists the assets and opens so many portfolios.
    pub async fn make(port: u16, portfolios: usize) -> anyhow::Result<Self> {
        let mut connection = Connection::open(port).await?;
        let assets: Vec<String> = (0..ASSETS).map(|number| format!("B{number:03}")).collect();
        for symbol in &assets {
            let body = json!({ "symbol": symbol, "name": symbol, "class": "equity", "currency": "USD" });
            connection
                .post("/v1/assets", &format!("asset-{symbol}"), &body.to_string())
                .await?
                .json::<Accepted>()?;
        }
        let investor = json!({ "name": "Bench", "email": "bench@example.com" }).to_string();
        let investor: Accepted = connection.post("/v1/investors", "investor", &investor).await?.json()?;
        let openers = (0..OPENED_AT_ONCE).map(|opener| {
            let investor = investor.id.clone();
            async move {
                let mut connection = Connection::open(port).await?;
                let mut opened = Vec::new();
                for number in (opener..portfolios).step_by(OPENED_AT_ONCE) {
                    let body =
                        json!({ "investor_id": investor, "name": format!("Bench {number}"), "base_currency": "USD" });
                    let key = format!("portfolio-{number}");
                    let answer = connection.post("/v1/portfolios", &key, &body.to_string()).await?;
                    opened.push(answer.json::<Accepted>()?.id);
                }
                anyhow::Ok(opened)
            }
        });
        let opened = futures::future::try_join_all(openers).await?;
        Ok(Self { assets, portfolios: opened.concat().into() })
    }

    /// The body of a small buy.
    pub fn buy(&self, number: usize) -> String {
        let (quantity, cents) = (1 + number % 9, 100 + number % 900);
        json!({
            "asset": self.assets[number % self.assets.len()],
            "quantity": quantity.to_string(),
            "price": format!("10.{cents}"),
            "fee": "1",
            "trade_date": "2020-03-02",
        })
        .to_string()
    }
}
