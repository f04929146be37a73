//! Prices from outside: what comes of good answers, of nonsense, and of a provider that breaks.

use std::time::{Duration, Instant};

use chrono::{DateTime, Days, NaiveTime, Utc};
use insight::clock::Clock;
use insight::domain::ids::Position;
use insight::feed::{Source, StoreTail, WindowLimits};
use insight::market_data::{Fetcher, Parts, Request, Settings, Summary, What};
use insight::postgres::{self, Session};
use insight::projectors::rebuild::rebuild;
use insight::projectors::risk::Engine;
use insight::verify;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::environment::{self, TestDatabase};
use crate::ledger::Ledger;
use crate::provider::{Asked, Provider, Say, ecb_day, yahoo_history, yahoo_quote, yahoo_symbol};
use crate::read_models::{Projectors, dump, reached};
use crate::service::Service;

/// Quick where a test waits for a pause or a limit.
const QUICK: &str = "attempts = 3\npause_first_ms = 20\npause_max_ms = 3000\nattempt_ms = 1500\nread_ms = 700\n\
    failures_max = 1000\nrequests_per_minute = 0\nconcurrency = 50\nbody_bytes_max = 1000000\n";

/// The system over a database, and a provider that it asks.
pub struct Desk {
    pub service: Service,
    pub provider: Provider,
    pub fetcher: Fetcher,
    pub database: TestDatabase,
    _projectors: Projectors,
    _ledger: Ledger,
}

impl Desk {
    /// With these settings beside those of the provider, which is Yahoo and the central bank at once.
    pub async fn new(settings: &str, answers: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> Self {
        let database = environment::database().await;
        let provider = Provider::start(answers).await;
        let source = Source::Store(StoreTail::start(database.pool.clone(), WindowLimits::default()));
        let projectors = Projectors::start(&source, &database.pool).await;
        let (service, ledger) = (Service::start(&database), Ledger::start(&database));
        let fetcher = fetcher(&database, &ledger, &sources(&provider, settings));
        Self { service, provider, fetcher, database, _projectors: projectors, _ledger: ledger }
    }

    pub async fn fetch(&self, what: What, symbols: &[&str]) -> Summary {
        let fetched = self.fetcher.fetch(request(what, symbols), |_, _| {}, CancellationToken::new());
        fetched.await.unwrap()
    }

    /// The events of a type, as they stand in the log.
    pub async fn events(&self, event_type: &str) -> Vec<Value> {
        let sql = "select payload::text from events where event_type = $1 order by position";
        let payloads: Vec<String> =
            sqlx::query_scalar(sql).bind(event_type).fetch_all(&self.database.pool).await.unwrap();
        payloads.iter().map(|payload| serde_json::from_str(payload).unwrap()).collect()
    }

    pub async fn assert_rows_are_right(&self) {
        reached(&self.database.pool, self.head().await).await;
        let report = verify::verify(&self.database.pool).await.unwrap();
        assert!(report.is_clean(), "{report}");
    }

    async fn head(&self) -> Position {
        self.service.head().await
    }

    async fn get(&self, path: &str) -> Value {
        let separator = if path.contains('?') { '&' } else { '?' };
        let place = format!("1:{}", self.head().await);
        let answer =
            self.service.get(&format!("{path}{separator}min_position={place}&max_wait_ms=10000")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }
}

/// The text of a settings file.
pub fn sources(provider: &Provider, settings: &str) -> String {
    let base = format!("base_url = \"http://{}\"\n{QUICK}", provider.address);
    format!("{settings}\n[sources.yahoo]\n{base}\n[sources.ecb]\n{base}\n[sources.alphavantage]\n{base}")
}

pub fn fetcher(database: &TestDatabase, ledger: &Ledger, sources: &str) -> Fetcher {
    let key = |name: &str| (name == "ALPHAVANTAGE_API_KEY").then(|| "very-secret-key".to_owned());
    let settings = Settings::read(sources, key).unwrap();
    let parts = Parts {
        pool: database.pool.clone(),
        commands: ledger.commands.clone(),
        clock: Clock::System,
        settings,
    };
    Fetcher::open(parts).unwrap()
}

pub fn request(what: What, symbols: &[&str]) -> Request {
    let symbols = symbols.iter().map(|symbol| (*symbol).to_owned()).collect();
    Request { what, symbols, source: None, since: None, dry_run: false }
}

fn reason<'s>(summary: &'s Summary, symbol: &str) -> &'s str {
    let refused = summary.refused.iter().find(|refused| refused.symbol == symbol);
    refused
        .map(|refused| refused.reason.as_str())
        .unwrap_or_else(|| panic!("{symbol} is refused: {summary:?}"))
}

fn ago(seconds: i64) -> i64 {
    Utc::now().timestamp() - seconds
}

/// Noon of a day before today.
fn noon(days_ago: u64) -> i64 {
    let noon = NaiveTime::from_hms_opt(12, 0, 0).unwrap();
    Utc::now()
        .date_naive()
        .checked_sub_days(Days::new(days_ago))
        .unwrap()
        .and_time(noon)
        .and_utc()
        .timestamp()
}

fn day(days_ago: u64) -> String {
    Utc::now().date_naive().checked_sub_days(Days::new(days_ago)).unwrap().to_string()
}

fn bars(closes: &[(u64, &str)]) -> Vec<(i64, String)> {
    closes.iter().map(|(days_ago, close)| (noon(*days_ago), (*close).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_is_appended_once_with_its_source_and_the_providers_time() {
    let at = ago(60);
    let desk =
        Desk::new("", move |asked| Say::body(yahoo_quote(&yahoo_symbol(asked), "USD", "182.31", at))).await;
    desk.service.asset("AAPL").await;
    let dry = Request { dry_run: true, ..request(What::Quotes, &["AAPL"]) };
    let dry = desk.fetcher.fetch(dry, |_, _| {}, CancellationToken::new()).await.unwrap();
    assert_eq!((dry.fetched, dry.prices, desk.events("PricesObserved").await.len()), (1, 1, 0));

    let summary = desk.fetch(What::Quotes, &["AAPL", "NONE"]).await;
    assert_eq!((summary.asked, summary.fetched, summary.prices), (2, 1, 1));
    assert_eq!(reason(&summary, "NONE"), "is no asset here");
    assert!(!summary.is_complete());
    let events = desk.events("PricesObserved").await;
    let told: DateTime<Utc> = events[0]["ticks"][0]["at"].as_str().unwrap().parse().unwrap();
    assert_eq!((events[0]["source"].as_str(), told.timestamp()), (Some("yahoo"), at));

    let again = desk.fetch(What::Quotes, &["AAPL"]).await;
    assert_eq!((again.unchanged, again.prices, again.is_complete()), (1, 0, true));
    assert_eq!(desk.events("PricesObserved").await.len(), 1);
    assert_eq!(desk.get("/v1/assets/AAPL").await["price"]["price"], "182.31");
    desk.assert_rows_are_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fetches_of_the_same_answer_at_once_have_one_effect() {
    let at = ago(60);
    let desk =
        Desk::new("", move |asked| Say::body(yahoo_quote(&yahoo_symbol(asked), "USD", "10", at))).await;
    let symbols: Vec<String> = (0..30).map(|n| format!("A{n}")).collect();
    for symbol in &symbols {
        desk.service.asset(symbol).await;
    }
    let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
    let other_ledger = Ledger::start(&desk.database);
    let other = fetcher(&desk.database, &other_ledger, &sources(&desk.provider, ""));
    let fetches = (0..4).map(|n| {
        let fetcher = if n % 2 == 0 { &desk.fetcher } else { &other };
        fetcher.fetch(request(What::Quotes, &symbols), |_, _| {}, CancellationToken::new())
    });
    for summary in futures::future::join_all(fetches).await {
        assert!(summary.unwrap().is_complete());
    }
    assert_eq!(desk.events("PricesObserved").await.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_symbol_by_symbol_and_the_others_go_on() {
    let at = ago(60);
    let desk =
        Desk::new("", move |asked| Say::body(yahoo_quote(&yahoo_symbol(asked), "USD", "100", at))).await;
    let elsewhere = Provider::start(|_| Say::body(yahoo_quote("ELSE", "USD", "100", 0))).await;
    let told = |symbol: &str, currency: &str, price: &str, at: i64| {
        Say::body(yahoo_quote(symbol, currency, price, at))
    };
    let whole = yahoo_quote("HALF", "USD", "100", at);
    let cut = whole[..whole.len() / 2].to_owned();
    let to = |address: String| Say::Status(302, vec![("location", address)]);
    let cases = [
        ("ZERO", told("ZERO", "USD", "0", at), "tells the price 0"),
        ("MINUS", told("MINUS", "USD", "-5", at), "tells a negative price: \"-5\""),
        ("TEXT", told("TEXT", "USD", "\"soon\"", at), "tells a price that is no number"),
        ("TIMES", told("TIMES", "USD", "100000", at + 1), "the last price is 100"),
        ("AHEAD", told("AHEAD", "USD", "100", ago(-3_600)), "which is more than 5 minutes ahead"),
        ("EURO", told("EURO", "EUR", "100", at), "tells prices in \"EUR\", and the asset is in USD"),
        ("OTHER", told("ANOTHER", "USD", "100", at), "answers about \"ANOTHER\" instead of OTHER"),
        ("HALF", Say::Half(whole), "breaks off in the middle of its answer (asked 3 times)"),
        ("CUT", Say::body(cut), "answers with half a document"),
        (
            "HTML",
            Say::body("<!doctype html><html><body>We have moved</body></html>"),
            "answers with a web page",
        ),
        ("LARGE", Say::body(" ".repeat(10_000_000)), "answers with more than 1000000 bytes"),
        ("ENDLESS", Say::Endless, "answers with more than 1000000 bytes"),
        (
            "MOVED",
            to(format!("http://{}/x", elsewhere.address)),
            "sends us elsewhere (302), to \"http://127.0.0.1:",
        ),
        (
            "CIRCLE",
            to("/v8/finance/chart/CIRCLE".into()),
            "sends us elsewhere (302), to \"itself, again and again\"",
        ),
        (
            "SLOW",
            Say::After(Duration::from_secs(60), Box::new(Say::status(200))),
            "did not answer in time (asked 3 times)",
        ),
        ("RESET", Say::Reset, "(asked 3 times)"),
        ("GONE", Say::status(404), "knows no such symbol (404)"),
        ("SHUT", Say::status(403), "does not let us in (403)"),
        ("EMPTY", Say::body(""), "answers with half a document"),
        ("SHAPE", Say::body("{\"chart\":[]}"), "answers with JSON of another shape"),
    ];
    for symbol in ["GOOD", "FINE"].into_iter().chain(cases.iter().map(|(symbol, ..)| *symbol)) {
        desk.service.asset(symbol).await;
    }
    // Yesterday's price of the one that is to be a thousand times as much.
    assert_eq!(desk.fetch(What::Quotes, &["TIMES"]).await.prices, 1);
    for (symbol, say, _) in &cases {
        desk.provider.script(&format!("/{symbol}?"), [say.clone()]);
    }
    desk.provider.script("/chart/CIRCLE", [cases[13].1.clone()]);
    let mut symbols: Vec<&str> = cases.iter().map(|(symbol, ..)| *symbol).collect();
    symbols.extend(["GOOD", "FINE"]);
    let head = desk.head().await;
    let summary = desk.fetch(What::Quotes, &symbols).await;
    for (symbol, _, expected) in &cases {
        assert!(reason(&summary, symbol).contains(expected), "{symbol}: {}", reason(&summary, symbol));
    }
    assert_eq!((summary.refused.len(), summary.fetched, summary.prices), (cases.len(), 2, 2));
    assert_eq!(desk.head().await, Position(head.0 + 2), "nothing is invented");
    assert!(elsewhere.asked("").is_empty(), "nobody followed");
    assert_eq!(desk.provider.asked("/GONE?").len(), 1, "what will not change is asked once");
    desk.assert_rows_are_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_a_moment_is_asked_again_as_the_provider_wishes() {
    let at = ago(60);
    let desk =
        Desk::new("", move |asked| Say::body(yahoo_quote(&yahoo_symbol(asked), "USD", "100", at))).await;
    let good = |symbol: &str| Say::body(yahoo_quote(symbol, "USD", "100", at));
    let later = |after: String| Say::Status(429, vec![("retry-after", after)]);
    // A date has whole seconds: at least one of the two is still to come.
    let date = (Utc::now() + Duration::from_secs(2)).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    for (symbol, says) in [
        ("FAULT", vec![Say::status(500), Say::status(503), good("FAULT")]),
        ("RESET", vec![Say::Reset, good("RESET")]),
        ("SECONDS", vec![later("1".into()), good("SECONDS")]),
        ("DATE", vec![later(date), good("DATE")]),
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
    for symbol in ["SECONDS", "DATE"] {
        let began = Instant::now();
        assert_eq!(desk.fetch(What::Quotes, &[symbol]).await.retried, 1);
        let waited = began.elapsed();
        let least = if symbol == "SECONDS" { 1_000 } else { 1 };
        assert!(
            waited >= Duration::from_millis(least) && waited < Duration::from_secs(5),
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
async fn a_jump_is_held_until_somebody_says_a_word() {
    let at = ago(600);
    let desk =
        Desk::new("", move |asked| Say::body(yahoo_quote(&yahoo_symbol(asked), "USD", "100", at))).await;
    for symbol in ["UP", "DOWN"] {
        desk.service.asset(symbol).await;
    }
    assert_eq!(desk.fetch(What::Quotes, &["UP", "DOWN"]).await.prices, 2);
    desk.provider.script("/UP?", [Say::body(yahoo_quote("UP", "USD", "300", at + 60))]);
    desk.provider.script("/DOWN?", [Say::body(yahoo_quote("DOWN", "USD", "20", at + 60))]);
    for _ in 0..3 {
        let summary = desk.fetch(What::Quotes, &["UP", "DOWN"]).await;
        assert_eq!((summary.held, summary.prices, summary.is_complete()), (2, 0, false));
    }
    assert_eq!(desk.events("PriceHeld").await.len(), 2, "the same question is asked once");
    let held = desk.get("/v1/prices/held").await;
    let id = |symbol: &str| {
        let items = held["items"].as_array().unwrap();
        let item = items.iter().find(|item| item["symbol"] == symbol).unwrap();
        assert_eq!(item["last_price"], "100");
        item["id"].as_str().unwrap().to_owned()
    };
    let say = |id: &str, word: &str| {
        let path = format!("/v1/prices/held/{id}/{word}");
        let service = &desk.service;
        async move { service.post(&path, json!({})).await }
    };
    let accepted = say(&id("UP"), "accept").await;
    assert_eq!(accepted.status, 201, "{}", accepted.body);
    assert_eq!(say(&id("UP"), "accept").await.status, 200, "once");
    let late = say(&id("UP"), "dismiss").await;
    assert_eq!((late.status, late.body["type"].as_str()), (409, Some("/problems/already-settled")));
    assert_eq!(say(&id("DOWN"), "dismiss").await.status, 201);
    assert_eq!(say("019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90", "accept").await.status, 404);
    let wrong = desk.service.get("/v1/prices/held?state=maybe").await;
    assert_eq!((wrong.status, wrong.fields()), (422, vec!["state"]));

    assert_eq!(desk.get("/v1/assets/UP").await["price"]["price"], "300");
    assert_eq!(desk.get("/v1/assets/DOWN").await["price"]["price"], "100");
    assert_eq!(desk.get("/v1/prices/held").await["items"].as_array().unwrap().len(), 0);
    assert_eq!(desk.get("/v1/prices/held?state=dismissed").await["items"][0]["symbol"], "DOWN");
    let summary = desk.fetch(What::Quotes, &["UP", "DOWN"]).await;
    assert_eq!((summary.unchanged, summary.held), (2, 0), "what was dismissed stays so");
    desk.assert_rows_are_right().await;
    let before = dump(&desk.database.pool).await;
    rebuild("prices", &desk.database.pool, Engine::default(), |_| {}).await.unwrap();
    desk.assert_rows_are_right().await;
    assert_eq!(dump(&desk.database.pool).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn closes_are_a_series_of_their_own_that_says_what_it_is_corrected_for() {
    let desk = Desk::new("", |_| Say::status(404)).await;
    desk.service.asset("AAPL").await;
    let answer = |closes: &[(u64, &str)]| [Say::body(yahoo_history("AAPL", &bars(closes)))];
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
async fn an_answer_that_has_not_changed_is_new_for_an_asset_it_was_not_read_for() {
    let rates = ecb_day(&day(1), &[("USD", "1.0830"), ("JPY", "162.87")]);
    let desk = Desk::new("", move |asked| {
        if asked.headers.contains_key("if-none-match") {
            return Say::status(304);
        }
        Say::Body(rates.clone(), vec![("etag", "\"one\"".to_owned())])
    })
    .await;
    for (symbol, currency) in [("EURUSD", "USD"), ("EURJPY", "JPY")] {
        let pair = json!({"symbol": symbol, "name": symbol, "class": "fx", "currency": currency});
        assert_eq!(desk.service.post("/v1/assets", pair).await.status, 201);
        let summary = desk.fetch(What::Rates, &[]).await;
        assert_eq!((summary.prices, summary.refused.len()), (1, 0), "{symbol}: {summary}");
    }
    assert_eq!(desk.fetch(What::Rates, &[]).await.unchanged, 2);
    let before = desk.provider.asked("/eurofxref").len();
    assert_eq!(desk.fetch(What::Rates, &[]).await.unchanged, 2);
    let asked = desk.provider.asked("/eurofxref");
    assert!(
        asked.len() == before + 1 && asked[before].headers.contains_key("if-none-match"),
        "it is recognised"
    );
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
async fn a_slow_source_holds_up_nobody_else() {
    let at = ago(60);
    let desk = Desk::new("", move |asked| {
        if let Some(symbol) = asked.path.strip_prefix("/slow/") {
            let body = format!("{{\"s\":\"{symbol}\",\"p\":100,\"t\":{at}}}");
            return Say::After(Duration::from_millis(100), Box::new(Say::body(body)));
        }
        Say::body(yahoo_quote(&yahoo_symbol(asked), "USD", "100", at))
    })
    .await;
    let settings = format!(
        "{}[sources.slow]\nkind = \"http\"\nbase_url = \"http://{}\"\nconcurrency = 1\n\
         currency = \"USD\"\nrequests_per_minute = 0\n\
         quotes = {{ path = \"/slow/{{symbol}}\", format = \"json\", price = \"/p\", time = \"/t\" }}\n",
        sources(&desk.provider, "").replace("concurrency = 50", "concurrency = 1"),
        desk.provider.address
    );
    let ledger = Ledger::start(&desk.database);
    let fetcher = fetcher(&desk.database, &ledger, &settings);
    let slow: Vec<String> = (0..30).map(|n| format!("SLOW{n}")).collect();
    for symbol in &slow {
        desk.service.asset(symbol).await;
        let ranking = json!({"sources": [{"source": "slow", "adjustment": "none"}]});
        let ranked = desk.service.post(&format!("/v1/assets/{symbol}/sources"), ranking).await;
        assert_eq!(ranked.status, 201, "{}", ranked.body);
    }
    desk.service.asset("QUICK").await;
    let symbols: Vec<&str> = slow.iter().map(String::as_str).chain(["QUICK"]).collect();
    let summary = fetcher.fetch(request(What::Quotes, &symbols), |_, _| {}, CancellationToken::new()).await;
    assert_eq!(summary.unwrap().fetched, 31);
    let asked = desk.provider.asked("");
    let place = asked.iter().position(|asked| asked.path.contains("QUICK")).unwrap();
    assert!(place < 8, "it was asked as number {place} of {}", asked.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_breaks_off_without_a_word_is_refused() {
    let desk = Desk::new("", |_| Say::status(404)).await;
    let settings = format!(
        "{}[sources.stooq]\nbase_url = \"http://{}\"\nrequests_per_minute = 0\n",
        sources(&desk.provider, ""),
        desk.provider.address
    );
    let ledger = Ledger::start(&desk.database);
    let fetcher = fetcher(&desk.database, &ledger, &settings);
    desk.service.asset("KO").await;
    let table = format!("Date,Volume,Close\n{},5,60.1\n{},5,60.25\n", day(2), day(1));
    let wanted = Request { source: Some("stooq".into()), ..request(What::History, &["KO"]) };
    let fetch = || fetcher.fetch(wanted.clone(), |_, _| {}, CancellationToken::new());
    // Without its last digit and its end of line.
    desk.provider.script("/q/d/l/?s=ko.us", [Say::Unframed(table[..table.len() - 2].to_owned())]);
    assert_eq!(reason(&fetch().await.unwrap(), "KO"), "answers with half a table");
    desk.provider.script("/q/d/l/?s=ko.us", [Say::Unframed(table)]);
    assert_eq!(fetch().await.unwrap().prices, 2);
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

#[tokio::test(flavor = "multi_thread")]
async fn rates_of_all_pairs_come_in_one_answer_that_is_recognised() {
    let desk = Desk::new("", |_| Say::status(404)).await;
    for (symbol, currency) in [("EURUSD", "USD"), ("EURJPY", "JPY"), ("GBPUSD", "USD")] {
        let pair = json!({"symbol": symbol, "name": symbol, "class": "fx", "currency": currency});
        assert_eq!(desk.service.post("/v1/assets", pair).await.status, 201);
    }
    let tag = vec![("etag", "\"one\"".to_owned())];
    let rates = ecb_day(&day(1), &[("USD", "1.0830"), ("JPY", "162.87")]);
    desk.provider.script("/eurofxref", [Say::Body(rates, tag), Say::status(304)]);
    let summary = desk.fetch(What::Rates, &[]).await;
    assert_eq!((summary.asked, summary.prices), (3, 2));
    assert!(reason(&summary, "GBPUSD").contains("the euro only"));
    assert_eq!(desk.provider.asked("/eurofxref").len(), 1, "one answer for all");
    assert_eq!(desk.get("/v1/assets/EURUSD").await["price"]["price"], "1.083");
    desk.service.asset("SHARE").await;
    let summary = desk.fetch(What::Rates, &["SHARE", "EURUSD"]).await;
    assert_eq!((reason(&summary, "SHARE"), summary.refused.len()), ("is no exchange rate", 2));
    assert_eq!(reason(&summary, "EURUSD"), "answers 304", "nobody asked whether it has changed");
    // What was refused may be taken another time, so that only a whole answer is recognised.
    let rates = ecb_day(&day(1), &[("USD", "1.0830"), ("JPY", "162.87")]);
    let tag = vec![("etag", "\"two\"".to_owned())];
    desk.provider.script("/eurofxref", [Say::Body(rates, tag), Say::status(304)]);
    for unchanged in [2, 2] {
        let summary = desk.fetch(What::Rates, &["EURUSD", "EURJPY"]).await;
        assert_eq!((summary.unchanged, summary.prices), (unchanged, 0));
    }
    let asked = desk.provider.asked("/eurofxref");
    let tags: Vec<_> =
        asked.iter().map(|asked| asked.headers.get("if-none-match").map(String::as_str)).collect();
    assert_eq!(tags, [None, None, None, Some("\"two\"")]);
    assert!(asked[0].headers["user-agent"].starts_with("portfolio-insight/"));
    desk.assert_rows_are_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_in_no_reason_whatever_happens() {
    let desk = Desk::new("quotes = \"alphavantage\"", |_| Say::status(404)).await;
    desk.service.asset("IBM").await;
    let limit =
        "{\"Information\":\"We have detected your API key as very-secret-key and our rate limit is 25\"}";
    let good = format!(
        "{{\"Global Quote\":{{\"01. symbol\":\"IBM\",\"05. price\":\"188.20\",\"06. volume\":\"5\",\
         \"07. latest trading day\":\"{}\"}}}}",
        day(1)
    );
    let to = "http://127.0.0.1:9/x?apikey=very-secret-key".to_owned();
    let says = [
        Say::Reset,
        Say::status(500),
        Say::Status(302, vec![("location", to)]),
        Say::After(Duration::from_secs(60), Box::new(Say::status(200))),
    ];
    for say in says {
        desk.provider.script("/query", [say]);
        let summary = desk.fetch(What::Quotes, &["IBM"]).await;
        assert_eq!(summary.refused.len(), 1);
        assert!(!format!("{summary:?} {summary}").contains("very-secret-key"), "{summary}");
    }
    desk.provider.script("/query", [Say::body(good)]);
    assert_eq!(desk.fetch(What::Quotes, &["IBM"]).await.prices, 1);
    assert!(desk.provider.asked("apikey=very-secret-key").len() > 3, "it was sent");

    // A limit that is told as a success is a reason to leave the source alone, and not to ask for the next symbol.
    for symbol in ["KO", "PEP", "XOM"] {
        desk.service.asset(symbol).await;
    }
    desk.provider.script("/query", [Say::body(limit)]);
    let asked = desk.provider.asked("").len();
    let ledger = Ledger::start(&desk.database);
    let one_by_one =
        sources(&desk.provider, "quotes = \"alphavantage\"").replace("concurrency = 50", "concurrency = 1");
    let fetcher = fetcher(&desk.database, &ledger, &one_by_one);
    let wanted = request(What::Quotes, &["IBM", "KO", "PEP", "XOM"]);
    let summary = fetcher.fetch(wanted, |_, _| {}, CancellationToken::new()).await.unwrap();
    assert!(!format!("{summary:?} {summary}").contains("very-secret-key"), "{summary}");
    assert_eq!((summary.refused.len(), desk.provider.asked("").len()), (4, asked + 1), "{summary:?}");
    let is_limit = |reason: &str| reason.contains("limit of requests is reached");
    let is_left_alone = |reason: &str| reason.starts_with("asks not to be asked for another");
    let reasons: Vec<&str> = summary.refused.iter().map(|refused| refused.reason.as_str()).collect();
    assert_eq!(reasons.iter().filter(|reason| is_limit(reason)).count(), 1, "{reasons:?}");
    assert_eq!(reasons.iter().filter(|reason| is_left_alone(reason)).count(), 3, "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_source_is_asked_and_read_in_its_own_shape() {
    let desk = Desk::new("", |_| Say::status(404)).await;
    let address = desk.provider.address;
    let settings = format!(
        "{}[sources.stooq]\nbase_url = \"http://{address}\"\n[sources.bank]\nkind = \"http\"\nbase_url = \"http://{address}\"\n\
         currency = \"USD\"\nkey_env = \"ALPHAVANTAGE_API_KEY\"\n\
         quotes = {{ path = \"/bank/{{symbol}}?k={{key}}\", format = \"json\", price = \"/p\", time = \"/t\" }}\n\
         history = {{ path = \"/days/{{symbol}}?from={{from}}\", format = \"csv\", price = \"close\", time = \"day\" }}\n",
        sources(&desk.provider, "")
    );
    let ledger = Ledger::start(&desk.database);
    let fetcher = fetcher(&desk.database, &ledger, &settings);
    desk.service.asset("KO").await;
    let days = [day(2), day(1)];
    let series =
        |day: &str, close: &str| format!("\"{day}\":{{\"4. close\":\"{close}\",\"5. volume\":\"7\"}}");
    for (part, body) in [
        (
            "/query?function=TIME_SERIES_DAILY&symbol=KO",
            format!(
                "{{\"Meta Data\":{{\"2. Symbol\":\"KO\"}},\"Time Series (Daily)\":{{{},{}}}}}",
                series(&days[0], "60.10"),
                series(&days[1], "60.20")
            ),
        ),
        (
            "/q/l/?s=ko.us",
            format!(
                "Symbol,Date,Time,Open,High,Low,Close,Volume\r\nKO.US,{},12:00:00,1,1,1,60.3,5\r\n",
                days[1]
            ),
        ),
        (
            "/q/d/l/?s=ko.us",
            format!("Date,Open,High,Low,Close,Volume\n{},1,1,1,60.1,5\n{},1,1,1,60.2,5\n", days[0], days[1]),
        ),
        ("/bank/KO?k=very-secret-key", format!("{{\"p\":60.4,\"t\":{}}}", ago(60))),
        ("/days/KO?from=", format!("day,close\n{},60.5\n", days[1])),
    ] {
        desk.provider.script(part, [Say::body(body)]);
    }
    for (source, what, series, prices) in [
        ("alphavantage", What::History, "alphavantage", 2),
        ("stooq", What::Quotes, "stooq", 1),
        ("stooq", What::History, "stooq.adjusted", 2),
        ("bank", What::Quotes, "bank", 1),
        ("bank", What::History, "bank", 1),
        ("demo", What::Quotes, "demo", 1),
    ] {
        let wanted = Request { source: Some(source.into()), ..request(what, &["KO"]) };
        let summary = fetcher.fetch(wanted, |_, _| {}, CancellationToken::new()).await.unwrap();
        assert_eq!(
            (summary.prices + summary.held, summary.refused.len()),
            (prices, 0),
            "{source}: {summary}"
        );
        let asset = desk.get("/v1/assets/KO").await;
        let known = asset["sources"].as_array().unwrap().iter().any(|it| it["source"] == series);
        assert!(known || summary.held > 0, "{series}: {asset}");
    }
    desk.assert_rows_are_right().await;
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
async fn two_thousand_symbols_from_a_slow_provider() {
    const SYMBOLS: usize = 2_000;
    let at = ago(60);
    let desk = Desk::new("", move |asked| {
        let body = Say::body(yahoo_quote(&yahoo_symbol(asked), "USD", "100", at));
        Say::After(Duration::from_millis(100), Box::new(body))
    })
    .await;
    let symbols: Vec<String> = (0..SYMBOLS).map(|n| format!("S{n}")).collect();
    futures::future::join_all(symbols.iter().map(|symbol| desk.service.asset(symbol))).await;
    let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
    // With connections of its own, as a process has them.
    let pool = postgres::connect(desk.database.options(), &Session::of("fetch")).await.unwrap();
    let ledger = Ledger::over(desk.database.options(), pool.clone(), Default::default());
    let settings = Settings::read(&sources(&desk.provider, ""), |_| None).unwrap();
    let commands = ledger.commands.clone();
    let fetcher = Fetcher::open(Parts { pool, commands, clock: Clock::System, settings }).unwrap();
    let fetch = || fetcher.fetch(request(What::Quotes, &symbols), |_, _| {}, CancellationToken::new());
    let before = resident();
    let summary = fetch().await.unwrap();
    println!("{summary}; memory {} MB before, {} MB after", before >> 10, resident() >> 10);
    assert_eq!((summary.fetched, summary.prices, summary.refused.len()), (2_000, 2_000, 0));
    assert!(summary.took < Duration::from_secs(60), "{summary}");
    assert!(resident() < before + (100 << 10), "memory stays flat");
    let again = fetch().await.unwrap();
    println!("again: {again}; memory {} MB", resident() >> 10);
    assert_eq!((again.unchanged, again.prices), (2_000, 0));
}

/// Kilobytes of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
