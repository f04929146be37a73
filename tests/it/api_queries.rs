//! What clients read: the rows of what they wrote, with the place they are of, and never a 500.

use axum::body::Body;
use axum::http::Request;
use insight::projectors::rebuild::rebuild;
use insight::projectors::risk::Engine;
use insight::verify::verify;
use serde_json::json;

use crate::environment::{self, TestDatabase};
use crate::service::{Answer, Service};

async fn project(database: &TestDatabase) {
    for name in ["directory", "holdings", "prices", "valuations", "activity"] {
        rebuild(name, &database.pool, Engine::default(), |_| {}).await.unwrap();
    }
}

/// A portfolio with cash, a holding and prices; its path.
async fn story(service: &Service) -> String {
    service.asset("ACME").await;
    let portfolio = service.portfolio("tracked").await;
    for (path, body) in [
        (format!("{portfolio}/deposit"), json!({"amount": "1000", "trade_date": "2024-01-02"})),
        (
            format!("{portfolio}/buy"),
            json!({"asset": "ACME", "quantity": "3", "price": "100", "fee": "1", "trade_date": "2024-01-03"}),
        ),
        (
            format!("{portfolio}/buy"),
            json!({"asset": "ACME", "quantity": "1", "price": "104", "trade_date": "2024-01-04", "note": "more"}),
        ),
        (
            format!("{portfolio}/sell"),
            json!({"asset": "ACME", "quantity": "1", "price": "110", "trade_date": "2024-01-05"}),
        ),
    ] {
        let answer = service.post(&path, body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    let prices = json!({"prices": [
        {"asset": "ACME", "price": "111", "day": "2024-01-05"},
        {"asset": "ACME", "price": "112", "day": "2024-01-08"},
        {"asset": "ACME", "price": "120.5", "at": "2024-01-09T10:00:00Z"}
    ]});
    assert_eq!(service.post("/v1/prices", prices).await.status, 200);
    portfolio
}

async fn ok(service: &Service, path: &str) -> Answer {
    let answer = service.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    assert_eq!(answer.body["as_of"]["epoch"], 1, "{path}");
    assert!(answer.headers["etag"].to_str().unwrap().starts_with("W/\""), "{path}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_can_be_read() {
    let database = environment::database().await;
    let service = Service::start(&database);
    let portfolio = story(&service).await;
    project(&database).await;

    let found = ok(&service, &portfolio).await.body;
    assert_eq!(
        (&found["name"], &found["cash"], &found["version"]),
        (&json!("Savings"), &json!("tracked"), &json!(5))
    );
    let holdings = ok(&service, &format!("{portfolio}/holdings")).await.body;
    let holding = &holdings["holdings"][0];
    assert_eq!((&holding["symbol"], &holding["quantity"]), (&json!("ACME"), &json!("3")));
    assert_eq!((&holding["cost"], &holding["realized_gain"]), (&json!("304"), &json!("10")));
    assert_eq!(holding["average_cost"], "101.3333333333");
    assert_eq!(holding["lots"].as_array().unwrap().len(), 2);
    assert_eq!(holdings["cash"], json!([{"currency": "USD", "balance": "705"}]));

    let valuation = ok(&service, &format!("{portfolio}/valuation")).await.body;
    assert_eq!(valuation["totals"]["market_value_base"], "361.5");
    assert_eq!(valuation["totals"]["total_value_base"], "1066.5");
    assert_eq!((&valuation["holdings"][0]["price"], &valuation["unpriced"]), (&json!("120.5"), &json!([])));

    let activity = ok(&service, &format!("{portfolio}/activity?kind=buy&limit=1")).await.body;
    assert_eq!(activity["items"][0]["note"], "more");
    assert_eq!(activity["items"][0]["cash"], json!({"currency": "USD", "amount": "-104"}));
    let next = activity["next"].as_str().unwrap();
    let rest = ok(&service, &format!("{portfolio}/activity?kind=buy&limit=1&after={next}")).await.body;
    assert_eq!((&rest["items"][0]["quantity"], &rest["next"]), (&json!("3"), &json!(null)));

    let events = ok(&service, &format!("{portfolio}/events")).await.body;
    let types: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["PortfolioOpened", "CashDeposited", "AssetBought", "AssetBought", "AssetSold"]);
    assert_eq!(
        (&events["items"][2]["actor"], &events["items"][2]["data"]["fee"]),
        (&json!("local"), &json!("1"))
    );

    let investor = found["investor_id"].as_str().unwrap();
    let investor = ok(&service, &format!("/v1/investors/{investor}")).await.body;
    assert_eq!((&investor["name"], &investor["portfolio_count"]), (&json!("Example Investor"), &json!(1)));
    assert_eq!(investor["totals"][0]["total_value_base"], "1066.5");
    assert_eq!(ok(&service, "/v1/investors").await.body["items"].as_array().unwrap().len(), 1);
    let listed = ok(&service, "/v1/portfolios?order=-value&name=sav&value_min=1000").await.body;
    assert_eq!(listed["items"][0]["summary"]["total_value_base"], "1066.5");
    assert_eq!(ok(&service, "/v1/assets?class=etf").await.body["items"], json!([]));
    let asset = ok(&service, "/v1/assets/ACME").await.body;
    assert_eq!((&asset["price"]["price"], &asset["price"]["kind"]), (&json!("120.5"), &json!("tick")));
    assert_eq!(asset["sources"][0]["close_day"], "2024-01-08");
    let closes = ok(&service, "/v1/assets/ACME/prices?from=2024-01-06").await.body;
    assert_eq!(
        (&closes["items"][0]["day"], &closes["items"][0]["price"]),
        (&json!("2024-01-08"), &json!("112"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_can_be_told_after_its_close_and_told_anew() {
    let database = environment::database().await;
    let service = Service::start(&database);
    story(&service).await;
    for volume in [json!("1000"), json!(null), json!("1200")] {
        let close = json!({"asset": "ACME", "price": "112.0", "day": "2024-01-08", "volume": volume});
        assert_eq!(service.post("/v1/prices", close).await.status, 200);
    }
    project(&database).await;
    let closes = ok(&service, "/v1/assets/ACME/prices").await.body;
    let volumes: Vec<_> = closes["items"].as_array().unwrap().iter().map(|close| &close["volume"]).collect();
    assert_eq!(volumes, [&json!(null), &json!("1200")], "{closes}");
    let report = verify(&database.pool).await.unwrap();
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_client_has_are_not_sent_again() {
    let database = environment::database().await;
    let service = Service::start(&database);
    let portfolio = story(&service).await;
    project(&database).await;
    let holdings = format!("{portfolio}/holdings");
    let tag = ok(&service, &holdings).await.headers["etag"].to_str().unwrap().to_owned();
    let ask = || Request::get(&holdings).header("if-none-match", &tag).body(Body::empty()).unwrap();
    // Something happens elsewhere: the place moves on, these rows do not.
    service.asset("OTHER").await;
    project(&database).await;
    assert_eq!(service.send(ask()).await.status, 304);
    let sale = json!({"asset": "ACME", "quantity": "1", "price": "110"});
    assert_eq!(service.post(&format!("{portfolio}/sell"), sale).await.status, 201);
    project(&database).await;
    assert_eq!(service.send(ask()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_waits_for_its_own_write_and_says_how_far_it_came() {
    let database = environment::database().await;
    let service = Service::start(&database);
    let portfolio = story(&service).await;
    project(&database).await;
    let reached = service.head().await;
    let deposited = service.post(&format!("{portfolio}/deposit"), json!({"amount": "5"})).await.body;
    let place = deposited["place"].as_str().unwrap();
    for path in ["", "/holdings", "/valuation", "/activity"] {
        let path = format!("{portfolio}{path}?min_position={place}&max_wait_ms=50");
        let answer = service.get(&path).await;
        assert_eq!(
            (answer.status, answer.body["type"].as_str()),
            (504, Some("/problems/not-yet-visible")),
            "{path}"
        );
        assert_eq!(answer.body["place"], format!("1:{reached}"), "{path}");
    }
    // The log is never behind.
    let events = ok(&service, &format!("{portfolio}/events?min_position={place}")).await.body;
    assert_eq!(events["items"][5]["type"], "CashDeposited");
    project(&database).await;
    let holdings = ok(&service, &format!("{portfolio}/holdings?min_position={place}")).await.body;
    assert_eq!(holdings["cash"][0]["balance"], "710");

    let dead = service.get(&format!("{portfolio}?min_position=7:1")).await;
    assert_eq!((dead.status, dead.body["type"].as_str()), (409, Some("/problems/dead-epoch")));
    let beyond = service.get(&format!("{portfolio}?min_position=1:999999&max_wait_ms=0")).await;
    assert_eq!(beyond.status, 504, "{}", beyond.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_questions_name_the_parameter() {
    let database = environment::database().await;
    let service = Service::start(&database);
    let portfolio = story(&service).await;
    project(&database).await;

    let nobody = "/v1/portfolios/019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90";
    for path in [
        nobody.to_owned(),
        format!("{nobody}/holdings"),
        format!("{nobody}/valuation"),
        format!("{nobody}/activity"),
        format!("{nobody}/activity?kind=buy"),
        format!("{nobody}/events"),
        "/v1/portfolios/7".into(),
        "/v1/portfolios/%00".into(),
        "/v1/investors/019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90".into(),
        "/v1/assets/NONE".into(),
        "/v1/assets/NONE/prices".into(),
        "/v1/assets/019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90".into(),
    ] {
        let answer = service.get(&path).await;
        assert_eq!(
            (answer.status, answer.body["type"].as_str()),
            (404, Some("/problems/not-found")),
            "{path}"
        );
    }
    // A cursor of the right list, with a key that no column can hold.
    let crafted =
        base64(r#"{"list":"portfolios by Name","key":["\u0000","019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90"]}"#);
    let cases = [
        ("/v1/portfolios?limit=0".to_owned(), "limit"),
        ("/v1/portfolios?limit=501".into(), "limit"),
        ("/v1/portfolios?limit=many".into(), "limit"),
        ("/v1/portfolios?order=best".into(), "order"),
        ("/v1/portfolios?risk_band=wild".into(), "risk_band"),
        ("/v1/portfolios?investor_id=7".into(), "investor_id"),
        ("/v1/portfolios?name=%00".into(), "name"),
        ("/v1/portfolios?risk_band=%00".into(), "risk_band"),
        ("/v1/portfolios?value_min=NaN".into(), "value_min"),
        ("/v1/portfolios?value_max=1e400".into(), "value_max"),
        ("/v1/portfolios?after=nonsense".into(), "after"),
        (format!("/v1/portfolios?after={crafted}"), "after"),
        ("/v1/portfolios?colour=red".into(), "colour"),
        ("/v1/portfolios?limit=1&limit=2".into(), "limit"),
        ("/v1/portfolios?min_position=901".into(), "min_position"),
        ("/v1/portfolios?max_wait_ms=10001".into(), "max_wait_ms"),
        ("/v1/investors?name=a".into(), "name"),
        ("/v1/assets?class=share".into(), "class"),
        ("/v1/assets/ACME/prices?from=yesterday".into(), "from"),
        ("/v1/assets/ACME/prices?source=%00".into(), "source"),
        (format!("{portfolio}/activity?kind=gift"), "kind"),
        (format!("{portfolio}/activity?asset_id=ACME"), "asset_id"),
        (format!("{portfolio}/holdings?limit=5"), "limit"),
    ];
    for (path, field) in cases {
        let answer = service.get(&path).await;
        assert_eq!((answer.status, answer.fields()), (422, vec![field]), "{path}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_models_that_nobody_has_made_yet_are_a_matter_of_time() {
    let database = environment::database().await;
    let service = Service::start(&database);
    let portfolio = service.portfolio("tracked").await;
    sqlx::query("drop schema directory cascade").execute(&database.pool).await.unwrap();
    let early = service.get(&portfolio).await;
    assert_eq!((early.status, early.body["type"].as_str()), (503, Some("/problems/busy")));
    assert_eq!(early.headers["retry-after"], "1");
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}
