//! `insight fetch` as a process: killed and run again, as a role, and what it says.

use std::process::Command;
use std::time::{Duration, Instant};

use chrono::{Days, NaiveTime, Utc};
use insight::verify;
use serde_json::json;

use crate::market_data::{Desk, sources};
use crate::processes::{Place, Process};
use crate::provider::{Say, yahoo_history, yahoo_quote, yahoo_symbol};

const SYMBOLS: usize = 40;
/// Closes of each: more than one event holds.
const DAYS: u64 = 1_500;

fn long_history(symbol: &str) -> String {
    let noon = NaiveTime::from_hms_opt(12, 0, 0).unwrap();
    let bar = |days_ago: u64| {
        let day = Utc::now().date_naive().checked_sub_days(Days::new(days_ago)).unwrap();
        (day.and_time(noon).and_utc().timestamp(), format!("{}.5", 100 + days_ago % 7))
    };
    yahoo_history(symbol, &(1..=DAYS).rev().map(bar).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_is_killed_is_run_again_and_no_price_is_doubled_or_missing() {
    let place = Place::new();
    let desk = Desk::new("", |asked| {
        let body = Say::body(long_history(&yahoo_symbol(asked)));
        Say::After(Duration::from_millis(150), Box::new(body))
    })
    .await;
    let file = place.path().join("sources.toml");
    std::fs::write(&file, sources(&desk.provider, "").replace("concurrency = 50", "concurrency = 3"))
        .unwrap();
    let symbols: Vec<String> = (0..SYMBOLS).map(|n| format!("K{n}")).collect();
    for symbol in &symbols {
        desk.service.asset(symbol).await;
    }
    let (url, file) = (desk.database.url(), file.to_str().unwrap().to_owned());
    let since = Utc::now().date_naive().checked_sub_days(Days::new(DAYS + 10)).unwrap().to_string();
    let mut arguments = vec!["fetch", "history", "--since", &since];
    arguments.extend(symbols.iter().map(String::as_str));
    let environment = [("DATABASE_URL", url.as_str()), ("SOURCES_FILE", file.as_str())];

    let mut kills = 0;
    for enough in [3, 20, 45] {
        let mut fetch = Process::start(place.path(), "fetch", &arguments, &environment);
        let began = Instant::now();
        while desk.events("ClosesObserved").await.len() < enough {
            assert!(began.elapsed() < Duration::from_secs(60), "closes arrive:\n{}", fetch.last_words());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fetch.kill();
        kills += 1;
        let events = desk.events("ClosesObserved").await.len();
        assert!(events < SYMBOLS * 2, "it was killed in the middle: {events} events");
    }
    assert_eq!(kills, 3);
    let last = Process::start(place.path(), "last", &arguments, &environment);
    assert!(last.finish(), "all came");
    let mut seen = std::collections::BTreeMap::new();
    for event in desk.events("ClosesObserved").await {
        let asset = event["asset_id"].as_str().unwrap().to_owned();
        for close in event["closes"].as_array().unwrap() {
            let close = (asset.clone(), close["day"].as_str().unwrap().to_owned());
            *seen.entry(close).or_insert(0) += 1;
        }
    }
    assert_eq!(seen.len(), SYMBOLS * DAYS as usize, "none is missing");
    assert!(seen.values().all(|times| *times == 1), "none is doubled");
    desk.assert_rows_are_right().await;
    assert!(verify::verify(&desk.database.pool).await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_follows_what_somebody_holds_and_ends_when_asked() {
    let place = Place::new();
    let at = Utc::now().timestamp() - 60;
    let desk =
        Desk::new("", move |asked| Say::body(yahoo_quote(&yahoo_symbol(asked), "USD", "50", at))).await;
    desk.service.asset("HELD").await;
    desk.service.asset("LOOSE").await;
    let portfolio = desk.service.portfolio("untracked").await;
    let buy = json!({"asset": "HELD", "quantity": "1", "price": "50"});
    let bought = desk.service.post(&format!("{portfolio}/buy"), buy).await;
    assert_eq!(bought.status, 201);
    let file = place.path().join("sources.toml");
    std::fs::write(&file, sources(&desk.provider, "")).unwrap();
    let (url, file) = (desk.database.url(), file.to_str().unwrap().to_owned());
    let environment = [("DATABASE_URL", url.as_str()), ("SOURCES_FILE", file.as_str()), ("FETCH_EVERY", "1")];
    let mut role = Process::start(place.path(), "role", &["fetch"], &environment);
    let began = Instant::now();
    while desk.provider.asked("/HELD?interval=1d&range=").len() < 3 {
        assert!(began.elapsed() < Duration::from_secs(60), "it asks again and again:\n{}", role.last_words());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(desk.provider.asked("/LOOSE?").is_empty(), "nobody holds it");
    assert_eq!(desk.provider.asked("/HELD?interval=1d&period1=").len(), 1, "closes once a day");
    let asked_to_end = Instant::now();
    role.stop();
    assert!(asked_to_end.elapsed() < Duration::from_secs(10), "{:?}", asked_to_end.elapsed());
    assert_eq!(desk.events("PricesObserved").await.len(), 1, "the same answer is one event");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_away_in_the_first_round_does_not_cost_a_day_of_closes() {
    let place = Place::new();
    let at = Utc::now().timestamp() - 60;
    let desk =
        Desk::new("", move |asked| Say::body(yahoo_quote(&yahoo_symbol(asked), "USD", "101", at))).await;
    for symbol in ["AWAY", "THERE"] {
        desk.service.asset(symbol).await;
        let portfolio = desk.service.portfolio("untracked").await;
        let buy = json!({"asset": symbol, "quantity": "1", "price": "101"});
        assert_eq!(desk.service.post(&format!("{portfolio}/buy"), buy).await.status, 201);
    }
    // All three attempts of the first round, and one of the second.
    let away = std::iter::repeat_n(Say::status(503), 4);
    let closes = |symbol| Say::body(long_history(symbol));
    desk.provider.script("/AWAY?interval=1d&period1=", away.chain([closes("AWAY")]));
    desk.provider.script("/THERE?interval=1d&period1=", [closes("THERE")]);
    let file = place.path().join("sources.toml");
    std::fs::write(&file, sources(&desk.provider, "")).unwrap();
    let (url, file) = (desk.database.url(), file.to_str().unwrap().to_owned());
    let environment = [("DATABASE_URL", url.as_str()), ("SOURCES_FILE", file.as_str()), ("FETCH_EVERY", "1")];
    let mut role = Process::start(place.path(), "role", &["fetch"], &environment);
    let began = Instant::now();
    while desk.events("ClosesObserved").await.len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "they come:\n{}", role.last_words());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    role.stop();
    assert_eq!(desk.provider.asked("/AWAY?interval=1d&period1=").len(), 5);
    assert_eq!(desk.provider.asked("/THERE?interval=1d&period1=").len(), 1, "it came at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verb_prints_a_table_and_its_exit_code_says_whether_all_came() {
    let at = Utc::now().timestamp() - 60;
    let desk =
        Desk::new("", move |asked| Say::body(yahoo_quote(&yahoo_symbol(asked), "USD", "50", at))).await;
    desk.service.asset("AAPL").await;
    let place = Place::new();
    let file = place.path().join("sources.toml");
    std::fs::write(&file, sources(&desk.provider, "")).unwrap();
    let fetch = |arguments: &[&str], file: &std::path::Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_insight"))
            .env("DATABASE_URL", desk.database.url())
            .env("SOURCES_FILE", file)
            .arg("fetch")
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let (ok, table, _) = fetch(&["quotes", "AAPL"], &file);
    assert!(ok && table.contains("fetched") && table.contains("quotes "), "{table}");
    let (ok, table, _) = fetch(&["quotes", "AAPL", "NONE"], &file);
    assert!(!ok && table.contains("refused NONE         is no asset here"), "{table}");
    let (ok, table, _) = fetch(&["quotes", "AAPL", "--source", "demo", "--dry-run"], &file);
    assert!(ok || table.contains("held"), "{table}");
    assert!(table.contains("nothing was appended"), "{table}");
    for (arguments, said) in [
        (&["quotes", "AAPL", "--source", "nobody"][..], "there is no source nobody"),
        (&["quotes", "--since", "2024-01-01"], "--since is for history and rates"),
        (&["history", "--since", "yesterday"], "must be a day such as"),
        (&["history", "--since", "1899-12-31"], "is before 1900-01-01"),
    ] {
        let (ok, _, error) = fetch(arguments, &file);
        assert!(!ok && error.contains(said), "{arguments:?}: {error}");
    }
    std::fs::write(&file, "[sources.yahoo]\ncolour = \"red\"").unwrap();
    let (ok, _, error) = fetch(&["quotes"], &file);
    assert!(!ok && error.contains("line 2: unknown field `colour`"), "{error}");
    let (ok, _, error) = fetch(&["quotes"], &place.path().join("missing.toml"));
    assert!(!ok && error.contains("cannot read the settings of sources"), "{error}");
}
