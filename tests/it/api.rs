//! The service as a client sees it: what is created can be used, what is sent again has one effect, and a "no" has its data.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use crate::environment;
use crate::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn a_trade_goes_from_an_investor_to_a_place_in_the_log() {
    let database = environment::database().await;
    let service = Service::start(&database);
    let registered = service
        .post(
            "/v1/investors",
            json!({"name": "Example Investor", "email": "one@example.invalid", "risk_tolerance": "high"}),
        )
        .await;
    assert_eq!(registered.status, 201, "{}", registered.body);
    let investor = registered.body["id"].as_str().unwrap();
    assert_eq!(registered.headers["location"], format!("/v1/investors/{investor}").as_str());
    assert_eq!(registered.body["stream_id"], format!("investor-{investor}"));
    assert_eq!(registered.body["place"], "1:1");
    let text = registered.body.to_string();
    assert!(!text.contains("Example") && !text.contains("example.invalid"), "{text}");

    let listed = service
        .post("/v1/assets", json!({"symbol": "ACME", "name": "Acme", "class": "equity", "currency": "USD"}))
        .await;
    assert_eq!(listed.status, 201, "{}", listed.body);
    assert_eq!(
        listed.headers["location"],
        format!("/v1/assets/{}", listed.body["id"].as_str().unwrap()).as_str()
    );

    let portfolio = service.portfolio("tracked").await;
    let deposited = service.post(&format!("{portfolio}/deposit"), json!({"amount": "1000"})).await;
    assert_eq!((deposited.status, deposited.body["version"].as_i64()), (201, Some(2)));
    let trade =
        json!({"asset": "ACME", "quantity": "4", "price": "100.50", "fee": "1", "trade_date": "2024-03-01"});
    // On that day there is no cash yet: it came today.
    let refused = service.post(&format!("{portfolio}/buy"), trade).await;
    assert_eq!((refused.status, refused.body["type"].as_str()), (409, Some("/problems/insufficient-cash")));
    assert_eq!((&refused.body["day"], &refused.body["currency"]), (&json!("2024-03-01"), &json!("USD")));

    let trade = json!({"asset": "ACME", "quantity": "4", "price": "100.50", "fee": "1"});
    let bought = service.post(&format!("{portfolio}/buy"), trade).await;
    assert_eq!(bought.status, 201, "{}", bought.body);
    assert_eq!(bought.body["events"][0]["type"], "AssetBought");
    assert_eq!(
        bought.body["events"][0]["event_id"],
        format!("{}.0", bought.body["command_id"].as_str().unwrap())
    );
    assert_eq!(bought.body["place"], format!("1:{}", bought.body["events"][0]["position"]));
    assert_eq!(service.head().await.0, bought.body["events"][0]["position"]);

    let sale = json!({"asset": "ACME", "quantity": "4.0000000001", "price": "120"});
    let refused = service.post(&format!("{portfolio}/sell"), sale).await;
    assert_eq!(
        (refused.status, refused.body["type"].as_str()),
        (409, Some("/problems/insufficient-holding"))
    );
    assert_eq!(refused.body["held"], "4");
    let withdrawn = service.post(&format!("{portfolio}/withdraw"), json!({"amount": "597"})).await;
    assert_eq!(withdrawn.status, 201, "{}", withdrawn.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_one_effect_and_one_answer_and_takes_no_other_body() {
    let database = environment::database().await;
    let service = Service::start(&database);
    service.asset("ACME").await;
    let portfolio = service.portfolio("untracked").await;
    let buy = format!("{portfolio}/buy");
    let key = [("idempotency-key", "first")];
    let first = service.post_with(&buy, &key, json!({"asset": "ACME", "quantity": "1", "price": "10"})).await;
    let again = service.post_with(&buy, &key, json!({"price": "10", "quantity": "1", "asset": "ACME"})).await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.body, again.body);
    let head = service.head().await;
    let other = service.post_with(&buy, &key, json!({"asset": "ACME", "quantity": "2", "price": "10"})).await;
    assert_eq!((other.status, other.body["type"].as_str()), (422, Some("/problems/idempotency-key-reused")));
    let versioned = [("idempotency-key", "first"), ("if-match", "\"1\"")];
    let other =
        service.post_with(&buy, &versioned, json!({"asset": "ACME", "quantity": "1", "price": "10"})).await;
    assert_eq!(other.status, 422);
    // The same key at another address is another wish.
    assert_eq!(service.head().await, head);
    let sold = service
        .post_with(
            &format!("{portfolio}/sell"),
            &key,
            json!({"asset": "ACME", "quantity": "1", "price": "10"}),
        )
        .await;
    assert_eq!(sold.status, 201, "{}", sold.body);

    // Of what is created, a resend gets the id that was made first.
    let investor = |email: &str| json!({"name": "Example Investor", "email": email});
    let first = service.post_with("/v1/investors", &key, investor("a@example.invalid")).await;
    let again = service.post_with("/v1/investors", &key, investor("a@example.invalid")).await;
    assert_eq!(first.body, again.body);
    assert_eq!(first.headers["location"], again.headers["location"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_version_is_refused_with_the_current_one() {
    let database = environment::database().await;
    let service = Service::start(&database);
    let settings = format!("{}/settings", service.portfolio("untracked").await);
    let matching = |tag| [("if-match", tag)];
    let changed = service.post_with(&settings, &matching("\"1\""), json!({"cost_basis": "average"})).await;
    assert_eq!((changed.status, changed.body["version"].as_i64()), (201, Some(2)));
    let stale = service.post_with(&settings, &matching("\"1\""), json!({"cost_basis": "lifo"})).await;
    assert_eq!((stale.status, stale.body["type"].as_str()), (412, Some("/problems/stale-version")));
    assert_eq!(stale.body["current_version"], 2);
    let unchanged = service.post_with(&settings, &matching("\"2\""), json!({"cost_basis": "average"})).await;
    assert_eq!((unchanged.status, &unchanged.body["events"]), (200, &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn good_lines_are_kept_and_bad_ones_reported() {
    let database = environment::database().await;
    let service = Service::start(&database);
    service.asset("ACME").await;
    let lines = [
        r#"{"asset":"ACME","price":"10","day":"2024-03-01"}"#,
        r#"{"asset":"ACME","price":"-1","day":"2024-03-02"}"#,
        "",
        r#"{"asset":"ACME","price":"11","day":"2024-03-"#,
        r#"{"asset":"NONE","price":"11","day":"2024-03-04"}"#,
        r#"{"asset":"ACME","price":"12","at":"2024-03-05T10:00:00Z","source":"exchange"}"#,
    ];
    let post = |key: &str| {
        let request = Request::post("/v1/prices").header("content-type", "application/x-ndjson");
        request.header("idempotency-key", key).body(Body::from(lines.join("\n"))).unwrap()
    };
    let answer = service.send(post("prices")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!((&answer.body["accepted"], &answer.body["rejected"]), (&json!(2), &json!(3)));
    assert_eq!(answer.body["last_durable_line"], 6);
    let rejected = answer.body["rejected_lines"].as_array().unwrap();
    let told: Vec<_> = rejected.iter().map(|line| (line["line"].as_i64(), line["field"].as_str())).collect();
    assert_eq!(told[0], (Some(2), Some("price")));
    assert_eq!(told[1].0, Some(4));
    assert_eq!(told[2], (Some(5), Some("asset")));
    let head = service.head().await;
    assert_eq!(service.send(post("prices")).await.body, answer.body);
    assert_eq!(service.head().await, head);
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_are_ranked_once() {
    let database = environment::database().await;
    let service = Service::start(&database);
    let asset = service.asset("ACME").await;
    let ranking = |adjustment: &str| json!({"sources": [{"source": "exchange", "adjustment": adjustment}]});
    assert_eq!(service.post("/v1/assets/ACME/sources", ranking("splits")).await.status, 201);
    assert_eq!(service.post(&format!("/v1/assets/{asset}/sources"), ranking("splits")).await.status, 200);
    let fixed = service.post("/v1/assets/ACME/sources", ranking("none")).await;
    assert_eq!((fixed.status, fixed.body["source"].as_str()), (409, Some("exchange")));
}
