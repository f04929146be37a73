//! The judge over real rows: nothing differs after a random history, and whatever is planted is found.

use insight::event_store::read;
use insight::feed::{Source, StoreTail, WindowLimits};
use insight::verify::{Report, verify};
use sqlx::{AssertSqlSafe, PgPool};

use crate::environment::{self, TestDatabase};
use crate::ledger::Ledger;
use crate::random_history::RandomHistory;
use crate::read_models::{ALL, Projectors, reached};

/// A random history, projected while it was written.
async fn projected(seed: u64, commands: usize) -> TestDatabase {
    println!("seed {seed}");
    let database = environment::database().await;
    let source = Source::Store(StoreTail::start(database.pool.clone(), WindowLimits::default()));
    let projectors = Projectors::start(&source, &database.pool).await;
    let writing = Ledger::start(&database);
    let mut history = RandomHistory::start(&writing.commands, seed).await;
    for _ in 0..4 {
        history.go_on(&writing.commands, commands / 4).await;
        // In the middle of it: whatever a read model holds by now must be right.
        let report = verify(&database.pool).await.unwrap();
        assert!(report.is_clean(), "{report}");
    }
    projectors.stop().await;
    // Stopped and started again where the log does not end with a price.
    for _ in 0..2 {
        history.deposit(&writing.commands).await;
        let projectors = Projectors::start(&source, &database.pool).await;
        reached(&database.pool, read::head(&database.pool).await.unwrap()).await;
        projectors.stop().await;
    }
    database
}

/// A random history that nobody projects.
async fn written(seed: u64, commands: usize) -> TestDatabase {
    let database = environment::database().await;
    let writing = Ledger::start(&database);
    RandomHistory::start(&writing.commands, seed).await.go_on(&writing.commands, commands).await;
    database
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_every_read_model_is_what_the_reference_expects() {
    let database = projected(rand::random(), 600).await;
    let report = verify(&database.pool).await.unwrap();
    assert!(report.is_clean(), "{report}");
    let compared: Vec<&str> = report.read_models.iter().filter(|it| it.rows > 0).map(|it| it.name).collect();
    assert_eq!(compared, ALL, "{report}");
    assert!(report.to_string().ends_with("nothing differs"), "{report}");
}

async fn after(pool: &PgPool, statements: &[&'static str]) -> Report {
    let mut connection = pool.acquire().await.unwrap();
    for statement in statements {
        let done = sqlx::raw_sql(AssertSqlSafe(*statement)).execute(&mut *connection).await.unwrap();
        assert!(done.rows_affected() > 0 || statement.starts_with("alter"), "{statement} changed nothing");
    }
    verify(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_difference_is_found() {
    let database = projected(7, 400).await;
    let planted: &[(&'static str, &str)] = &[
        (
            "update holdings.lots set cost = cost + 0.0000000001 where position = (select min(position) from holdings.lots)",
            "holdings.lots",
        ),
        (
            "update holdings.holdings set realized_gain = -realized_gain where asset_id = (select asset_id from holdings.holdings where realized_gain <> 0 limit 1)",
            "realized_gain",
        ),
        ("delete from holdings.cash where balance = (select max(balance) from holdings.cash)", "is missing"),
        (
            "insert into prices.closes select gen_random_uuid(), source, day, price, volume, position from prices.closes limit 1",
            "should not be there",
        ),
        (
            "update valuations.valued_holdings set market_value_base = market_value_base + 1 where market_value_base is not null",
            "market_value_base",
        ),
        ("update directory.portfolios set version = version - 1", "version"),
        (
            "update activity.activities set note = 'another' where position = (select max(position) from activity.activities)",
            "note",
        ),
        ("update prices.checkpoints set scanned_to = scanned_to + 1000000", "scanned to"),
        (
            "update holdings.checkpoints set event_id = '0192f0c1-2345-7abc-8def-0011223344aa.0' where position > 0",
            "names another event",
        ),
        ("insert into activity.parked_streams select 'portfolio-x', 1, 1, 'x.0', 'poison', now()", "parked"),
        ("update risk.portfolio_risks set sharpe = sharpe * 1.0000001 where sharpe is not null", "sharpe"),
        ("alter table holdings.cash add column colour text default 'red'", "nobody compares"),
    ];
    let mut found = 0;
    for (statement, word) in planted {
        let report = after(&database.pool, &[statement]).await;
        assert!(report.difference_count > found, "{statement} was not found: {report}");
        let told = report.differences.iter().any(|it| format!("{} {}", it.place, it.found).contains(word));
        assert!(told || report.difference_count > 100, "{statement}: {report}");
        found = report.difference_count;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_log_is_found() {
    const OPEN: &str = "alter table events disable trigger events_immutable";
    const SHUT: &str = "alter table events enable trigger events_immutable";
    let forgeries: &[(&[&'static str], &str)] = &[
        (&["delete from events where position = 9"], "follows position 8"),
        (
            &["update events set recorded_at = recorded_at - interval '1 hour' where position = 20"],
            "before the one before",
        ),
        (
            &[
                "update events set shard = (shard + 1) % 32 where stream_id like 'portfolio-%' and version = 1",
            ],
            "lives in",
        ),
        (&["update events set payload = '{}' where position = 12"], "position 12"),
        (&["update events set ordinal = 5 where position = 4"], "stands where"),
        (
            &[
                "update events set payload = replace(payload::text, '\"amount\":\"', '\"amount\":\"1')::json where event_type = 'AssetBought'",
            ],
            "not quantity",
        ),
        (
            &[
                "update events set version = version + 1000 where position = (select max(position) from events)",
            ],
            "version",
        ),
        (
            &[
                "insert into investor_details (investor_id, name, email) values (gen_random_uuid(), 'A', 'a@b')",
            ],
            "no such investor",
        ),
        (&["alter table events drop constraint events_command_ordinal"], "constraint"),
    ];
    let database = written(8, 100).await;
    let report = after(&database.pool, &[OPEN]).await;
    assert_eq!(report.differences[0].place, "trigger events_immutable of public.events");
    assert!(report.differences[0].found.contains("disabled"), "{report}");
    assert_eq!(report.difference_count, 1, "{report}");
    assert!(after(&database.pool, &[SHUT]).await.is_clean());
    for (forgery, word) in forgeries {
        let database = written(8, 100).await;
        let statements: Vec<_> = [&[OPEN][..], forgery, &[SHUT]].concat();
        let report = after(&database.pool, &statements).await;
        let told = report.differences.iter().any(|it| format!("{} {}", it.place, it.found).contains(word));
        assert!(told && !report.is_clean(), "{forgery:?}: {report}");
    }
}
