//! A provider that breaks: what is asked again, when, and what is left alone.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use chrono::Utc;
use insight::market_data::What;
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;
use crate::market_data::{Desk, ago, fetcher, reason, request, sources};
use crate::provider::{Say, yahoo_quote, yahoo_symbol};

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_a_moment_is_asked_again_as_the_provider_wishes() {
    let at = ago(60);
    let desk =
        Desk::new("", move |asked| Say::body(yahoo_quote(&yahoo_symbol(asked), "USD", "100", at))).await;
    let good = |symbol: &str| Say::body(yahoo_quote(symbol, "USD", "100", at));
    let later = |after: String| Say::Status(429, vec![("retry-after", after)]);
    for (symbol, says) in [
        ("FAULT", vec![Say::status(500), Say::status(503), good("FAULT")]),
        ("RESET", vec![Say::Reset, good("RESET")]),
        ("SECONDS", vec![later("1".into()), good("SECONDS")]),
        ("LONG", vec![later("3600".into()), good("LONG")]),
        ("NEVER", vec![Say::status(500)]),
    ] {
        desk.service.asset(symbol).await;
        desk.provider.script(&format!("/{symbol}?"), says);
    }
    let began = Instant::now();
    let summary = desk.fetch(What::Quotes, &["FAULT", "RESET", "NEVER"]).await;
    assert_eq!((summary.fetched, summary.retried), (2, 5));
    assert_eq!(reason(&summary, "NEVER"), "answers 500 (asked 3 times)");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    desk.service.asset("DATE").await;
    for (symbol, least) in [("SECONDS", 1_000), ("DATE", 1_500)] {
        // A date has whole seconds: of these four at least three are still to come. What is drawn is far less than either.
        let date = (Utc::now() + Duration::from_secs(4)).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        desk.provider.script("/DATE?", [later(date), good("DATE")]);
        let began = Instant::now();
        assert_eq!(desk.fetch(What::Quotes, &[symbol]).await.retried, 1);
        let waited = began.elapsed();
        assert!(
            waited >= Duration::from_millis(least) && waited < Duration::from_secs(8),
            "{symbol}: {waited:?}"
        );
    }
    assert_eq!(desk.fetch(What::Quotes, &["FAULT"]).await.unchanged, 1);
    let summary = desk.fetch(What::Quotes, &["LONG"]).await;
    assert_eq!(reason(&summary, "LONG"), "is asked too often (429) and asks to come back in 3600 s");
    let asked = desk.provider.asked("").len();
    let summary = desk.fetch(What::Quotes, &["FAULT"]).await;
    assert!(reason(&summary, "FAULT").starts_with("asks not to be asked for another 3"), "{summary}");
    assert_eq!(desk.provider.asked("").len(), asked, "and nobody asks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_away_costs_a_moment_and_not_one_for_each_symbol() {
    let settings = "";
    let desk = Desk::new(settings, |_| Say::Reset).await;
    let ledger = Ledger::start(&desk.database);
    let sources =
        sources(&desk.provider, "").replace("failures_max = 1000", "failures_max = 5\nrest_ms = 200");
    let fetcher = fetcher(&desk.database, &ledger, &sources.replace("concurrency = 50", "concurrency = 10"));
    let symbols: Vec<String> = (0..200).map(|n| format!("B{n}")).collect();
    for symbol in &symbols {
        desk.service.asset(symbol).await;
    }
    let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
    let began = Instant::now();
    let fetched = fetcher.fetch(request(What::Quotes, &symbols), |_, _| {}, CancellationToken::new());
    let summary = fetched.await.unwrap();
    assert_eq!(summary.refused.len(), 200);
    assert!(reason(&summary, "B199").contains("is away"), "{}", reason(&summary, "B199"));
    assert!(desk.provider.asked("").len() < 100, "{} requests", desk.provider.asked("").len());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_comes_back_costs_no_symbol() {
    const SYMBOLS: usize = 40;
    let (at, first) = (ago(60), OnceLock::<Instant>::new());
    let desk = Desk::new("", move |asked| {
        // Away for a moment, which is longer than one rest.
        if first.get_or_init(Instant::now).elapsed() < Duration::from_millis(300) {
            return Say::Reset;
        }
        Say::body(yahoo_quote(&yahoo_symbol(asked), "USD", "100", at))
    })
    .await;
    let ledger = Ledger::start(&desk.database);
    let sources = sources(&desk.provider, "")
        .replace("failures_max = 1000", "failures_max = 5\nrest_ms = 200")
        .replace("concurrency = 50", "concurrency = 10")
        .replace("attempts = 3", "attempts = 9");
    let fetcher = fetcher(&desk.database, &ledger, &sources);
    let symbols: Vec<String> = (0..SYMBOLS).map(|n| format!("C{n}")).collect();
    for symbol in &symbols {
        desk.service.asset(symbol).await;
    }
    let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
    let summary = fetcher.fetch(request(What::Quotes, &symbols), |_, _| {}, CancellationToken::new()).await;
    let summary = summary.unwrap();
    assert_eq!((summary.fetched, summary.refused.len()), (SYMBOLS as u64, 0), "{summary}");
    let asked = desk.provider.asked("").len();
    assert_eq!(asked, SYMBOLS + summary.retried as usize);
    assert!((5..30).contains(&summary.retried), "it was left alone meanwhile: {summary}");
    assert!(summary.took >= Duration::from_millis(300), "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_takes_no_longer_than_it_may() {
    let slow = || Say::After(Duration::from_secs(60), Box::new(Say::status(200)));
    let desk = Desk::new("total_seconds = 1", move |_| slow()).await;
    for symbol in ["ONE", "TWO"] {
        desk.service.asset(symbol).await;
    }
    let summary = desk.fetch(What::Quotes, &["ONE", "TWO"]).await;
    for symbol in ["ONE", "TWO"] {
        let reason = reason(&summary, symbol);
        assert_eq!(reason, "was not asked in time: the fetch has taken as long as it may");
    }
    let range = Duration::from_millis(950)..Duration::from_secs(4);
    assert!(range.contains(&summary.took), "{summary}");
}
