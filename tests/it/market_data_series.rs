//! Closes: what a series is, how it is told anew, and days that go on.

use insight::market_data::{Request, What};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;
use crate::market_data::{Desk, bars, day, fetcher, reason, request, sources};
use crate::provider::{Say, yahoo_history};

#[tokio::test(flavor = "multi_thread")]
async fn closes_are_a_series_of_their_own_that_says_what_it_is_corrected_for() {
    let desk = Desk::new("", |_| Say::status(404)).await;
    desk.service.asset("AAPL").await;
    let answer = |closes: &[(u64, &str)]| [Say::body(yahoo_history("AAPL", &bars(closes)))];
    desk.provider.script("/AAPL?", answer(&[(0, "12.5")]));
    let summary = desk.fetch(What::History, &["AAPL"]).await;
    assert!(reason(&summary, "AAPL").starts_with("tells only of a day that is not over"), "{summary}");
    desk.provider.script("/AAPL?", answer(&[(3, "10"), (2, "11"), (1, "12"), (0, "12.5")]));
    let summary = desk.fetch(What::History, &["AAPL"]).await;
    assert_eq!((summary.prices, summary.refused.len()), (3, 0), "today is not over: {summary}");
    assert_eq!(desk.fetch(What::History, &["AAPL"]).await.unchanged, 1);
    // There, back, and there again: each is a change.
    for close in ["11.5", "11", "11.5"] {
        desk.provider.script("/AAPL?", answer(&[(3, "10"), (2, close), (1, "12")]));
        assert_eq!(desk.fetch(What::History, &["AAPL"]).await.prices, 1, "{close}");
    }
    let closes = desk.get("/v1/assets/AAPL/prices?source=yahoo.splits").await;
    assert_eq!(closes["items"][1]["day"], day(2));
    assert_eq!(closes["items"][1]["price"], "11.5");
    let ranked = desk.events("PriceSourcesRanked").await;
    assert_eq!(ranked.len(), 1);
    assert_eq!(ranked[0]["sources"], json!([{"source": "yahoo.splits", "adjustment": "splits"}]));

    desk.service.asset("MIXED").await;
    let ranking = json!({"sources": [{"source": "yahoo.splits", "adjustment": "none"}]});
    assert_eq!(desk.service.post("/v1/assets/MIXED/sources", ranking).await.status, 201);
    let summary = desk.fetch(What::History, &["MIXED"]).await;
    assert!(reason(&summary, "MIXED").contains("they never mix"), "{summary}");
    desk.assert_rows_are_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_that_is_told_anew_is_taken_as_a_whole_or_asked_about_once() {
    const DAYS: u64 = 20;
    let desk = Desk::new("", |_| Say::status(404)).await;
    desk.service.asset("AAPL").await;
    let script = |times: f64, newest: u64| {
        let close = |days_ago: u64| (days_ago, format!("{:.4}", (100.0 + (DAYS - days_ago) as f64) * times));
        let closes: Vec<(u64, String)> = (newest..=DAYS).rev().map(close).collect();
        let closes: Vec<(u64, &str)> = closes.iter().map(|(ago, close)| (*ago, close.as_str())).collect();
        desk.provider.script("/AAPL?", [Say::body(yahoo_history("AAPL", &bars(&closes)))]);
    };
    let prices = || async {
        let closes = desk.get("/v1/assets/AAPL/prices?source=yahoo.splits&limit=100").await;
        let items = closes["items"].as_array().unwrap().clone();
        let mut prices: Vec<f64> =
            items.iter().map(|item| item["price"].as_str().unwrap().parse().unwrap()).collect();
        prices.sort_by(f64::total_cmp);
        prices
    };
    script(1.0, 3);
    assert_eq!(desk.fetch(What::History, &["AAPL"]).await.prices, DAYS - 2);
    // A dividend: every close is a little lower, also those that are no more asked for otherwise.
    script(0.99, 2);
    let summary = desk.fetch(What::History, &["AAPL"]).await;
    assert_eq!((summary.prices, summary.held), (DAYS - 1, 0), "{summary}");
    assert_eq!(prices().await[0], 99.0);
    // A split: one question for the whole series, however often it is fetched.
    script(0.0495, 1);
    for _ in 0..3 {
        let summary = desk.fetch(What::History, &["AAPL"]).await;
        assert_eq!((summary.prices, summary.held), (0, 1), "{summary}");
    }
    assert_eq!(desk.events("PriceHeld").await.len(), 1);
    assert_eq!(prices().await[0], 99.0, "nothing of it is taken before somebody says so");
    let held = desk.get("/v1/prices/held").await;
    let path = format!("/v1/prices/held/{}/accept", held["items"][0]["id"].as_str().unwrap());
    let before = prices().await;
    assert_eq!(desk.service.post(&path, json!({})).await.status, 201);
    assert_eq!(prices().await, before, "nor is a part of it, when somebody has");
    let summary = desk.fetch(What::History, &["AAPL"]).await;
    assert_eq!((summary.prices, summary.held, summary.refused.len()), (DAYS, 0, 0), "{summary}");
    let prices = prices().await;
    assert_eq!((prices.len() as u64, prices[0]), (DAYS, 4.95));
    assert!(prices[prices.len() - 1] < 6.0, "no close of before is left: {prices:?}");
    assert_eq!(desk.fetch(What::History, &["AAPL"]).await.unchanged, 1);
    desk.assert_rows_are_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_was_killed_while_it_took_a_long_split_is_finished_by_the_next() {
    const DAYS: u64 = 1_500;
    const TAKEN: u64 = 1_000;
    let desk = Desk::new("", |_| Say::status(404)).await;
    desk.service.asset("AAPL").await;
    let closes = |times: f64| {
        let close =
            move |days_ago: u64| (days_ago, format!("{:.4}", (100.0 + (days_ago % 7) as f64) * times));
        (1..=DAYS).rev().map(close).collect::<Vec<(u64, String)>>()
    };
    let script = |times: f64| {
        let closes = closes(times);
        let closes: Vec<(u64, &str)> = closes.iter().map(|(ago, close)| (*ago, close.as_str())).collect();
        desk.provider.script("/AAPL?", [Say::body(yahoo_history("AAPL", &bars(&closes)))]);
    };
    script(1.0);
    let since = day(DAYS).parse().ok();
    let all = Request { since, ..request(What::History, &["AAPL"]) };
    let summary = desk.fetcher.fetch(all, |_, _| {}, CancellationToken::new()).await.unwrap();
    assert_eq!(summary.prices, DAYS, "{summary}");
    script(0.05);
    assert_eq!(desk.fetch(What::History, &["AAPL"]).await.held, 1);
    let held = desk.get("/v1/prices/held").await;
    let path = format!("/v1/prices/held/{}/accept", held["items"][0]["id"].as_str().unwrap());
    assert_eq!(desk.service.post(&path, json!({})).await.status, 201);
    // Its first event, which is all that it has appended.
    let taken = closes(0.05).into_iter().take(TAKEN as usize);
    let taken = taken.map(
        |(ago, price)| json!({"asset": "AAPL", "day": day(ago), "price": price, "source": "yahoo.splits"}),
    );
    let posted = desk.service.post("/v1/prices", json!({"prices": taken.collect::<Vec<_>>()})).await;
    assert_eq!((posted.status, posted.body["accepted"].as_u64()), (200, Some(TAKEN)), "{}", posted.body);
    let summary = desk.fetch(What::History, &["AAPL"]).await;
    assert_eq!((summary.prices, summary.held, summary.refused.len()), (DAYS - TAKEN, 0, 0), "{summary:?}");
    assert_eq!(desk.fetch(What::History, &["AAPL"]).await.unchanged, 1);
    desk.assert_rows_are_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_since_does_not_hide_that_a_series_is_told_anew() {
    let desk = Desk::new("", |_| Say::status(404)).await;
    let settings = format!(
        "{}[sources.stooq]\nbase_url = \"http://{}\"\nrequests_per_minute = 0\n",
        sources(&desk.provider, ""),
        desk.provider.address
    );
    let ledger = Ledger::start(&desk.database);
    let fetcher = fetcher(&desk.database, &ledger, &settings);
    desk.service.asset("KO").await;
    let script = |times: f64, newest: u64| {
        let line = |ago: u64| format!("{},{:.4}\n", day(ago), (60.0 + ago as f64 / 10.0) * times);
        let lines: String = (newest..=20).rev().map(line).collect();
        desk.provider.script("/q/d/l/?s=ko.us", [Say::body(format!("Date,Close\n{lines}"))]);
    };
    let fetch = |since: Option<u64>| {
        let since = since.and_then(|ago| day(ago).parse().ok());
        let wanted = Request { source: Some("stooq".into()), since, ..request(What::History, &["KO"]) };
        fetcher.fetch(wanted, |_, _| {}, CancellationToken::new())
    };
    script(1.0, 12);
    assert_eq!(fetch(None).await.unwrap().prices, 9);
    // A dividend since then, and somebody who wants yesterday alone.
    script(0.99, 1);
    let summary = fetch(Some(1)).await.unwrap();
    assert_eq!((summary.prices, summary.refused.len()), (20, 0), "{summary:?}");
    desk.assert_rows_are_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_a_day_that_goes_on_is_not_recognised() {
    let body = yahoo_history("AAPL", &bars(&[(2, "10"), (1, "11"), (0, "12")]));
    let desk = Desk::new("", move |asked| {
        if asked.headers.contains_key("if-none-match") {
            return Say::status(304);
        }
        Say::Body(body.clone(), vec![("etag", "\"one\"".to_owned())])
    })
    .await;
    desk.service.asset("AAPL").await;
    for prices in [2, 0, 0] {
        assert_eq!(desk.fetch(What::History, &["AAPL"]).await.prices, prices);
    }
    let asked = desk.provider.asked("/AAPL?");
    assert!(
        asked.iter().all(|asked| !asked.headers.contains_key("if-none-match")),
        "today's close is to come"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_price_never_returns_over_a_correction_and_one_that_is_told_again_is_asked_about_again() {
    let desk = Desk::new("", |_| Say::status(404)).await;
    for symbol in ["AAPL", "AGAIN"] {
        desk.service.asset(symbol).await;
    }
    let script = |symbol: &str, closes: &[(u64, &str)]| {
        desk.provider.script(&format!("/{symbol}?"), [Say::body(yahoo_history(symbol, &bars(closes)))]);
    };
    let settle = |id: String, word: &'static str| {
        let service = &desk.service;
        async move { service.post(&format!("/v1/prices/held/{id}/{word}"), json!({})).await }
    };
    let id = |held: &Value| held["items"][0]["id"].as_str().unwrap().to_owned();
    script("AAPL", &[(3, "100"), (2, "250")]);
    assert_eq!(desk.fetch(What::History, &["AAPL"]).await.held, 1);
    let held = id(&desk.get("/v1/prices/held").await);
    script("AAPL", &[(3, "100"), (2, "101")]);
    let summary = desk.fetch(What::History, &["AAPL"]).await;
    assert_eq!((summary.prices, summary.held), (1, 0), "{summary}");
    assert_eq!(desk.get("/v1/prices/held").await["items"].as_array().unwrap().len(), 0);
    assert_eq!(settle(held, "accept").await.status, 409, "too late");

    script("AGAIN", &[(3, "100"), (2, "250")]);
    assert_eq!(desk.fetch(What::History, &["AGAIN"]).await.held, 1);
    let held = id(&desk.get("/v1/prices/held").await);
    assert_eq!(settle(held.clone(), "accept").await.status, 201);
    // Corrected, which is a question too; and then told again as it was before.
    script("AGAIN", &[(3, "100"), (2, "101")]);
    assert_eq!(desk.fetch(What::History, &["AGAIN"]).await.held, 1);
    let correction = id(&desk.get("/v1/prices/held").await);
    assert_eq!(settle(correction, "accept").await.status, 201);
    script("AGAIN", &[(3, "100"), (2, "250")]);
    assert_eq!(desk.fetch(What::History, &["AGAIN"]).await.held, 1);
    let again = id(&desk.get("/v1/prices/held").await);
    assert_ne!(again, held, "there is a question to answer");
    assert_eq!(settle(again, "dismiss").await.status, 201);
    assert!(desk.fetch(What::History, &["AGAIN"]).await.is_complete());
    desk.assert_rows_are_right().await;
}
