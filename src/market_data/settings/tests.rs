//! What a settings file says, and what is wrong with one.

use super::*;

fn read(text: &str) -> Result<Settings, Wrong> {
    Settings::read(text, |name| (name == "ALPHAVANTAGE_API_KEY").then(|| "very-secret".to_owned()))
}

#[test]
fn no_file_is_needed_and_nothing_prints_a_key() {
    let settings = read("").unwrap();
    assert_eq!(settings.default_source(What::Rates), "ecb");
    let yahoo = &settings.sources["yahoo"];
    assert_eq!(yahoo.series(What::History).name, "yahoo.splits");
    assert_eq!(yahoo.series(What::Quotes).adjustment, Adjustment::None);
    assert!(settings.sources["alphavantage"].key.is_some());
    assert!(!format!("{settings:?}").contains("very-secret"));
}

#[test]
fn an_address_is_printed_without_its_password() {
    let settings = read("[sources.yahoo]\nbase_url = \"https://user:pass-word@prices.example/x\"").unwrap();
    assert_eq!(&*settings.sources["yahoo"].base_url, "https://user:pass-word@prices.example/x");
    let printed = format!("{settings:?}");
    assert!(printed.contains("prices.example") && !printed.contains("pass-word"), "{printed}");
}

#[test]
fn the_central_banks_first_answer_is_the_short_one_and_the_long_one_fits() {
    let settings = read("").unwrap();
    let (ecb, yahoo) = (&settings.sources["ecb"], &settings.sources["yahoo"]);
    assert_eq!((settings.days_back(ecb), settings.days_back(yahoo)), (85, 92));
    assert_eq!((ecb.asking.body_bytes_max, yahoo.asking.body_bytes_max), (32 << 20, 8 << 20));
    let told = read("history_days = 4000").unwrap();
    assert_eq!(told.days_back(&told.sources["ecb"]), 4_000);
    assert_eq!(read("history_days = 0").unwrap_err().to_string(), "history_days must be 1 to 50000");
}

#[test]
fn a_file_changes_what_it_names() {
    let settings = read(
        r#"quotes = "mine"
        jump_percent = 30
        [sources.yahoo]
        base_url = "http://127.0.0.1:9/"
        concurrency = 50
        symbols = { "BRK.B" = "BRK-B" }
        [sources.mine]
        kind = "http"
        base_url = "https://prices.example"
        quotes = { path = "/q/{symbol}", format = "json", price = "/p", time = "/t" }"#,
    )
    .unwrap();
    assert_eq!(settings.bounds.jump_percent, 30);
    let yahoo = &settings.sources["yahoo"];
    assert_eq!((&*yahoo.base_url, yahoo.asking.concurrency), ("http://127.0.0.1:9", 50));
    assert_eq!((yahoo.symbol("BRK.B"), yahoo.symbol("KO")), ("BRK-B".into(), "KO".into()));
    assert_eq!(settings.sources["stooq"].symbol("KO"), "KO.us");
}

#[test]
fn what_is_wrong_is_named() {
    let wrong = |text: &str| read(text).unwrap_err().to_string();
    assert!(wrong("colour = 1").starts_with("line 1: unknown field `colour`"));
    assert!(wrong("\n[sources.yahoo]\nkey = \"x\"").starts_with("line 3: unknown field `key`"));
    assert_eq!(wrong("[sources.yahoo]\nattempts = 0"), "sources.yahoo.attempts must be 1 to 100");
    assert_eq!(wrong("[sources.mine]"), "sources.mine.kind is missing");
    assert_eq!(wrong("quotes = \"nobody\""), "quotes names the source nobody, which there is not");
    assert!(wrong("[sources.ecb]\nbase_url = \"ecb\"").contains("sources.ecb.base_url must be an address"));
    assert!(wrong("[sources.yahoo]\nhistory_series = \"yahoo\"").contains("must differ from quotes_series"));
    assert!(wrong("[sources.\"Big Bank\"]\nkind = \"http\"").contains("is not a source"));
}
