//! Parked streams: one that an older program could not go on with is caught up beside whatever runs, exactly; one event is
//! done without, and that is kept.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::time::Duration;

use insight::domain::asset::AssetClass;
use insight::domain::ids::{PortfolioId, Position, Shard, StreamId};
use insight::domain::portfolio::event::CashMode;
use insight::event_store::read;
use insight::events::NewEvent;
use insight::feed::{Source, StoreTail, Topics, WindowLimits};
use insight::projectors::activity::Activity;
use insight::projectors::directory::Directory;
use insight::projectors::holdings::Holdings;
use insight::projectors::jobs::Jobs;
use insight::projectors::prices::Prices;
use insight::projectors::rebuild::rebuild;
use insight::projectors::risk::{Engine, Risk};
use insight::projectors::unpark::{Cure, Unparked, list_parked, list_skipped, unpark};
use insight::projectors::valuations::Valuations;
use insight::projectors::{self, Checkpoint, Error, Fact, Poison, ReadModel, Readiness, Settings};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::environment::{self, TestDatabase};
use crate::projectors_history::{History, noon, reached, rows_of};

/// A read model as an older program had it, which could not apply some events.
struct Older<M> {
    model: M,
    cannot: BTreeSet<Position>,
}

impl<M: ReadModel> ReadModel for Older<M> {
    const NAME: &'static str = M::NAME;
    const TOPICS: Topics = M::TOPICS;

    async fn assigned(&mut self, conn: &mut PgConnection, mine: &[Checkpoint]) -> Result<(), Error> {
        self.model.assigned(conn, mine).await
    }

    async fn prepare(&mut self, conn: &mut PgConnection, facts: &[Fact]) -> Result<Readiness, Error> {
        self.model.prepare(conn, facts).await
    }

    fn apply(&mut self, fact: &Fact) -> Result<(), Poison> {
        if self.cannot.contains(&fact.envelope.position) {
            return Err(Poison("an older program cannot do this".into()));
        }
        self.model.apply(fact)
    }

    async fn flush(&mut self, conn: &mut PgConnection) -> Result<(), Error> {
        self.model.flush(conn).await
    }

    fn forget(&mut self, shards: &[Shard]) {
        self.model.forget(shards);
    }

    async fn woken(&mut self) -> Result<(), Error> {
        self.model.woken().await
    }

    fn changed(&self) -> BTreeSet<Shard> {
        self.model.changed()
    }

    fn price_position(&self) -> Position {
        self.model.price_position()
    }
}

fn source(pool: &PgPool) -> Source {
    Source::Store(StoreTail::start(pool.clone(), WindowLimits::default()))
}

/// A projector that runs until it is stopped.
struct Running(JoinHandle<Result<(), Error>>, CancellationToken);

impl Running {
    fn start<M: ReadModel>(model: M, pool: &PgPool) -> Self {
        let cancel = CancellationToken::new();
        let run =
            projectors::run_with(model, source(pool), pool.clone(), cancel.clone(), Settings::default());
        Self(tokio::spawn(run), cancel)
    }

    async fn stop(self) {
        self.1.cancel();
        self.0.await.unwrap().unwrap();
    }
}

/// Projects everything up to the head as an older program would have done.
async fn project_older<M: ReadModel>(model: M, pool: &PgPool, cannot: &[Position]) {
    let cannot = cannot.iter().copied().collect();
    let running = Running::start(Older { model, cannot }, pool);
    reached(pool, M::NAME, read::head(pool).await.unwrap()).await;
    running.stop().await;
}

async fn project<M: ReadModel>(model: M, pool: &PgPool) {
    project_older(model, pool, &[]).await;
}

/// The rows of a read model, without places.
async fn rows(pool: &PgPool, read_model: &str) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select schemaname || '.' || tablename from pg_tables where schemaname = $1 \
         and tablename not in ('checkpoints', 'skipped_events') order by 1",
    )
    .bind(read_model)
    .fetch_all(pool)
    .await
    .unwrap();
    rows_of(pool, &tables.iter().map(String::as_str).collect::<Vec<_>>()).await
}

async fn rebuilt(pool: &PgPool, read_model: &str) -> Vec<String> {
    rebuild(read_model, pool, Engine::default(), |_| {}).await.unwrap();
    rows(pool, read_model).await
}

async fn retry(pool: &PgPool, read_model: &str, stream: &StreamId) -> Unparked {
    unpark(read_model, pool, stream, Cure::Retry, Engine::default()).await.unwrap()
}

/// Positions of events of a type in a stream.
async fn positions(pool: &PgPool, stream: &StreamId, event_type: &str) -> Vec<Position> {
    let sql = "select position from events where stream_id = $1 and event_type = $2 order by position";
    let found: Vec<i64> =
        sqlx::query_scalar(sql).bind(stream.as_str()).bind(event_type).fetch_all(pool).await.unwrap();
    found.into_iter().map(Position).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_caught_up_exactly_while_its_projector_runs_and_the_log_grows() {
    let database = environment::database().await;
    let pool = &database.pool;
    let mut history = History::new(database.options());
    let ids = history.of_everything(6, 400);
    history.commit().await;
    let stream = ids[1].stream();
    let bad = positions(pool, &stream, "AssetBought").await[1];
    project_older(Holdings::default(), pool, &[bad]).await;
    let parked = list_parked(pool, "holdings").await.unwrap();
    assert_eq!((parked.len(), &parked[0].stream_id, parked[0].position), (1, &stream, bad));

    // The new program runs, and the stream stays where it is until somebody says otherwise.
    let running = Running::start(Holdings::default(), pool);
    let writing = tokio::spawn(async move {
        for n in 0..60 {
            for id in &ids {
                history.deposit(*id, "1", "USD", 1 + n % 28);
            }
            history.commit().await;
        }
        history
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let unparked = retry(pool, "holdings", &stream).await;
    assert!(matches!(unparked, Unparked::CaughtUp { events } if events > 10), "{unparked:?}");
    assert_eq!(list_parked(pool, "holdings").await.unwrap(), []);
    writing.await.unwrap();
    reached(pool, "holdings", read::head(pool).await.unwrap()).await;
    running.stop().await;
    let live = rows(pool, "holdings").await;
    assert_eq!(live, rebuilt(pool, "holdings").await);
    assert!(live.len() > 400);
}

async fn catch_up(pool: &PgPool, read_model: &str, stream: &StreamId) {
    let before = rows(pool, read_model).await;
    let unparked = retry(pool, read_model, stream).await;
    assert!(matches!(unparked, Unparked::CaughtUp { events } if events > 3), "{read_model}: {unparked:?}");
    assert_ne!(rows(pool, read_model).await, before, "{read_model}");
}

/// A history in which every read model has a stream that an older program could not go on with.
async fn with_parked<M: ReadModel>(model: M, database: &TestDatabase, stream: &StreamId, event_type: &str) {
    let bad = positions(&database.pool, stream, event_type).await[1];
    project_older(model, &database.pool, &[bad]).await;
    let parked = list_parked(&database.pool, M::NAME).await.unwrap();
    assert_eq!(parked.iter().map(|it| it.position).collect::<Vec<_>>(), [bad], "{}", M::NAME);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_read_model_catches_up_to_what_a_rebuild_would_make() {
    let database = environment::database().await;
    let pool = &database.pool;
    let mut history = History::new(database.options());
    let ids = history.of_everything(4, 300);
    let job = history.job("nightly", 6);
    history.commit().await;
    let stream = ids[0].stream();
    with_parked(Jobs::default(), &database, &job, "JobChanged").await;
    with_parked(Directory::default(), &database, &stream, "AssetBought").await;
    with_parked(Activity::default(), &database, &stream, "AssetBought").await;
    with_parked(Holdings::default(), &database, &stream, "AssetBought").await;
    let price_stream = read::after(pool, Position(0), 10_000).await.unwrap().events;
    let price_stream = price_stream.into_iter().rev().find(|event| &*event.event_type == "ClosesObserved");
    let price_stream = price_stream.unwrap().stream_id;
    with_parked(Prices::default(), &database, &price_stream, "ClosesObserved").await;
    // Before those who hold prices in memory: they are restarted after this.
    catch_up(pool, "prices", &price_stream).await;
    catch_up(pool, "jobs", &job).await;
    let valuations = Valuations::open(&source(pool), pool).await.unwrap();
    with_parked(valuations, &database, &stream, "AssetBought").await;
    let risk = Risk::open(&source(pool), pool, Engine::default()).await.unwrap();
    with_parked(risk, &database, &stream, "AssetBought").await;

    // What is made from another read model waits for that one.
    let refused = unpark("valuations", pool, &stream, Cure::Retry, Engine::default()).await.unwrap_err();
    assert!(matches!(refused, Error::ParkedBelow { .. }), "{refused}");
    for name in ["directory", "activity", "holdings", "valuations", "risk"] {
        catch_up(pool, name, &stream).await;
    }
    for name in ["directory", "activity", "prices", "holdings", "valuations", "risk", "jobs"] {
        let caught_up = rows(pool, name).await;
        assert_eq!(caught_up, rebuilt(pool, name).await, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_from_holdings_follows_when_holdings_has_caught_up() {
    let database = environment::database().await;
    let pool = &database.pool;
    let mut history = History::new(database.options());
    let ids = history.of_everything(3, 200);
    history.commit().await;
    let stream = ids[1].stream();
    let bad = positions(pool, &stream, "AssetBought").await[0];
    project(Prices::default(), pool).await;
    project_older(Holdings::default(), pool, &[bad]).await;
    // These run on, and hold the portfolio in memory as holdings had it.
    let head = read::head(pool).await.unwrap();
    let valuations = Running::start(Valuations::open(&source(pool), pool).await.unwrap(), pool);
    let risk = Running::start(Risk::open(&source(pool), pool, Engine::default()).await.unwrap(), pool);
    reached(pool, "valuations", head).await;
    reached(pool, "risk", head).await;
    assert!(matches!(retry(pool, "holdings", &stream).await, Unparked::CaughtUp { .. }));
    // Nothing else has happened, and yet their rows are those of the whole history.
    for name in ["valuations", "risk"] {
        let sql = format!(
            "select portfolio_position from {name}.{} where portfolio_id = $1",
            if name == "risk" { "portfolio_risks" } else { "valued_portfolios" }
        );
        let at: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).bind(ids[1].0).fetch_one(pool).await.unwrap();
        let last: i64 = sqlx::query_scalar("select max(position) from events where stream_id = $1")
            .bind(stream.as_str())
            .fetch_one(pool)
            .await
            .unwrap();
        assert_eq!(at, last, "{name}");
    }
    // And what they hold in memory does not come back with the next event.
    let running = Running::start(Holdings::default(), pool);
    history.deposit(ids[0], "5", "USD", 3);
    history.deposit(ids[1], "5", "USD", 3);
    let head = history.commit().await;
    for name in ["holdings", "valuations", "risk"] {
        if name != "holdings" {
            reached(pool, name, head).await;
        }
    }
    running.stop().await;
    valuations.stop().await;
    risk.stop().await;
    for name in ["valuations", "risk"] {
        assert_eq!(rows(pool, name).await, rebuilt(pool, name).await, "{name}");
    }
}

fn broken(day: u32) -> NewEvent {
    NewEvent {
        event_type: "CashDeposited",
        schema_version: 1,
        payload: r#"{"amount": 5}"#.into(),
        occurred_at: noon(day),
    }
}

fn insight(database: &TestDatabase, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_insight"));
    for name in ["KAFKA_BROKERS", "KAFKA_TOPIC_PREFIX", "DATA_DIR", "LISTEN_ADDRESS"] {
        command.env_remove(name);
    }
    command.env("LOG", "error").env("DATABASE_URL", database.url()).args(arguments).output().unwrap()
}

/// Exit code, and all that was said.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat();
    (output.status.code(), text)
}

async fn balance(pool: &PgPool, id: PortfolioId) -> String {
    let sql = "select trim_scale(balance)::text from holdings.cash where portfolio_id = $1";
    sqlx::query_scalar(sql).bind(id.0).fetch_one(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_stays_parked_until_it_is_skipped_and_a_rebuild_parks_it_again() {
    let database = environment::database().await;
    let pool = &database.pool;
    let mut history = History::new(database.options());
    let ada = history.investor("Ada");
    let bad = history.portfolio(ada, "Bad", "USD", CashMode::Tracked);
    history.deposit(bad, "5", "USD", 2);
    history.record_raw(bad.stream(), broken(2));
    history.deposit(bad, "7", "USD", 3);
    history.record_raw(bad.stream(), broken(4));
    history.deposit(bad, "11", "USD", 5);
    history.commit().await;
    project(Holdings::default(), pool).await;
    let stream = bad.stream().to_string();

    let (code, text) = said(&insight(&database, &["parked", "list"]));
    assert_eq!(code, Some(0));
    assert!(
        text.contains(&format!("holdings: {stream} is parked at 4")) && text.contains("payload"),
        "{text}"
    );
    let (code, text) = said(&insight(&database, &["parked", "retry", "holdings", &stream]));
    assert_eq!(code, Some(1));
    assert!(text.contains("is parked at 4"), "{text}");
    assert_eq!(balance(pool, bad).await, "5");

    // There is another one behind it.
    let skip = ["parked", "skip", "holdings", &stream, "--reason", "entered by hand, see ticket"];
    let (code, text) = said(&insight(&database, &skip));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("is parked at 6"), "{text}");
    assert_eq!(balance(pool, bad).await, "12");
    let (code, text) = said(&insight(&database, &skip));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("has caught up, 1 events were applied"), "{text}");
    assert_eq!(balance(pool, bad).await, "23");
    let skipped = list_skipped(pool, "holdings").await.unwrap();
    assert_eq!(skipped.iter().map(|it| it.position.0).collect::<Vec<_>>(), [4, 6]);
    assert!(skipped.iter().all(|it| it.reason == "entered by hand, see ticket" && !it.poison.is_empty()));
    let (code, text) = said(&insight(&database, &["parked", "list", "holdings"]));
    assert_eq!(code, Some(0));
    assert!(text.contains("nothing is parked") && text.contains("was skipped at 6"), "{text}");

    // The stream goes on as any other, and the decision is not lost on those who look.
    history.deposit(bad, "13", "USD", 6);
    history.commit().await;
    project(Holdings::default(), pool).await;
    assert_eq!(balance(pool, bad).await, "36");
    let report = insight::verify::verify(pool).await.unwrap().to_string();
    assert!(report.contains("skipped") && report.contains("entered by hand"), "{report}");

    rebuild("holdings", pool, Engine::default(), |_| {}).await.unwrap();
    assert_eq!(list_parked(pool, "holdings").await.unwrap()[0].position, Position(4));
    assert_eq!(list_skipped(pool, "holdings").await.unwrap(), []);
    let (code, text) = said(&insight(&database, &["parked", "retry", "holdings"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("is parked at 4"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_prices_can_be_done_without() {
    let database = environment::database().await;
    let pool = &database.pool;
    let mut history = History::new(database.options());
    let apple = history.asset("AAPL", AssetClass::Equity, "USD");
    history.close(apple, "100", "USD", 2);
    history.close(apple, "1", "USD", 3);
    history.close(apple, "104", "USD", 4);
    history.commit().await;
    let stream = apple.price_stream();
    project_older(Prices::default(), pool, &[Position(4)]).await;
    let closes = async || -> Vec<String> {
        let sql = "select trim_scale(price)::text from prices.closes order by day";
        sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
    };
    assert_eq!(closes().await, ["100"]);
    let skipped = unpark("prices", pool, &stream, Cure::Skip("a typing error"), Engine::default()).await;
    assert!(matches!(skipped.unwrap(), Unparked::CaughtUp { .. }));
    assert_eq!(closes().await, ["100", "104"]);
    history.close(apple, "105", "USD", 5);
    history.commit().await;
    project(Prices::default(), pool).await;
    assert_eq!(closes().await, ["100", "104", "105"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verb_says_what_is_wrong_with_what_it_was_told() {
    let database = environment::database().await;
    let retry = |stream: &'static str| said(&insight(&database, &["parked", "retry", "holdings", stream]));
    let (code, text) = retry("portfolio-nobody");
    assert_eq!(code, Some(1));
    assert!(text.contains("portfolio-nobody is not parked in holdings"), "{text}");
    assert_eq!(
        said(&insight(&database, &["parked", "retry", "holdings"])),
        (Some(0), "nothing is parked in holdings\n".into())
    );
    for arguments in [
        vec!["parked", "retry", "nosuch", "x"],
        vec!["parked", "skip", "holdings", "x"],
        vec!["parked", "skip", "holdings", "x", "--reason", ""],
        vec!["parked", "skip", "holdings"],
        vec!["parked"],
    ] {
        assert_eq!(insight(&database, &arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_newer_program_halts_and_says_which_program_is_needed() {
    let database = environment::database().await;
    let mut history = History::new(database.options());
    let ada = history.investor("Ada");
    let id = history.portfolio(ada, "Growth", "USD", CashMode::Tracked);
    let newer = NewEvent {
        event_type: "CashDeposited",
        schema_version: 7,
        payload: "{}".into(),
        occurred_at: noon(2),
    };
    history.record_raw(id.stream(), newer);
    history.commit().await;
    let pool = database.pool.clone();
    let run = projectors::run(Holdings::default(), source(&pool), pool, CancellationToken::new());
    let halted = tokio::time::timeout(Duration::from_secs(10), run).await.unwrap().unwrap_err().to_string();
    let program = format!("version {} of this program", env!("CARGO_PKG_VERSION"));
    for told in
        ["holdings halts at position 3", "CashDeposited of schema version 7", &program, "or a newer one"]
    {
        assert!(halted.contains(told), "{told}: {halted}");
    }
}
