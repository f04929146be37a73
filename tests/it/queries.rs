//! Reading: what the queries answer, of which moment, and that the hot ones scan no big table.

use std::time::Duration;

use insight::domain::asset::AssetClass;
use insight::domain::ids::{Epoch, Position};
use insight::domain::portfolio::event::CashMode;
use insight::projectors::rebuild::rebuild;
use insight::projectors::risk::Engine;
use insight::queries::directory::{
    AssetFilter, AssetName, OrderBy, PortfolioFilter, PortfolioOrder, find_asset, find_investor,
    find_portfolio, list_assets, list_investors, list_portfolios,
};
use insight::queries::freshness::{Freshness, Visibility};
use insight::queries::{Error, PageRequest, activity, holdings, log, prices, risk, valuations};
use sqlx::PgPool;
use tokio::time::Instant;

use crate::environment::{self, TestDatabase};
use crate::projectors_history::{History, january, noon};

const READ_MODELS: [&str; 5] = ["directory", "holdings", "prices", "valuations", "activity"];

async fn project_all(pool: &PgPool) {
    for name in READ_MODELS {
        rebuild(name, pool, Engine::default(), |_| {}).await.unwrap();
    }
}

fn page(limit: u32, after: Option<String>) -> PageRequest {
    PageRequest { after, limit }
}

async fn database() -> (TestDatabase, History) {
    let database = environment::database().await;
    let history = History::new(database.options());
    (database, history)
}

#[tokio::test]
async fn holdings_come_with_lots_cash_and_the_moment_they_are_of() {
    let (database, mut history) = database().await;
    let ada = history.investor("Ada");
    let apple = history.asset("AAPL", AssetClass::Equity, "USD");
    let id = history.portfolio(ada, "Growth", "USD", CashMode::Tracked);
    history.deposit(id, "5000", "USD", 2);
    history.buy(id, apple, "10", "100", 3);
    history.buy(id, apple, "5", "110", 4);
    let head = history.commit().await;
    project_all(&database.pool).await;

    let answer = holdings::find_holdings(&database.pool, id).await.unwrap().unwrap();
    assert_eq!((answer.as_of.epoch, answer.as_of.position, answer.parked), (Epoch(1), head, false));
    assert_eq!((answer.data.version, answer.data.position), (4, head.0));
    let holding = &answer.data.holdings[0];
    assert_eq!(holding.symbol.as_deref(), Some("AAPL"));
    assert_eq!(holding.quantity.normalize().to_string(), "15");
    let lots: Vec<String> = holding.lots.iter().map(|lot| lot.cost.normalize().to_string()).collect();
    assert_eq!(lots, ["1000", "550"]);
    assert_eq!(answer.data.cash[0].balance.normalize().to_string(), "3450");

    let nobody = insight::domain::ids::PortfolioId(uuid::Uuid::nil());
    assert_eq!(holdings::find_holdings(&database.pool, nobody).await.unwrap(), None);
}

#[tokio::test]
async fn lists_come_in_pages_without_a_row_twice_or_missed() {
    let (database, mut history) = database().await;
    let ada = history.investor("Ada");
    let grace = history.investor("Grace");
    let apple = history.asset("AAPL", AssetClass::Equity, "USD");
    history.asset("MSFT", AssetClass::Equity, "USD");
    for i in 0..7_u32 {
        let owner = if i < 5 { ada } else { grace };
        let id = history.portfolio(owner, &format!("P{}", i % 3), "USD", CashMode::Tracked);
        if i > 1 {
            history.buy(id, apple, &format!("{i}"), "10", 3);
        }
    }
    history.tick(apple, "20", "USD", noon(5));
    history.commit().await;
    project_all(&database.pool).await;
    let pool = &database.pool;

    let by = [
        OrderBy::Name,
        OrderBy::AssetCount,
        OrderBy::Volatility,
        OrderBy::Sharpe,
        OrderBy::Value,
        OrderBy::Risk,
    ];
    let orders =
        by.into_iter().flat_map(|by| [false, true].map(|descending| PortfolioOrder { by, descending }));
    for order in orders {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let answer =
                list_portfolios(pool, &PortfolioFilter::default(), order, &page(2, after)).await.unwrap();
            seen.extend(answer.data.items.into_iter());
            after = answer.data.next;
            if after.is_none() {
                break;
            }
        }
        let all = list_portfolios(pool, &PortfolioFilter::default(), order, &page(50, None)).await.unwrap();
        assert_eq!(seen, all.data.items, "{order:?}");
        assert_eq!(seen.len(), 7);
    }
    let filter =
        PortfolioFilter { investor_id: Some(ada), name: Some("p1".into()), ..PortfolioFilter::default() };
    let found = list_portfolios(pool, &filter, PortfolioOrder::default(), &page(50, None)).await.unwrap();
    assert_eq!(found.data.items.len(), 2);

    let investors = list_investors(pool, &page(1, None)).await.unwrap();
    let (first, next) = (&investors.data.items[0], investors.data.next);
    assert_eq!((first.name.as_deref(), first.portfolios), (Some("Ada"), 5));
    let second = list_investors(pool, &page(1, next)).await.unwrap();
    assert_eq!(second.data.items[0].email.as_deref(), Some("grace@example.com"));
    assert_eq!(second.data.next, None);

    let one = find_investor(pool, ada).await.unwrap().unwrap();
    assert_eq!((one.data.portfolios.len(), one.data.totals.len()), (5, 1));

    let assets = list_assets(pool, &AssetFilter::default(), &page(1, None)).await.unwrap();
    assert_eq!(assets.data.items[0].symbol, "AAPL");
    let rest = list_assets(pool, &AssetFilter::default(), &page(1, assets.data.next)).await.unwrap();
    assert_eq!(rest.data.items[0].symbol, "MSFT");
}

#[tokio::test]
async fn a_cursor_of_another_list_is_refused() {
    let (database, mut history) = database().await;
    history.investor("Ada");
    history.investor("Grace");
    history.commit().await;
    project_all(&database.pool).await;
    let next = list_investors(&database.pool, &page(1, None)).await.unwrap().data.next;
    let refused = list_assets(&database.pool, &AssetFilter::default(), &page(1, next)).await;
    assert!(matches!(refused, Err(Error::BadCursor)));
}

#[tokio::test]
async fn an_asset_is_found_by_id_and_symbol_with_its_prices() {
    let (database, mut history) = database().await;
    let apple = history.asset("AAPL", AssetClass::Equity, "USD");
    for day in 2..6 {
        history.close(apple, &format!("{}", 100 + day), "USD", day);
    }
    history.tick(apple, "111", "USD", noon(9));
    history.commit().await;
    project_all(&database.pool).await;
    let pool = &database.pool;

    let by_symbol = find_asset(pool, &AssetName::Symbol("AAPL".into())).await.unwrap().unwrap();
    let by_id = find_asset(pool, &AssetName::Id(apple)).await.unwrap().unwrap();
    assert_eq!(by_symbol, by_id);
    assert_eq!(by_id.data.price.unwrap().normalize().to_string(), "111");
    assert_eq!(by_id.data.price_kind.as_deref(), Some("tick"));

    let filter = prices::CloseFilter { from: Some(january(3)), ..prices::CloseFilter::default() };
    let closes = prices::list_closes(pool, apple, &filter, &page(2, None)).await.unwrap();
    let days: Vec<_> = closes.data.items.iter().map(|close| close.day).collect();
    assert_eq!(days, [january(3), january(4)]);
    let closes = prices::list_closes(pool, apple, &filter, &page(2, closes.data.next)).await.unwrap();
    assert_eq!(closes.data.items[0].day, january(5));
    let sources = prices::list_sources(pool, apple).await.unwrap();
    assert_eq!(sources.data[0].close_day, Some(january(5)));
}

#[tokio::test]
async fn valuation_activity_and_audit_trail_of_a_portfolio() {
    let (database, mut history) = database().await;
    let ada = history.investor("Ada");
    let apple = history.asset("AAPL", AssetClass::Equity, "USD");
    let id = history.portfolio(ada, "Growth", "USD", CashMode::Untracked);
    history.buy(id, apple, "10", "100", 3);
    history.sell(id, apple, "4", "120", 5);
    history.tick(apple, "130", "USD", noon(6));
    let head = history.commit().await;
    project_all(&database.pool).await;
    let pool = &database.pool;

    let valuation = valuations::find_valuation(pool, id).await.unwrap().unwrap();
    assert_eq!(valuation.data.total.market_value_base.normalize().to_string(), "780");
    assert_eq!(valuation.data.total.unrealized_gain_base.normalize().to_string(), "180");
    assert_eq!(valuation.data.holdings[0].weight.unwrap().normalize().to_string(), "1");
    assert_eq!(valuation.data.total.price_position, head.0);

    let one = find_portfolio(pool, id).await.unwrap().unwrap();
    assert_eq!(one.data.total_value_base.unwrap().normalize().to_string(), "780");
    assert_eq!(risk::find_risk(pool, id).await.unwrap(), None);

    let all = activity::ActivityFilter::default();
    let first = activity::list_activities(pool, id, &all, &page(2, None)).await.unwrap();
    // Opening a portfolio is dated the day it was recorded, the trades in January 2024.
    let kinds: Vec<_> = first.data.items.iter().map(|row| row.kind.as_str()).collect();
    assert_eq!(kinds, ["opened", "sell"]);
    let rest = activity::list_activities(pool, id, &all, &page(2, first.data.next)).await.unwrap();
    assert_eq!(rest.data.items[0].kind, "buy");

    let trail = log::list_portfolio_events(pool, id, &page(2, None)).await.unwrap().unwrap();
    assert_eq!(trail.as_of.position, head);
    let types: Vec<_> = trail.data.items.iter().map(|row| row.event_type.as_str()).collect();
    assert_eq!(types, ["PortfolioOpened", "AssetBought"]);
    let rest = log::list_portfolio_events(pool, id, &page(2, trail.data.next)).await.unwrap().unwrap();
    assert_eq!(rest.data.items[0].event_type, "AssetSold");
}

#[tokio::test]
async fn a_parked_stream_says_so_and_stands_before_its_bad_event() {
    let (database, mut history) = database().await;
    let ada = history.investor("Ada");
    let id = history.portfolio(ada, "Growth", "USD", CashMode::Tracked);
    history.deposit(id, "5", "USD", 2);
    let broken = insight::events::NewEvent {
        event_type: "CashDeposited",
        schema_version: 1,
        payload: "{}".into(),
        occurred_at: noon(2),
    };
    history.record_raw(id.stream(), broken);
    let head = history.commit().await;
    project_all(&database.pool).await;
    let answer = holdings::find_holdings(&database.pool, id).await.unwrap().unwrap();
    assert!(answer.parked);
    assert_eq!(answer.as_of.position, Position(head.0 - 1));
    let portfolio = find_portfolio(&database.pool, id).await.unwrap().unwrap();
    assert!(portfolio.parked);
    assert_eq!(portfolio.as_of.position, Position(head.0 - 1));
}

#[tokio::test]
async fn a_read_waits_for_the_writes_it_names() {
    let (database, mut history) = database().await;
    let pool = database.pool.clone();
    let ada = history.investor("Ada");
    let id = history.portfolio(ada, "Growth", "USD", CashMode::Tracked);
    let head = history.commit().await;
    let freshness = Freshness::new(pool.clone());
    let within = |ms| Instant::now() + Duration::from_millis(ms);

    let wait = freshness.wait_for(Epoch(1), head, &["holdings"], Some(id), within(50)).await.unwrap();
    assert_eq!(wait, Visibility::NotYet { reached: Position(0) });
    let waiting = tokio::spawn({
        let freshness = freshness.clone();
        let deadline = within(20_000);
        async move { freshness.wait_for(Epoch(1), head, &["holdings", "directory"], Some(id), deadline).await }
    });
    project_all(&pool).await;
    assert_eq!(waiting.await.unwrap().unwrap(), Visibility::Reached);

    let unknown = freshness.wait_for(Epoch(2), head, &["holdings"], None, within(50)).await.unwrap();
    assert_eq!(unknown, Visibility::DeadEpoch);
    sqlx::query("insert into log_epochs (epoch, first_position, reason) values (2, $1, 'restored')")
        .bind(head.0)
        .execute(&pool)
        .await
        .unwrap();
    let over = freshness.wait_for(Epoch(1), head, &["holdings"], None, within(50)).await.unwrap();
    assert_eq!(over, Visibility::DeadEpoch);
    let before = Position(head.0 - 1);
    let alive = freshness.wait_for(Epoch(1), before, &["directory"], None, within(50)).await.unwrap();
    assert_eq!(alive, Visibility::Reached);
}
