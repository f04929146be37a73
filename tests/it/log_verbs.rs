//! `insight replay` and `insight log export|import`: what comes out is the log to the byte, and what goes in is all of it or
//! nothing.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};

use insight::domain::ids::Position;
use insight::domain::portfolio::event::CashMode;
use insight::event_store::read;
use insight::event_store::transfer;
use insight::events::{Envelope, NewEvent};
use insight::projectors::rebuild::rebuild;
use insight::projectors::risk::Engine;
use serde_json::Value;
use sqlx::PgPool;

use crate::environment::{self, TestDatabase};
use crate::ledger::Ledger;
use crate::projectors_history::{History, noon, rows_of};
use crate::random_history::RandomHistory;
use crate::read_models;

const LOG: &[&str] = &["events", "log_epochs", "investor_details"];

/// Prepares a run of the program on this database.
fn insight(database: &TestDatabase, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_insight"));
    for name in ["KAFKA_BROKERS", "KAFKA_TOPIC_PREFIX", "DATA_DIR", "LISTEN_ADDRESS"] {
        command.env_remove(name);
    }
    command.env("LOG", "error").env("DATABASE_URL", database.url()).args(arguments);
    command
}

fn run(database: &TestDatabase, arguments: &[&str]) -> Output {
    insight(database, arguments).output().unwrap()
}

/// The lines of a run that went well.
fn lines(database: &TestDatabase, arguments: &[&str]) -> Vec<Value> {
    let output = run(database, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What a run that failed said last: one line, and no more than one.
fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    said.trim_end().to_owned()
}

/// A bit of everything, and two epochs.
async fn history(database: &TestDatabase) -> Position {
    let mut history = History::new(database.options());
    history.of_everything(5, 300);
    odd_end(&mut history);
    let head = history.commit().await;
    sqlx::query("insert into log_epochs (epoch, first_position, reason) values (2, $1, 'a restore')")
        .bind(head.0 - 10)
        .execute(&database.pool)
        .await
        .unwrap();
    head
}

/// A payload and details that no encoder of ours would write.
fn odd_end(history: &mut History) {
    let ada = history.investor("Grace \\ \"quoted\"\tand\nbroken");
    let id = history.portfolio(ada, "Odd \\N \u{1f4b0} name", "USD", CashMode::Tracked);
    let odd = NewEvent {
        event_type: "CashDeposited",
        schema_version: 1,
        payload: " {\"amount\" : \"5.50\",\n\t\"currency\":\"USD\",\r\n \"trade_date\":\"2024-01-05\", \
                  \"note\":\"back\\\\slash \\n \\u00e9 \\t \u{1f4b0}\" } "
            .into(),
        occurred_at: noon(5),
    };
    history.record_raw(id.stream(), odd);
}

/// The same after a history that every check passes.
async fn clean_history(database: &TestDatabase) -> Position {
    let writing = Ledger::start(database);
    RandomHistory::start(&writing.commands, 7).await.go_on(&writing.commands, 300).await;
    let mut odd = History::new(database.options());
    odd_end(&mut odd);
    odd.commit().await
}

async fn log_of(pool: &PgPool) -> Vec<Envelope> {
    read::after(pool, Position(0), i64::MAX).await.unwrap().events
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_prints_what_was_asked_for_and_no_more() {
    let database = environment::database().await;
    let head = history(&database).await.0;
    let log = log_of(&database.pool).await;

    let all = lines(&database, &["replay"]);
    assert_eq!(all.len() as i64, head);
    for (line, event) in all.iter().zip(&log) {
        assert_eq!(line["position"], event.position.0);
        assert_eq!(line["event_id"], event.event_id.to_string());
        assert_eq!(line["epoch"], event.epoch.0);
        assert_eq!(line["data"], serde_json::from_str::<Value>(&event.payload).unwrap());
        assert_eq!(line["request_hash"], "0".repeat(64));
    }
    let stream = log[head as usize - 1].stream_id.to_string();
    let positions = |arguments: &[&str]| -> Vec<i64> {
        lines(&database, arguments).iter().map(|line| line["position"].as_i64().unwrap()).collect()
    };
    assert_eq!(positions(&["replay", "--from", "3", "--to", "5"]), [3, 4, 5]);
    assert_eq!(positions(&["replay", "--from", "1:7", "--to", "1:7"]), [7]);
    assert_eq!(positions(&["replay", "--from", &head.to_string()]), [head]);
    assert_eq!(positions(&["replay", "--stream", &stream]), [head - 1, head]);
    assert_eq!(positions(&["replay", "--stream", &stream, "--type", "CashDeposited"]), [head]);
    assert_eq!(positions(&["replay", "--stream", &stream, "--to", "3"]), Vec::<i64>::new());
    let sold: Vec<i64> =
        log.iter().filter(|event| &*event.event_type == "AssetSold").map(|event| event.position.0).collect();
    assert!(sold.len() > 10);
    assert_eq!(positions(&["replay", "--type", "AssetSold"]), sold);

    let last = lines(&database, &["replay", "--cloudevents", "--from", &format!("2:{head}")]);
    assert_eq!(last.len(), 1);
    assert_eq!(last[0]["specversion"], "1.0");
    assert_eq!(last[0]["id"], log[head as usize - 1].event_id.to_string());
    assert_eq!((&last[0]["position"], &last[0]["epoch"]), (&head.to_string().into(), &2.into()));
    assert_eq!(last[0]["data"]["note"], "back\\slash \n \u{e9} \t \u{1f4b0}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_says_what_is_wrong_and_ends_quietly_when_nobody_reads_on() {
    let database = environment::database().await;
    let head = history(&database).await.0;
    let beyond = (head + 1).to_string();
    let dead = format!("1:{head}");
    for (arguments, said) in [
        (vec!["--from", &beyond], format!("--from {beyond}: the log ends at position {head}")),
        (vec!["--to", &beyond], format!("--to {beyond}: the log ends at position {head}")),
        (vec!["--from", "5", "--to", "4"], "--to 4 stands before --from 5".to_owned()),
        (vec!["--type", "Nonsense"], "--type Nonsense: there is no such type".to_owned()),
        (vec!["--stream", "portfolio-nobody"], "there is no stream portfolio-nobody".to_owned()),
        (vec!["--from", &dead], format!("{dead} is a place of another history")),
        (vec!["--to", &dead], format!("{dead} is a place of another history")),
        (vec!["--from", "9:1"], "9:1 is a place of another history".to_owned()),
    ] {
        let output = run(&database, &[&["replay"], &*arguments].concat());
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(complaint(&output).contains(&said), "{arguments:?}: {output:?}");
    }
    for bad in ["-1", "0", "abc", "1:", ":1", "1:0", "99999999999999999999"] {
        let output = run(&database, &["replay", &format!("--from={bad}")]);
        assert_eq!(output.status.code(), Some(2), "{bad}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("must be a position from 1 on"), "{bad}");
    }

    // One that reads a line and goes away.
    let mut child =
        insight(&database, &["replay"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success() && said.is_empty(), "{said}");
    // One whose disk is full.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = insight(&database, &["replay"]).stdout(full).output().unwrap();
    assert!(complaint(&output).contains("No space left on device"));

    let empty = environment::database().await;
    assert!(lines(&empty, &["replay"]).is_empty());
    assert!(complaint(&run(&empty, &["replay", "--from", "1"])).contains("ends at position 0"));
}

async fn all_rows(pool: &PgPool) -> Vec<String> {
    for name in read_models::ALL {
        rebuild(name, pool, Engine::default(), |_| {}).await.unwrap();
    }
    let tables: Vec<String> = sqlx::query_scalar(
        "select schemaname || '.' || tablename from pg_tables where schemaname = any($1) \
         and tablename not in ('checkpoints') order by 1",
    )
    .bind(read_models::ALL.map(str::to_owned).to_vec())
    .fetch_all(pool)
    .await
    .unwrap();
    let tables: Vec<&str> = tables.iter().map(String::as_str).chain(LOG.iter().copied()).collect();
    rows_of(pool, &tables).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_moves_to_another_installation_to_the_byte() {
    let (origin, copy) = (environment::database().await, environment::database().await);
    let head = clean_history(&origin).await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("log.ndjson.gz");
    let file = file.to_str().unwrap();

    let output = run(&origin, &["log", "export", file, "--with-personal-data"]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("with personal data: name and e-mail of "),
        "{output:?}"
    );
    let output = run(&copy, &["log", "import", file]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains(&format!("imported {head} events")),
        "{output:?}"
    );

    let (ours, theirs) = (all_rows(&origin.pool).await, all_rows(&copy.pool).await);
    assert!(ours.len() > 1_000);
    assert_eq!(ours, theirs);
    let report = insight::verify::verify(&copy.pool).await.unwrap();
    assert!(report.is_clean(), "{report}");
    // The same log is the same file, and what was imported can be appended to.
    let out = |database| run(database, &["log", "export", "-", "--with-personal-data"]).stdout;
    assert_eq!(out(&origin), out(&copy));
    let refused = run(&copy, &["log", "import", file]);
    assert!(complaint(&refused).contains(&format!("the log is not empty, it ends at position {head}")));
    Ledger::start(&copy).portfolio_only(CashMode::Tracked).await;
    assert_eq!(read::head(&copy.pool).await.unwrap().0, head.0 + 2);
    let trigger = sqlx::query("delete from events").execute(&copy.pool).await.unwrap_err();
    assert!(trigger.to_string().contains("append-only"), "{trigger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn personal_data_stays_unless_it_is_asked_for() {
    let (origin, copy) = (environment::database().await, environment::database().await);
    clean_history(&origin).await;
    let exported = run(&origin, &["log", "export", "-"]);
    assert!(String::from_utf8_lossy(&exported.stderr).contains("without personal data"));
    assert!(!String::from_utf8_lossy(&exported.stdout).contains("@example.com"));
    let mut import = insight(&copy, &["log", "import", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    import.stdin.take().unwrap().write_all(&exported.stdout).unwrap();
    assert!(import.wait().unwrap().success());
    assert_eq!(log_of(&origin.pool).await, log_of(&copy.pool).await);
    assert!(rows_of(&copy.pool, &["investor_details"]).await.is_empty());
    for name in read_models::ALL {
        rebuild(name, &copy.pool, Engine::default(), |_| {}).await.unwrap();
    }
    let report = insight::verify::verify(&copy.pool).await.unwrap();
    assert!(report.is_clean(), "{report}");
}

/// Changes of an exported file that must be noticed, each with a word of what is said.
fn damages(good: &str) -> Vec<(&'static str, String, &'static str)> {
    let lines: Vec<&str> = good.lines().collect();
    let (last, middle) = (lines.len() - 1, lines.len() / 2);
    let text = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let with = |at: usize, line: &str| {
        let mut changed = lines.clone();
        changed[at] = line;
        text(&changed)
    };
    let without = |at: usize| text(&[&lines[..at], &lines[at + 1..]].concat());
    let mut reordered = lines.clone();
    reordered.swap(middle, middle + 1);
    let doubled = [&lines[..=middle], &lines[middle..]].concat();
    let payload = lines[middle].replacen("\"payload\":\"{", "\"payload\":\"{ ", 1);
    let stream = lines[middle].replacen("\"version\":", "\"version\":1", 1);
    // Cut out a run from the end and say so in header and footer: only the hash tells.
    let shorter = text(&[&lines[..last - 3], &lines[last..]].concat());
    let head = lines.len() as i64 - 4;
    let shorter = shorter
        .replacen(&format!("\"head\":{}", head + 2), &format!("\"head\":{}", head - 1), 1)
        .replacen(&format!("\"events\":{}", head + 2), &format!("\"events\":{}", head - 1), 1);
    vec![
        ("nothing", String::new(), "cut off"),
        ("nonsense", "nonsense\n".into(), "is no line of an exported log"),
        ("another format", with(0, &lines[0].replace("portfolio-insight-log", "x")), "no export of a log"),
        (
            "a newer format",
            with(0, &lines[0].replace("\"version\":1", "\"version\":2")),
            "version 2 of the format",
        ),
        ("no header", without(0), "begins with its header"),
        ("two headers", text(&[&lines[..1], &lines[..]].concat()), "second header"),
        ("no footer", without(last), "cut off"),
        ("half a line", good[..good.len() - 20].into(), "cut off"),
        ("a footer alone", text(&[lines[0], lines[last]]), "the events end at position 0"),
        ("a missing event", without(middle), "follows position"),
        ("a missing last event", without(last - 1), "the events end at position"),
        ("an altered payload", with(middle, &payload), "was altered"),
        ("an altered version", with(middle, &stream), "follows version"),
        ("two events reordered", text(&reordered), "follows position"),
        ("an event doubled", text(&doubled), "follows position"),
        ("the whole doubled", format!("{good}{good}"), "something follows the footer"),
        ("a shorter log that hangs together", shorter, "was altered"),
        (
            "another hash",
            with(last, &lines[last].replacen("\"sha256\":\"", "\"sha256\":\"0", 1)),
            "was altered",
        ),
        ("a line without an end", "x".repeat(5 << 20), "is too long"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_as_it_was_written_is_refused_and_nothing_of_it_is_taken() {
    let (origin, copy) = (environment::database().await, environment::database().await);
    history(&origin).await;
    let mut good = Vec::new();
    transfer::export(&origin.pool, false, &mut good, |_| {}).await.unwrap();
    let good = String::from_utf8(good).unwrap();
    for (what, damaged, said) in damages(&good) {
        assert_ne!(damaged, good, "{what}");
        let refused = transfer::import(&copy.pool, &mut damaged.as_bytes(), |_| {}).await.unwrap_err();
        assert!(refused.to_string().contains(said), "{what}: {refused}");
        assert!(refused.to_string().contains("nothing was imported"), "{what}: {refused}");
        assert!(log_of(&copy.pool).await.is_empty(), "{what}");
        assert_eq!(rows_of(&copy.pool, &["log_epochs"]).await.len(), 1, "{what}");
    }
    // What the program lets pass the table's constraints do not: the same command at two places.
    let lines: Vec<&str> = good.lines().collect();
    let command = |line: &str| line.split("\"command_id\":\"").nth(1).unwrap()[..36].to_owned();
    let doubled = good.replace(&command(lines[lines.len() - 2]), &command(lines[1]));
    let refused = transfer::import(&copy.pool, &mut doubled.as_bytes(), |_| {}).await.unwrap_err();
    assert!(refused.to_string().contains("events_command_ordinal"), "{refused}");
    assert!(log_of(&copy.pool).await.is_empty());
    // And after all that, the good one goes in.
    transfer::import(&copy.pool, &mut good.as_bytes(), |_| {}).await.unwrap();
    assert_eq!(log_of(&origin.pool).await, log_of(&copy.pool).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_are_named() {
    let database = environment::database().await;
    history(&database).await;
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();

    let nowhere = path("no/such/folder/log.ndjson");
    assert!(complaint(&run(&database, &["log", "export", &nowhere])).contains(&nowhere));
    assert!(complaint(&run(&database, &["log", "import", &nowhere])).contains(&nowhere));
    let there = path("there");
    fs::write(&there, "precious").unwrap();
    assert!(complaint(&run(&database, &["log", "export", &there])).contains("is there already"));
    assert_eq!(fs::read_to_string(&there).unwrap(), "precious");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = insight(&database, &["log", "export", "-"]).stdout(full).output().unwrap();
    assert!(complaint(&output).contains("No space left on device"), "{output:?}");

    let whole = path("whole.gz");
    assert!(run(&database, &["log", "export", &whole]).status.success());
    let bytes = fs::read(&whole).unwrap();
    let cut = path("cut.gz");
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let empty = environment::database().await;
    assert!(complaint(&run(&empty, &["log", "import", &cut])).contains("nothing was imported"));
    let plain = path("plain.gz");
    fs::write(&plain, "not compressed").unwrap();
    assert!(complaint(&run(&empty, &["log", "import", &plain])).contains("line 1 cannot be read"));
    assert!(log_of(&empty.pool).await.is_empty());
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left.len(), 4, "an export that failed leaves nothing behind: {left:?}");
}
