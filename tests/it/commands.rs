//! The write side under company: one winner, one effect, no oversell, no false "no".

use std::collections::HashSet;
use std::time::Duration;

use insight::commands::prices::{BodyFormat, PriceBulk};
use insight::commands::{AssetRef, Command, Refusal, Request, Settings};
use insight::domain::ids::{AssetId, InvestorId, JobId, Position, RunId, Version};
use insight::domain::job::{JobCommand, JobKind};
use insight::domain::portfolio::event::CashMode;
use insight::domain::rejection::Rejection;
use insight::event_store::read;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::environment;
use crate::ledger::{self, Ledger, buy, deposit, if_match, request, sell};
use crate::working_stage::by_hand;

/// Positions are 1..head, versions follow them in every stream, every command's events are whole.
pub async fn check_log(pool: &sqlx::PgPool) -> Position {
    let slice = read::after(pool, Position(0), 1_000_000).await.unwrap();
    let mut versions = std::collections::HashMap::new();
    for (k, event) in (1..).zip(&slice.events) {
        assert_eq!(event.position, Position(k), "a hole");
        let version = versions.entry(event.stream_id.clone()).or_insert(Version(0));
        assert_eq!(event.version, version.next(), "{} at {}", event.stream_id, event.position);
        *version = event.version;
        assert_eq!(event.shard, event.stream_id.shard());
        event.event().unwrap();
    }
    assert_eq!(slice.head.0, slice.events.len() as i64);
    slice.head
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_callers_with_the_same_expected_version_one_wins() {
    let database = environment::database().await;
    let ledger = Ledger::start(&database);
    let (portfolio, asset) = ledger.portfolio(CashMode::Untracked).await;
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let commands = ledger.commands.clone();
        let command = if_match(buy(portfolio, &asset, "1", "10"), 1);
        callers.spawn(async move { commands.execute(command).await });
    }
    let mut won = 0;
    for result in callers.join_all().await {
        match result {
            Ok(answer) => {
                assert_eq!(answer.version, Version(2));
                won += 1;
            }
            Err(Refusal::Rejected(Rejection::StaleVersion { current_version })) => {
                assert_eq!(current_version, Version(2));
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(won, 1);
    check_log(&database.pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_concurrent_sells_never_oversell_and_none_that_fits_is_refused() {
    let database = environment::database().await;
    let ledger = Ledger::start(&database);
    let (portfolio, asset) = ledger.portfolio(CashMode::Untracked).await;
    ledger.send(buy(portfolio, &asset, "30", "10")).await.unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let commands = ledger.commands.clone();
        let command = request(sell(portfolio, &asset, "1", "11"));
        callers.spawn(async move { commands.execute(command).await });
    }
    let results = callers.join_all().await;
    let sold = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(sold, 30);
    for refused in results.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, Refusal::Rejected(Rejection::InsufficientHolding { .. })), "{refused}");
    }
    check_log(&database.pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_sent_by_twenty_callers_has_one_effect_and_equal_answers() {
    let database = environment::database().await;
    let ledger = Ledger::start(&database);
    let (portfolio, asset) = ledger.portfolio(CashMode::Untracked).await;
    let command = request(buy(portfolio, &asset, "1", "10"));
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let commands = ledger.commands.clone();
        let command = command.clone();
        callers.spawn(async move { commands.execute(command).await.unwrap() });
    }
    let answers = callers.join_all().await;
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(answers[0].version, Version(2));

    let other_body = Request { request_hash: [7; 32].as_slice().into(), ..command };
    assert!(matches!(ledger.commands.execute(other_body).await, Err(Refusal::KeyReused)));
    check_log(&database.pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_gets_the_original_answer_even_when_the_state_has_moved_on() {
    let database = environment::database().await;
    let ledger = Ledger::start(&database);
    let (portfolio, asset) = ledger.portfolio(CashMode::Untracked).await;
    ledger.send(buy(portfolio, &asset, "5", "10")).await.unwrap();
    let sale = request(sell(portfolio, &asset, "5", "12"));
    let first = ledger.commands.execute(sale.clone()).await.unwrap();
    // Judged anew it would be refused: nothing is left. So would its old expectation of the version.
    let sale = Request { if_match: Some(Version(2)), ..sale };
    assert_eq!(ledger.commands.execute(sale.clone()).await.unwrap(), first);
    // Also from a process that has never seen it.
    let other = Ledger::start(&database);
    assert_eq!(other.commands.execute(sale).await.unwrap(), first);
    check_log(&database.pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symbol_and_an_email_have_one_owner() {
    let database = environment::database().await;
    let (one, two) = (Ledger::start(&database), Ledger::start(&database));
    let mut callers = JoinSet::new();
    for k in 0..10 {
        let commands = if k % 2 == 0 { one.commands.clone() } else { two.commands.clone() };
        callers.spawn(async move {
            let listed = commands.execute(request(ledger::list(AssetId(Uuid::now_v7()), "SAME"))).await;
            let mail = if k % 3 == 0 { "a@example.invalid" } else { "A@example.invalid" };
            let registered =
                commands.execute(request(ledger::register(InvestorId(Uuid::now_v7()), mail))).await;
            (listed, registered)
        });
    }
    let results = callers.join_all().await;
    assert_eq!(results.iter().filter(|(listed, _)| listed.is_ok()).count(), 1);
    assert_eq!(results.iter().filter(|(_, registered)| registered.is_ok()).count(), 1);
    for (listed, registered) in results {
        assert!(listed.is_ok() || matches!(listed, Err(Refusal::Rejected(Rejection::SymbolTaken { .. }))));
        assert!(registered.is_ok() || matches!(registered, Err(Refusal::Rejected(Rejection::EmailTaken))));
    }
    check_log(&database.pool).await;
}

/// Two processes, 32 callers each, on one portfolio: whatever the order, a sale that the log allows is not refused.
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_portfolio_never_refuse_what_the_log_allows() {
    let database = environment::database().await;
    let processes = [Ledger::start(&database), Ledger::start(&database)];
    let (portfolio, asset) = processes[0].portfolio(CashMode::Tracked).await;
    processes[0].send(deposit(portfolio, "1000000")).await.unwrap();
    let mut callers = JoinSet::new();
    for k in 0..64 {
        let commands = processes[k % 2].commands.clone();
        let asset = asset.clone();
        callers.spawn(async move {
            let mut busy = 0;
            for _ in 0..5 {
                // Each caller sells only what it has bought: never an oversell, whatever the others do.
                for command in [buy(portfolio, &asset, "2", "10"), sell(portfolio, &asset, "2", "10")] {
                    let command =
                        Request { deadline: Instant::now() + Duration::from_secs(20), ..request(command) };
                    loop {
                        match commands.execute(command.clone()).await {
                            Ok(_) => break,
                            Err(Refusal::Busy { .. }) => busy += 1,
                            Err(other) => panic!("refused although the log allows it: {other}"),
                        }
                    }
                }
            }
            busy
        });
    }
    let busy: usize = callers.join_all().await.into_iter().sum();
    println!("refusals by deadline: {busy}");
    let head = check_log(&database.pool).await;
    assert_eq!(head.0, 2 + 1 + 1 + 1 + 640);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_an_answer() {
    let database = environment::database().await;
    let ledger = Ledger::with(&database, Settings { queue_max: 4, ..Settings::default() });
    let (portfolio, asset) = ledger.portfolio(CashMode::Untracked).await;
    let mut callers = JoinSet::new();
    for _ in 0..500 {
        let commands = ledger.commands.clone();
        let command = request(buy(portfolio, &asset, "1", "10"));
        callers.spawn(async move { commands.execute(command).await });
    }
    let results = callers.join_all().await;
    let accepted = results.iter().filter(|result| result.is_ok()).count();
    let busy = results.iter().filter(|result| matches!(result, Err(Refusal::Busy { .. }))).count();
    assert_eq!(accepted + busy, 500);
    assert!(busy > 0);
    let head = check_log(&database.pool).await;
    assert_eq!(head.0 as usize, 2 + 1 + 1 + accepted);
}

/// Connections die in the middle of everything; whoever was answered is in the log, once, and nobody twice.
#[tokio::test(flavor = "multi_thread")]
async fn killed_connections_lose_and_double_nothing() {
    let database = environment::database().await;
    let ledger = Ledger::start(&database);
    let (portfolio, asset) = ledger.portfolio(CashMode::Untracked).await;
    let pool = database.pool.clone();
    let killer = tokio::spawn(async move {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(25)).await;
            let kill = "select pg_terminate_backend(pid) from pg_stat_activity \
                        where application_name = 'insight append' and datname = current_database()";
            let _ = sqlx::query(kill).execute(&pool).await;
        }
    });
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let commands = ledger.commands.clone();
        let asset = asset.clone();
        callers.spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..40 {
                let command = request(buy(portfolio, &asset, "1", "10"));
                loop {
                    let again =
                        Request { deadline: Instant::now() + Duration::from_secs(10), ..command.clone() };
                    match commands.execute(again).await {
                        Ok(answer) => break ids.push(answer.command_id),
                        Err(Refusal::Busy { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            ids
        });
    }
    let acknowledged: Vec<Uuid> = callers.join_all().await.into_iter().flatten().collect();
    killer.await.unwrap();
    check_log(&database.pool).await;
    let slice = read::after(&database.pool, Position(0), 1_000_000).await.unwrap();
    let bought: Vec<Uuid> = slice
        .events
        .iter()
        .filter(|e| &*e.event_type == "AssetBought")
        .map(|e| e.event_id.command_id)
        .collect();
    let once: HashSet<Uuid> = bought.iter().copied().collect();
    assert_eq!(once.len(), bought.len(), "a command has two effects");
    assert_eq!(once, acknowledged.into_iter().collect::<HashSet<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_named() {
    let database = environment::database().await;
    let ledger = Ledger::start(&database);
    let (portfolio, asset) = ledger.portfolio(CashMode::Untracked).await;
    let unknown: AssetRef = "NOSUCH".parse().unwrap();
    let refused = ledger.send(buy(portfolio, &unknown, "1", "1")).await;
    let Err(Refusal::Rejected(Rejection::InvalidFields(fields))) = refused else { panic!("{refused:?}") };
    assert_eq!(fields[0].field, "asset");
    let nowhere = insight::domain::ids::PortfolioId(Uuid::now_v7());
    let refused = ledger.send(buy(nowhere, &asset, "1", "1")).await;
    assert!(
        matches!(refused, Err(Refusal::Rejected(Rejection::NotFound { kind: "portfolio" }))),
        "{refused:?}"
    );
    let orphan: Command = ledger::open(nowhere, InvestorId(Uuid::now_v7()), CashMode::Untracked);
    let refused = ledger.send(orphan).await;
    assert!(matches!(refused, Err(Refusal::Rejected(Rejection::InvalidFields(_)))), "{refused:?}");
}

fn bulk(lines: &str, command_id: Uuid) -> PriceBulk {
    PriceBulk {
        command_id,
        actor: "test".into(),
        correlation_id: Uuid::now_v7(),
        deadline: Instant::now() + Duration::from_secs(20),
        body: lines.to_owned().into(),
        format: BodyFormat::Ndjson,
    }
}

fn price_line(asset: &AssetRef, day: u32) -> String {
    let AssetRef::Id(id) = asset else { unreachable!() };
    format!("{{\"asset\":\"{id}\",\"day\":\"2020-01-{day:02}\",\"price\":\"10\"}}\n")
}

/// Two bodies under one id at once: what becomes of the one says nothing of the other.
#[tokio::test(flavor = "multi_thread")]
async fn another_body_under_the_same_key_is_not_refused_for_the_first_ones_reason() {
    let database = environment::database().await;
    let ledger = Ledger::start(&database);
    let (portfolio, asset) = ledger.portfolio(CashMode::Untracked).await;
    ledger.send(buy(portfolio, &asset, "10", "10")).await.unwrap();
    for _ in 0..20 {
        let too_much = request(sell(portfolio, &asset, "1000", "11"));
        let fits = Request { command_id: too_much.command_id, ..request(buy(portfolio, &asset, "1", "11")) };
        let (refused, accepted) =
            tokio::join!(ledger.commands.execute(too_much), ledger.commands.execute(fits));
        assert!(accepted.is_ok(), "{accepted:?}");
        let is_no = matches!(refused, Err(Refusal::Rejected(Rejection::InsufficientHolding { .. })));
        assert!(is_no || matches!(refused, Err(Refusal::KeyReused)), "{refused:?}");
    }
    check_log(&database.pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_prices_is_resent_whole_or_refused() {
    let database = environment::database().await;
    let ledger = Ledger::start(&database);
    let asset = ledger.asset().await;
    let window: String = (0..2_000).map(|_| price_line(&asset, 2)).collect();
    let body = window.clone() + &price_line(&asset, 3) + "nonsense\n";
    let id = Uuid::now_v7();
    let first = ledger.commands.post_prices(&bulk(&body, id)).await.unwrap();
    assert_eq!((first.accepted, first.rejected_count, first.last_durable_line), (2_001, 1, 2_002));
    let again = ledger.commands.post_prices(&bulk(&body, id)).await.unwrap();
    assert_eq!((again.accepted, &again.rejected, again.place), (2_001, &first.rejected, first.place));
    // The same first window, but another body.
    for other in [window.clone(), window + &price_line(&asset, 4)] {
        let refused = ledger.commands.post_prices(&bulk(&other, id)).await;
        assert!(matches!(refused, Err(Refusal::KeyReused)), "{refused:?}");
    }
    check_log(&database.pool).await;
}

/// What stands in the log must fit into a record of the bus, whatever a client sends.
#[tokio::test(flavor = "multi_thread")]
async fn refused_lines_take_a_bounded_place_in_the_log() {
    let database = environment::database().await;
    let ledger = Ledger::start(&database);
    let asset = ledger.asset().await;
    let bad = format!("{{\"{}\":1}}\n", "z".repeat(250));
    let body = price_line(&asset, 2) + &bad.repeat(1_900);
    let answer = ledger.commands.post_prices(&bulk(&body, Uuid::now_v7())).await.unwrap();
    assert_eq!((answer.accepted, answer.rejected_count), (1, 1_900));
    let events = read::after(&database.pool, Position(0), 100).await.unwrap().events;
    let largest = events.iter().map(|event| event.payload.len() + event.metadata.len()).max().unwrap();
    assert!(largest < 64 * 1_024, "{largest}");
    assert!(events.iter().all(|event| !event.metadata.contains(&"z".repeat(51))));
}

/// Appends this many events to a job's stream, of which none changes what is open.
async fn lengthen(pool: &sqlx::PgPool, job_id: JobId, count: i64) {
    const SQL: &str = "\
        insert into events (position, command_id, ordinal, stream_id, version, shard, event_type, schema_version, \
            request_hash, correlation_id, occurred_at, recorded_at, payload, metadata) \
        select last.position + i, gen_random_uuid(), 0, last.stream_id, last.version + i, last.shard, 'RunCancelled', 1, \
            sha256(i::text::bytea), gen_random_uuid(), clock_timestamp(), clock_timestamp(), \
            json_build_object('job_id', $1::uuid, 'run_id', gen_random_uuid()), '{\"actor\":\"test\"}' \
        from (select * from events where stream_id = $2 order by version desc limit 1) last, generate_series(1, $3) i";
    let insert = sqlx::query(SQL).bind(job_id.0).bind(job_id.stream().as_str()).bind(count);
    insert.execute(pool).await.unwrap();
}

fn run_now(job_id: JobId) -> Command {
    Command::Job { job_id, command: JobCommand::RunNow { run_id: RunId(Uuid::now_v7()) } }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_takes_longer_to_read_than_a_command_may_wait_is_read_in_the_end() {
    const EVENTS: i64 = 60_000;
    let database = environment::database().await;
    let ledger = Ledger::start(&database);
    let job_id = JobId::named("often");
    let settings = by_hand(JobKind::Verify);
    let define = JobCommand::Define { name: "often".into(), settings };
    ledger.send(Command::Job { job_id, command: define }).await.unwrap();
    lengthen(&database.pool, job_id, EVENTS).await;

    // It has never read the stream, and none of its callers waits long enough to do so.
    let cold = Ledger::start(&database);
    let began = Instant::now();
    let answer = loop {
        let deadline = Instant::now() + Duration::from_millis(150);
        match cold.commands.execute(Request { deadline, ..request(run_now(job_id)) }).await {
            Ok(answer) => break answer,
            Err(Refusal::Busy { .. }) => assert!(began.elapsed() < Duration::from_secs(60), "never read"),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(answer.version, Version(EVENTS + 2));

    // One that knows the stream as it was goes on from there: for a yes, and for a no.
    let answer = ledger.send(run_now(job_id)).await.unwrap();
    assert_eq!(answer.version, Version(EVENTS + 3));
    lengthen(&database.pool, job_id, 5_000).await;
    let run_id = RunId(Uuid::now_v7());
    let refused = ledger.send(Command::Job { job_id, command: JobCommand::CancelRun { run_id } }).await;
    assert!(matches!(refused, Err(Refusal::Rejected(Rejection::RunNotOpen { .. }))), "{refused:?}");
    assert_eq!(ledger.send(run_now(job_id)).await.unwrap().version, Version(EVENTS + 5_004));
}
