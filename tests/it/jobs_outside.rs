//! Jobs from the command line and from a file: the same jobs, the same refusals, and a file that can be read again and again.

use std::process::{Command, Output};

use insight::domain::ids::JobId;
use insight::reactors::jobs_file::{self, Declared};
use serde_json::json;

use crate::environment;
use crate::jobs::Office;
use crate::ledger::Ledger;

struct Terminal {
    url: String,
}

impl Terminal {
    fn insight(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_insight"));
        for name in ["KAFKA_BROKERS", "KAFKA_TOPIC_PREFIX", "DATA_DIR", "LISTEN_ADDRESS", "JOBS_FILE"] {
            command.env_remove(name);
        }
        command.env("DATABASE_URL", &self.url).args(["jobs"]).args(arguments).output().unwrap()
    }

    /// What it prints.
    fn does(&self, arguments: &[&str]) -> String {
        let output = self.insight(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The exit code, and the last line of what it complains about.
    fn refuses(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.insight(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said.trim().lines().last().unwrap_or_default().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_lives_on_the_command_line() {
    let office = Office::open().await;
    let terminal = Terminal { url: office.database.url() };
    assert_eq!(terminal.does(&["list"]), "no job is defined\n");
    let define = [
        "define",
        "nightly",
        "--kind",
        "verify",
        "--crontab",
        "30 2 * * *",
        "--time-zone",
        "Europe/Berlin",
        "--attempts",
        "1",
    ];
    assert_eq!(terminal.does(&define), "nightly is defined\n");
    assert_eq!(terminal.does(&define), "nightly is so already\n");
    let listed = terminal.does(&["list"]);
    let row: Vec<&str> = listed.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(row[..8], ["nightly", "verify", "30", "2", "*", "*", "*", "(Europe/Berlin)"], "{listed}");
    assert_eq!(terminal.does(&["change", "nightly", "--time-zone", "UTC"]), "nightly is changed\n");
    let id = JobId::named("nightly").to_string();
    let shown = terminal.does(&["show", &id]);
    assert!(shown.contains("30 2 * * * (UTC)\n") && shown.contains("02:30:00Z"), "{shown}");
    assert!(shown.contains("1, the second after 60 s"), "what was not told stays: {shown}");

    let asked = terminal.does(&["run", "nightly"]);
    let run = asked.split_whitespace().nth(1).unwrap();
    assert_eq!(terminal.refuses(&["run", "nightly"]).0, Some(1));
    let runs = terminal.does(&["runs", "nightly"]);
    assert!(runs.contains(run) && runs.contains("scheduled"), "{runs}");
    assert_eq!(terminal.does(&["cancel", "nightly"]), "1 run of nightly cancelled\n");
    let (code, said) = terminal.refuses(&["cancel", "nightly", run]);
    assert_eq!((code, said.as_str()), (Some(1), "insight: this run was cancelled"));
    assert!(terminal.does(&["runs", "nightly", "--state", "cancelled"]).contains(run));

    // What failed for good makes the exit code tell, until it is tried again.
    assert_eq!(terminal.does(&["failed"]), "nothing has failed for good\n");
    let run = terminal.does(&["run", "nightly"]).split_whitespace().nth(1).unwrap().to_owned();
    office.fail("nightly", run.parse().unwrap()).await;
    let failed = terminal.insight(&["failed"]);
    let told = String::from_utf8(failed.stdout).unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(told.contains(&run) && told.contains("the disk is full"), "{told}");
    assert!(terminal.does(&["retry", "nightly", &run]).ends_with("of nightly tries it again\n"));
    assert_eq!(terminal.does(&["failed"]), "nothing has failed for good\n");
    assert_eq!(
        terminal.refuses(&["retry", "nightly", &run]).1,
        "insight: this run was tried again already, or its job was removed since"
    );

    assert_eq!(terminal.does(&["remove", "nightly"]), "nightly is removed\n");
    assert_eq!(terminal.does(&["list"]), "no job is defined\n");
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_the_command_line_is_one_line() {
    let office = Office::open().await;
    let terminal = Terminal { url: office.database.url() };
    terminal.does(&["define", "quotes", "--kind", "fetch-quotes", "--every", "60"]);
    for (arguments, code, part) in [
        (
            vec!["define", "a", "--kind", "verify", "--crontab", "0 0 31 2 *"],
            1,
            "schedule.crontab never comes",
        ),
        (
            vec!["define", "a", "--kind", "verify", "--crontab", "x", "--time-zone", "Mars"],
            1,
            "schedule.time_zone is not",
        ),
        (vec!["define", "a", "--kind", "verify", "--every", "0"], 1, "schedule.interval_seconds must be"),
        (vec!["define", "a", "--kind", "verify"], 1, "schedule must have"),
        (vec!["define", "a", "--every", "60"], 1, "kind is missing"),
        (vec!["define", "A b", "--kind", "verify", "--every", "60"], 1, "name must be"),
        (vec!["define", "quotes", "--kind", "verify", "--every", "60"], 1, "the name quotes is taken"),
        (vec!["change", "quotes", "--attempts", "0"], 1, "attempts_max must be"),
        (vec!["change", "quotes", "--time-zone", "UTC"], 1, "schedule must have"),
        (vec!["change", "none", "--attempts", "1"], 1, "there is no such job"),
        (vec!["show", "none"], 1, "there is no such job"),
        (vec!["runs", "none"], 1, "there is no such job"),
        (vec!["cancel", "quotes"], 1, "no run of this job is open"),
        (vec!["retry", "quotes", "0192f0c1-2345-7abc-8def-001122334455"], 1, "there is no such run"),
    ] {
        let (found, said) = terminal.refuses(&arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {said}");
        assert!(said.starts_with("insight: ") && said.contains(part), "{arguments:?}: {said}");
    }
    for arguments in [
        vec!["define", "a", "--kind", "dance", "--every", "60"],
        vec!["define", "a", "--kind", "verify", "--every", "60", "--crontab", "* * * * *"],
        vec!["runs", "quotes", "--limit", "0"],
        vec!["runs", "quotes", "--state", "done"],
        vec!["retry", "quotes", "7"],
    ] {
        assert_eq!(terminal.refuses(&arguments).0, Some(2), "{arguments:?}");
    }
    office.close().await;
}

const FILE: &str = r#"
[[jobs]]
name = "nightly-risk"
kind = "recompute-risk"
schedule = { crontab = "30 2 * * *", time_zone = "Europe/Berlin" }

[[jobs]]
name = "quotes"
kind = "fetch-quotes"
schedule = { interval_seconds = 900 }
"#;

fn declared(defined: &[&str], changed: &[&str], left: &[&str]) -> Declared {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Declared { defined: names(defined), changed: names(changed), left: names(left) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_made_so_and_reading_it_again_changes_nothing() {
    let office = Office::open().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.toml");
    let declare = async |text: &str| {
        std::fs::write(&path, text).unwrap();
        let jobs = jobs_file::read(&path).unwrap();
        let done = jobs_file::declare(&office.ledger.commands, &office.database.pool, &jobs).await.unwrap();
        // Its rows are what the next reading asks who declared what.
        office.get("/v1/jobs").await;
        done
    };
    assert_eq!(declare(FILE).await, declared(&["nightly-risk", "quotes"], &[], &[]));
    let head = office.service.head().await;
    assert_eq!(declare(FILE).await, Declared::default());
    assert_eq!(office.service.head().await, head);
    assert_eq!(office.get("/v1/jobs/quotes").await.body["defined_by"], "jobs-file");

    // What somebody has defined by hand is not the file's.
    let by_hand = json!({"name": "by-hand", "kind": "backup", "schedule": {"interval_seconds": 3_600}});
    assert_eq!(office.post("/v1/jobs", by_hand).await.status, 201);
    let changed = FILE.replace("900", "600");
    assert_eq!(declare(&changed).await, declared(&[], &["quotes"], &[]));
    let quotes = &changed[changed.rfind("[[jobs]]").unwrap()..];
    assert_eq!(declare(quotes).await, declared(&[], &[], &["nightly-risk"]));
    assert_eq!(office.items("/v1/jobs").await.len(), 3, "what has left the file is still there");
    office.ask("/v1/jobs/nightly-risk/remove").await;
    office.get("/v1/jobs").await;
    assert_eq!(declare(quotes).await, Declared::default());
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_names_itself_the_job_and_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.toml");
    let missing = jobs_file::read(&path).unwrap_err().to_string();
    assert!(missing.contains("jobs.toml"), "{missing}");
    std::fs::write(&path, FILE.replace("900", "0").replace("Europe/Berlin", "Mars")).unwrap();
    let wrong = jobs_file::read(&path).unwrap_err().to_string();
    for part in [
        "jobs.toml: job \"nightly-risk\": schedule.time_zone: is not an IANA time zone",
        "jobs.toml: job \"quotes\": schedule.interval_seconds: must be 1 to",
    ] {
        assert!(wrong.contains(part), "{wrong}");
    }
    std::fs::write(&path, vec![0xff; 10]).unwrap();
    assert!(jobs_file::read(&path).unwrap_err().to_string().contains("jobs.toml"));
    std::fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
    assert!(jobs_file::read(&path).unwrap_err().to_string().contains("is larger than"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_declare_the_same_file_at_once_define_each_job_once() {
    let database = environment::database().await;
    let (one, other) = (Ledger::start(&database), Ledger::start(&database));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.toml");
    std::fs::write(&path, FILE).unwrap();
    let jobs = jobs_file::read(&path).unwrap();
    insight::projectors::schema::apply_all(&database.pool).await.unwrap();
    let (first, second) = tokio::join!(
        jobs_file::declare(&one.commands, &database.pool, &jobs),
        jobs_file::declare(&other.commands, &database.pool, &jobs),
    );
    let defined = [first.unwrap().defined, second.unwrap().defined].concat();
    assert_eq!(defined.len(), 2, "{defined:?}");
    let events: i64 = sqlx::query_scalar("select count(*) from events where stream_id like 'job-%'")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert_eq!(events, 2);
}
