//! Contests: many clients at once want what only some of them can have, through every api, while processes die.
//!
//! Everybody sends until there is an answer, so at the end it is known who won, and the count has to be exact.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use uuid::Uuid;

use crate::caller::{Answer, Caller, Request, Seen};

/// Clients that send a command for the same version.
const RIVALS: usize = 20;
/// Clients that sell one unit each.
const SELLERS: usize = 50;
const HELD: usize = 10;
const PAUSE: Duration = Duration::from_millis(700);

/// How many were held.
#[derive(Debug, Default)]
pub struct Held {
    pub conflicts: AtomicUsize,
    pub oversells: AtomicUsize,
}

/// Holds contests until stopped, in a portfolio of its own each.
pub async fn run(
    addresses: Vec<SocketAddr>,
    seed: u64,
    seen: Arc<Seen>,
    held: Arc<Held>,
    stop: Arc<AtomicBool>,
) {
    let mut callers: Vec<Caller> =
        (0..SELLERS as u64).map(|n| Caller::new(&addresses, seed ^ (n << 32), Arc::clone(&seen))).collect();
    let host = &mut callers[0];
    let investor = json!({"name": "Contest", "email": format!("{}@example.invalid", Uuid::now_v7())});
    let investor = host.create("/v1/investors", investor).await;
    let listing = json!({"symbol": format!("RARE{}", host.below(1_000_000)), "name": "Rare", "class": "equity", "currency": "USD"});
    let asset = host.create("/v1/assets", listing).await;
    while !stop.load(Ordering::Relaxed) {
        let opening =
            json!({"investor_id": investor, "name": "Contest", "base_currency": "USD", "cash": "untracked"});
        let portfolio = callers[0].create("/v1/portfolios", opening).await;
        let path = format!("/v1/portfolios/{portfolio}");
        conflict(&mut callers[..RIVALS], &path, &asset).await;
        held.conflicts.fetch_add(1, Ordering::Relaxed);
        oversell(&mut callers, &path, &asset).await;
        held.oversells.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

/// All want to buy on the same version: one does.
async fn conflict(callers: &mut [Caller], path: &str, asset: &str) {
    let trade = json!({"asset": asset, "quantity": HELD.to_string(), "price": "5"});
    let answers = all(callers, &format!("{path}/buy"), trade, Some(1)).await;
    let won: Vec<_> = answers.iter().filter(|(_, answer)| answer.is_accepted()).collect();
    assert_eq!(won.len(), 1, "of {RIVALS} conflicting commands one wins: {won:?}");
    assert_eq!(won[0].1.version(), 2, "an accepted command follows the version it named: {won:?}");
    let lost = answers.iter().filter(|(_, answer)| !answer.is_accepted());
    for (request, answer) in lost {
        assert_eq!(answer.status, 412, "a command for an old version is told so: {request:?}: {answer:?}");
        assert!(answer.body["current_version"].as_i64() >= Some(2), "{answer:?}");
    }
}

/// All want to sell one unit: as many do as are held, no more and no less.
async fn oversell(callers: &mut [Caller], path: &str, asset: &str) {
    let trade = json!({"asset": asset, "quantity": "1", "price": "7"});
    let answers = all(callers, &format!("{path}/sell"), trade, None).await;
    let mut versions: Vec<i64> = answers
        .iter()
        .filter(|(_, answer)| answer.is_accepted())
        .map(|(_, answer)| answer.version())
        .collect();
    versions.sort_unstable();
    let expected: Vec<i64> = (3..3 + HELD as i64).collect();
    assert_eq!(
        versions, expected,
        "of {SELLERS} who sell one of {HELD} units as many do as there are, each its version"
    );
    for (request, answer) in answers.iter().filter(|(_, answer)| !answer.is_accepted()) {
        assert_eq!(answer.body["type"], "/problems/insufficient-holding", "{request:?}: {answer:?}");
    }
}

async fn all(
    callers: &mut [Caller],
    path: &str,
    body: serde_json::Value,
    if_match: Option<i64>,
) -> Vec<(Request, Answer)> {
    let sending = callers.iter_mut().map(|caller| {
        let request = Request { if_match, ..caller.request(path, body.clone()) };
        async move {
            let answer = caller.send(&request).await;
            (request, answer)
        }
    });
    join_all(sending).await
}
