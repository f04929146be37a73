//! Lists of portfolios by every figure and filter, the first ones, and statistics: on rows whose figures are known.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::environment::{self, TestDatabase};
use crate::explain::fill;
use crate::service::{Answer, Service};

const PORTFOLIOS: i32 = 400;

async fn service() -> (TestDatabase, Service) {
    let database = environment::database().await;
    fill(&database.pool, PORTFOLIOS).await;
    let service = Service::start(&database);
    (database, service)
}

async fn ok(service: &Service, path: &str) -> Answer {
    let answer = service.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer
}

/// Every row of a list, page by page.
async fn all(service: &Service, query: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut after = String::new();
    loop {
        let answer = ok(service, &format!("/v1/portfolios?limit=37&{query}{after}")).await;
        let items = answer.body["items"].as_array().unwrap();
        assert!(items.len() <= 37);
        rows.extend(items.iter().cloned());
        match answer.body["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return rows,
        }
    }
}

/// What a row is ordered by, as text that sorts, or as a number.
fn figure(row: &Value, by: &str) -> Option<f64> {
    let summary = &row["summary"];
    match by {
        "asset_count" | "volatility" | "sharpe" => summary[by].as_f64(),
        "risk" => summary["risk_share"].as_f64(),
        "value" => summary["total_value_base"].as_str().and_then(|text| text.parse().ok()),
        other => panic!("{other} is no figure"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_walks_all_portfolios_once_and_those_without_a_figure_come_last() {
    let (_database, service) = service().await;
    for by in ["asset_count", "volatility", "sharpe", "value", "risk"] {
        for sign in ["", "-"] {
            let rows = all(&service, &format!("order={sign}{by}")).await;
            let ids: BTreeSet<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
            assert_eq!((rows.len(), ids.len()), (PORTFOLIOS as usize, PORTFOLIOS as usize), "{sign}{by}");
            let figures: Vec<Option<f64>> = rows.iter().map(|row| figure(row, by)).collect();
            let (with, without) = figures.split_at(figures.iter().take_while(|it| it.is_some()).count());
            assert!(without.iter().all(Option::is_none), "{sign}{by}: those without come last");
            assert_eq!(without.len(), if ["asset_count", "value"].contains(&by) { 0 } else { 4 });
            let is_ordered = with.is_sorted_by(|a, b| if sign == "-" { a >= b } else { a <= b });
            assert!(is_ordered, "{sign}{by}: {with:?}");
        }
    }
    let names = |rows: Vec<Value>| {
        rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let up = names(all(&service, "order=name").await);
    let mut down = names(all(&service, "order=-name").await);
    down.reverse();
    assert!(up.is_sorted() && up == down && up.len() == PORTFOLIOS as usize);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_give_what_they_say_in_every_order() {
    let (_database, service) = service().await;
    let everything = all(&service, "").await;
    let ids = |rows: &[Value]| -> BTreeSet<String> {
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    let expected = |keep: &dyn Fn(&Value) -> bool| -> BTreeSet<String> {
        let kept: Vec<Value> = everything.iter().filter(|row| keep(row)).cloned().collect();
        ids(&kept)
    };
    let volatility = |row: &Value| figure(row, "volatility");
    let investor = everything[0]["investor_id"].as_str().unwrap();
    let low = expected(&|row| volatility(row).is_some_and(|it| it < 0.15));
    let medium = expected(&|row| volatility(row).is_some_and(|it| (0.15..0.25).contains(&it)));
    let high = expected(&|row| volatility(row).is_some_and(|it| it >= 0.25));
    let good = expected(&|row| figure(row, "sharpe").is_some_and(|it| it >= 1.5));
    let good_and_low: BTreeSet<String> = good.intersection(&low).cloned().collect();
    let theirs = expected(&|row| row["investor_id"] == investor);
    let rich = expected(&|row| figure(row, "value").is_some_and(|it| (500_000.0..=900_000.0).contains(&it)));
    let named = expected(&|row| row["name"].as_str().unwrap().contains('7'));
    for part in [&low, &medium, &high, &good, &good_and_low, &theirs, &rich, &named] {
        assert!(
            !part.is_empty() && part.len() < everything.len(),
            "a filter that leaves nothing proves nothing"
        );
    }
    for order in
        ["name", "-name", "asset_count", "-volatility", "sharpe", "-sharpe", "value", "-risk", "risk"]
    {
        for (query, expected) in [
            ("risk_band=low".to_owned(), &low),
            ("risk_band=medium".to_owned(), &medium),
            ("risk_band=high".to_owned(), &high),
            ("min_sharpe=1.5".to_owned(), &good),
            ("min_sharpe=1.5&risk_band=low".to_owned(), &good_and_low),
            (format!("investor_id={investor}"), &theirs),
            ("value_min=500000&value_max=900000".to_owned(), &rich),
            ("name=7".to_owned(), &named),
        ] {
            let found = all(&service, &format!("order={order}&{query}")).await;
            assert_eq!((ids(&found), found.len()), (expected.clone(), expected.len()), "{order} {query}");
        }
    }
    for (band, row) in everything.iter().filter_map(|row| Some((row["summary"]["risk_band"].as_str()?, row)))
    {
        assert_eq!(band == "low", volatility(row).is_some_and(|it| it < 0.15));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_ones_and_the_statistics_are_those_of_the_rows() {
    let (_database, service) = service().await;
    let everything = all(&service, "").await;
    for by in ["sharpe", "volatility", "value", "risk", "asset_count"] {
        let top = ok(&service, &format!("/v1/portfolios/top?by={by}&limit=5")).await.body;
        let mut figures: Vec<f64> = everything.iter().filter_map(|row| figure(row, by)).collect();
        figures.sort_by(|a, b| b.total_cmp(a));
        let found: Vec<f64> =
            top["items"].as_array().unwrap().iter().filter_map(|row| figure(row, by)).collect();
        assert_eq!((top["by"].as_str().unwrap(), &found[..]), (by, &figures[..5]));
    }
    let top = ok(&service, "/v1/portfolios/top").await.body;
    assert_eq!((top["by"].as_str(), top["items"].as_array().unwrap().len()), (Some("sharpe"), 10));

    let stats = ok(&service, "/v1/portfolios/stats").await.body;
    let of = |by: &str| -> Vec<f64> {
        let mut figures: Vec<f64> = everything.iter().filter_map(|row| figure(row, by)).collect();
        figures.sort_by(f64::total_cmp);
        figures
    };
    let band = |band: &str| everything.iter().filter(|row| row["summary"]["risk_band"] == band).count();
    assert_eq!(
        (&stats["count"], &stats["with_figures"], &stats["without_figures"]),
        (&json!(400), &json!(396), &json!(4))
    );
    assert_eq!(
        stats["risk_bands"],
        json!({"low": band("low"), "medium": band("medium"), "high": band("high")})
    );
    for name in ["volatility", "sharpe"] {
        let figures = of(name);
        let mean = figures.iter().sum::<f64>() / figures.len() as f64;
        let median = f64::midpoint(figures[figures.len() / 2 - 1], figures[figures.len() / 2]);
        assert_eq!(stats[name]["count"], json!(figures.len()));
        assert!((stats[name]["mean"].as_f64().unwrap() - mean).abs() < 1e-9, "{name}: {stats}");
        assert!((stats[name]["median"].as_f64().unwrap() - median).abs() < 1e-12, "{name}: {stats}");
    }
    let euros: Vec<&Value> = everything.iter().filter(|row| row["base_currency"] == "EUR").collect();
    let total: f64 = euros.iter().filter_map(|row| figure(row, "value")).sum();
    let told = stats["totals"].as_array().unwrap().iter().find(|it| it["base_currency"] == "EUR").unwrap();
    assert_eq!((told["count"].as_u64().unwrap() as usize, &told["incomplete"]), (euros.len(), &json!(0)));
    assert_eq!(told["total_value_base"].as_str().unwrap().parse::<f64>().unwrap(), total);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_refused_by_field() {
    let (_database, service) = service().await;
    let cases = [
        ("/v1/portfolios?limit=0", "limit"),
        ("/v1/portfolios?limit=1000000000", "limit"),
        ("/v1/portfolios?limit=ten", "limit"),
        ("/v1/portfolios?order=luck", "order"),
        ("/v1/portfolios?order=--name", "order"),
        ("/v1/portfolios?order=-", "order"),
        ("/v1/portfolios?risk_band=extreme", "risk_band"),
        ("/v1/portfolios?min_sharpe=NaN", "min_sharpe"),
        ("/v1/portfolios?min_sharpe=inf", "min_sharpe"),
        ("/v1/portfolios?min_sharpe=-infinity", "min_sharpe"),
        ("/v1/portfolios?min_sharpe=1e999", "min_sharpe"),
        ("/v1/portfolios?min_sharpe=good", "min_sharpe"),
        ("/v1/portfolios?min_sharpe=", "min_sharpe"),
        ("/v1/portfolios?value_min=much", "value_min"),
        ("/v1/portfolios?investor_id=7", "investor_id"),
        ("/v1/portfolios?colour=red", "colour"),
        ("/v1/portfolios?after=eyJrIjoxfQ", "after"),
        ("/v1/portfolios/top?limit=0", "limit"),
        ("/v1/portfolios/top?limit=1000000000", "limit"),
        ("/v1/portfolios/top?by=luck", "by"),
        ("/v1/portfolios/top?by=-sharpe", "by"),
        ("/v1/portfolios/stats?limit=1", "limit"),
        ("/v1/assets/analytics?window=5", "window"),
        ("/v1/assets/analytics?window=1000000000", "window"),
        ("/v1/assets/analytics?limit=0", "limit"),
    ];
    for (path, field) in cases {
        let answer = service.get(path).await;
        assert_eq!((answer.status, answer.fields()), (422, vec![field]), "{path}: {}", answer.body);
    }
    // A cursor is good for its own order only.
    let next = ok(&service, "/v1/portfolios?order=sharpe&limit=1").await.body["next"].clone();
    let other = service.get(&format!("/v1/portfolios?order=-sharpe&after={}", next.as_str().unwrap())).await;
    assert_eq!((other.status, other.fields()), (422, vec!["after"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_say_when_they_were_last_modified() {
    let (_database, service) = service().await;
    for path in
        ["/v1/portfolios", "/v1/portfolios/top", "/v1/portfolios/stats", "/v1/assets", "/v1/assets/analytics"]
    {
        let first = ok(&service, path).await;
        let (date, tag) = (&first.headers["last-modified"], &first.headers["etag"]);
        assert_eq!(date, "Mon, 01 Jan 2024 00:00:01 GMT", "{path}");
        assert!(tag.to_str().unwrap().starts_with("W/\""), "{path}");
        for (header, value, status) in [
            ("if-modified-since", date.to_str().unwrap(), 304),
            ("if-none-match", tag.to_str().unwrap(), 304),
            ("if-modified-since", "Sun, 31 Dec 2023 00:00:00 GMT", 200),
        ] {
            let request = Request::get(path).header(header, value).body(Body::empty()).unwrap();
            assert_eq!(service.send(request).await.status, status, "{path} {header}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_date_is_told_while_something_of_that_second_may_still_come() {
    const PATHS: [&str; 3] = ["/v1/portfolios", "/v1/portfolios?order=-sharpe", "/v1/portfolios/stats"];
    let (database, service) = service().await;
    let is_dated = async |path: &str| ok(&service, path).await.headers.contains_key("last-modified");
    // The next event of the log.
    let append = async |at: &str| {
        const NEXT: &str = "insert into events (position, command_id, ordinal, stream_id, version, shard, event_type, \
            schema_version, request_hash, correlation_id, occurred_at, recorded_at, payload, metadata) \
            select max(position) + 1, gen_random_uuid(), 0, 'investor-x', max(position) + 1, 3, 'InvestorRegistered', 1, '\\x00', \
            gen_random_uuid(), $1, $1, '{}', '{}' from events";
        let at: DateTime<Utc> = at.parse().unwrap();
        sqlx::query(NEXT).bind(at).execute(&database.pool).await.unwrap();
    };
    append("2024-01-01T00:00:00.5Z").await;
    for path in PATHS {
        assert!(!is_dated(path).await, "{path}: an event of that second is to come");
    }
    // All have seen it, and what is to come will have another date.
    for read_model in ["directory", "valuations", "risk"] {
        let seen = format!(
            "update {read_model}.checkpoints set scanned_to = scanned_to + 1, price_position = price_position + 1"
        );
        sqlx::raw_sql(AssertSqlSafe(seen)).execute(&database.pool).await.unwrap();
    }
    append("2024-01-01T00:00:01.5Z").await;
    // What was read a moment ago is good for a moment.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    for path in PATHS {
        assert!(is_dated(path).await, "{path}");
    }
    // Figures of risk are shown in every order, and change as well.
    let behind = "update risk.checkpoints set scanned_to = scanned_to - 1 where shard = 7";
    sqlx::raw_sql(behind).execute(&database.pool).await.unwrap();
    assert!(!is_dated("/v1/portfolios?limit=3").await, "risk has not seen the last event of that second");
}

#[tokio::test(flavor = "multi_thread")]
async fn assets_are_analysed_by_their_closes() {
    let (_database, service) = service().await;
    let all = ok(&service, "/v1/assets/analytics?window=250&limit=500").await.body;
    // Five of the five hundred are exchange rates.
    assert_eq!(
        (&all["count"], &all["with_figures"], &all["window"]),
        (&json!(495), &json!(495), &json!(250))
    );
    let bands = &all["risk_bands"];
    let sum: u64 = ["low", "medium", "high"].iter().map(|band| bands[band].as_u64().unwrap()).sum();
    assert_eq!(sum, 495);
    let items = all["items"].as_array().unwrap();
    let unusual: Vec<f64> = items.iter().map(|item| item["unusualness"].as_f64().unwrap()).collect();
    assert!(unusual.is_sorted_by(|a, b| a >= b) && items.len() == 495);
    let one = items.iter().find(|item| item["symbol"] == "A7").unwrap();
    assert_eq!(
        (&one["closes"], &one["currency"], &one["source"]),
        (&json!(251), &json!("USD"), &json!("exchange"))
    );

    // The same from the closes themselves.
    let mut prices: Vec<f64> = Vec::new();
    let mut after = String::new();
    loop {
        let page = ok(&service, &format!("/v1/assets/A7/prices?limit=500{after}")).await.body;
        for close in page["items"].as_array().unwrap() {
            assert!(close["volume"].is_string(), "{close}");
            prices.push(close["price"].as_str().unwrap().parse().unwrap());
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let window = &prices[prices.len() - 251..];
    let mut sizes: Vec<f64> = window.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let typical: f64 = one["typical_move"].as_str().unwrap().parse().unwrap();
    let largest: f64 = one["largest_move"]["move"].as_str().unwrap().parse().unwrap();
    assert!((typical - f64::midpoint(sizes[124], sizes[125])).abs() < 1e-9, "{one}");
    assert!((largest.abs() - sizes[249]).abs() < 1e-9, "{one}");
    let few = ok(&service, "/v1/assets/analytics?limit=3").await.body;
    assert_eq!(few["items"], json!(items[..3]));
}
