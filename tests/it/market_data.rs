//! Prices from outside: what comes of good answers, of nonsense and of jumps; and the desk that the other tests of them share.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveTime, Utc};
use insight::clock::Clock;
use insight::domain::ids::Position;
use insight::feed::{Source, StoreTail, WindowLimits};
use insight::market_data::{Fetcher, Parts, Request, Settings, Summary, What};
use insight::projectors::rebuild::rebuild;
use insight::projectors::risk::Engine;
use insight::verify;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::environment::{self, TestDatabase};
use crate::ledger::Ledger;
use crate::provider::{Asked, Provider, Say, yahoo_quote, yahoo_symbol};
use crate::read_models::{Projectors, dump, reached};
use crate::service::Service;

/// Quick where a test waits for a pause or a limit.
const QUICK: &str = "attempts = 3\npause_first_ms = 20\npause_max_ms = 5000\nattempt_ms = 1500\nread_ms = 700\n\
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

    pub async fn head(&self) -> Position {
        self.service.head().await
    }

    pub async fn get(&self, path: &str) -> Value {
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

pub fn reason<'s>(summary: &'s Summary, symbol: &str) -> &'s str {
    let refused = summary.refused.iter().find(|refused| refused.symbol == symbol);
    refused
        .map(|refused| refused.reason.as_str())
        .unwrap_or_else(|| panic!("{symbol} is refused: {summary:?}"))
}

pub fn ago(seconds: i64) -> i64 {
    Utc::now().timestamp() - seconds
}

/// Noon of a day before today.
pub fn noon(days_ago: u64) -> i64 {
    let noon = NaiveTime::from_hms_opt(12, 0, 0).unwrap();
    Utc::now()
        .date_naive()
        .checked_sub_days(Days::new(days_ago))
        .unwrap()
        .and_time(noon)
        .and_utc()
        .timestamp()
}

pub fn day(days_ago: u64) -> String {
    Utc::now().date_naive().checked_sub_days(Days::new(days_ago)).unwrap().to_string()
}

pub fn bars(closes: &[(u64, &str)]) -> Vec<(i64, String)> {
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
