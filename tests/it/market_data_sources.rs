//! Sources side by side: their shapes, their keys, what is recognised, and two thousand symbols.

use std::time::Duration;

use insight::clock::Clock;
use insight::market_data::{Fetcher, Parts, Request, Settings, What};
use insight::postgres::{self, Session};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;
use crate::market_data::{Desk, ago, day, fetcher, reason, request, sources};
use crate::provider::{Say, ecb_day, yahoo_quote, yahoo_symbol};

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
async fn an_answer_that_only_says_when_it_was_modified_is_recognised() {
    const MODIFIED: &str = "Fri, 01 Mar 2024 15:00:00 GMT";
    let rates = ecb_day(&day(1), &[("USD", "1.0830")]);
    let desk = Desk::new("", move |asked| match asked.headers.contains_key("if-modified-since") {
        true => Say::status(304),
        false => Say::Body(rates.clone(), vec![("last-modified", MODIFIED.to_owned())]),
    })
    .await;
    let pair = json!({"symbol": "EURUSD", "name": "Euro", "class": "fx", "currency": "USD"});
    assert_eq!(desk.service.post("/v1/assets", pair).await.status, 201);
    assert_eq!(desk.fetch(What::Rates, &[]).await.prices, 1);
    for _ in 0..2 {
        assert_eq!(desk.fetch(What::Rates, &[]).await.unchanged, 1);
    }
    let asked = desk.provider.asked("/eurofxref");
    let since: Vec<_> =
        asked.iter().map(|it| it.headers.get("if-modified-since").map(String::as_str)).collect();
    // The second wants other days than the first.
    assert_eq!(since, [None, None, Some(MODIFIED)]);
    assert!(!asked[2].headers.contains_key("if-none-match"));
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
async fn two_thousand_symbols_from_a_slow_provider() {
    const SYMBOLS: usize = 2_000;
    let at = ago(60);
    let desk = Desk::new("", move |asked| {
        let body = Say::body(yahoo_quote(&yahoo_symbol(asked), "USD", "100", at));
        Say::After(Duration::from_millis(100), Box::new(body))
    })
    .await;
    let symbols: Vec<String> = (0..SYMBOLS).map(|n| format!("S{n}")).collect();
    // On a busy machine not all of them at once, since a command is given up after seconds.
    for some in symbols.chunks(100) {
        futures::future::join_all(some.iter().map(|symbol| desk.service.asset(symbol))).await;
    }
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
    // One after the other they would take 200 seconds, and with nothing else on the machine four.
    assert!(summary.took < Duration::from_secs(20), "{summary}");
    assert!(resident() < before + (64 << 10), "memory stays flat");
    let again = fetch().await.unwrap();
    println!("again: {again}; memory {} MB", resident() >> 10);
    assert_eq!((again.unchanged, again.prices), (2_000, 0));
    assert!(resident() < before + (64 << 10), "memory stays flat");
}

/// Kilobytes of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
