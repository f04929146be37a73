//! A read model of another shape: two programs, both really built, on one database.
//!
//! The newer one is this source with another version of `holdings` in the list, a further column, and statements that name
//! the schema of that version. It shares what cargo has compiled for this run, so it costs one compilation of this crate.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use crate::environment;
use crate::processes::{Place, Process, answers, free_address, http};

const TABLES: [&str; 7] = ["ledgers", "entries", "holdings", "lots", "cash", "checkpoints", "parked_streams"];

/// Copies a folder, and lets `change` say what a file's text becomes.
fn copy(from: &Path, to: &Path, change: &dyn Fn(&Path, String) -> String) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target, change);
        } else if let Ok(text) = fs::read_to_string(&path) {
            fs::write(target, change(&path, text)).unwrap();
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// A statement as the newer program has it.
fn renamed(sql: &str) -> String {
    let rename = |sql: String, table: &&str| {
        let (old, new) = (format!("holdings.{table}"), format!("holdings_v2.{table}"));
        sql.replace(&old, &new)
    };
    TABLES.iter().fold(sql.to_owned(), rename)
}

fn is_sql(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "sql")
}

/// The newer program's source.
fn write_newer(to: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let same = |_: &Path, text: String| text;
    for folder in ["migrations", "kafka"] {
        copy(&root.join(folder), &to.join(folder), &same);
    }
    copy(&root.join("tests/data"), &to.join("tests/data"), &same);
    copy(&root.join("projections"), &to.join("projections"), &|path, text| {
        let column =
            "    facts bigint not null generated always as (version - 1) stored,\n    version bigint";
        match path.ends_with("holdings/schema.sql") {
            true => text.replacen("    version bigint", column, 1),
            false if is_sql(path) => renamed(&text),
            false => text,
        }
    });
    copy(&root.join("src"), &to.join("src"), &|path, text| match path.ends_with("projectors/schema.rs") {
        true => text.replacen("\"holdings\" 1", "\"holdings\" 2", 1),
        false => text,
    });
    // What the compiler was told of a statement holds for the renamed one.
    let known = to.join(".sqlx");
    fs::create_dir_all(&known).unwrap();
    for entry in fs::read_dir(root.join(".sqlx")).unwrap() {
        let mut told: Value =
            serde_json::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        let query = renamed(told["query"].as_str().unwrap());
        let digest = Sha256::digest(&query);
        let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        (told["query"], told["hash"]) = (json!(query), json!(hash));
        fs::write(known.join(format!("query-{hash}.json")), told.to_string()).unwrap();
    }
    // A test is built too: without one, dependencies would have other features and be compiled once more.
    fs::create_dir_all(to.join("tests")).unwrap();
    fs::copy(root.join("tests/architecture.rs"), to.join("tests/architecture.rs")).unwrap();
    fs::create_dir_all(to.join("benches/insight")).unwrap();
    fs::write(to.join("benches/insight/main.rs"), "fn main() {}").unwrap();
    for file in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(root.join(file), to.join(file)).unwrap();
    }
}

/// The folder in which cargo builds for this run: the one that the program under test is in.
fn built_here() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_insight")).parent().unwrap().to_owned()
}

/// Builds the newer program beside this one. The dependencies are the run's, by hard links.
fn build_newer(folder: &Path) -> PathBuf {
    let (source, target) = (folder.join("source"), folder.join("target"));
    write_newer(&source);
    let profile = built_here();
    let debug = target.join(profile.file_name().unwrap());
    fs::create_dir_all(&debug).unwrap();
    for part in ["deps", "build", ".fingerprint"] {
        let linked = Command::new("cp").arg("-al").arg(profile.join(part)).arg(&debug).status().unwrap();
        assert!(linked.success(), "the dependencies are linked");
    }
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_")) {
        cargo.env_remove(name);
    }
    let release = if profile.ends_with("release") { &["--release"][..] } else { &[] };
    let built = cargo
        .args(["build", "--quiet", "--locked", "--offline", "--bin", "insight", "--test", "architecture"])
        .args(release)
        .current_dir(&source)
        .env("CARGO_TARGET_DIR", &target)
        .env("SQLX_OFFLINE", "true")
        .env_remove("DATABASE_URL")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    debug.join("insight")
}

async fn post(address: SocketAddr, path: &str, body: Value) -> Value {
    let request = http().build().unwrap().post(format!("http://{address}{path}")).json(&body);
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let body: Value = answer.json().await.unwrap();
    assert!(status.is_success(), "{path}: {body}");
    body
}

async fn holdings(address: SocketAddr, id: &str, place: &Value) -> Value {
    let place = place.as_str().unwrap();
    let url = format!("http://{address}/v1/portfolios/{id}/holdings?min_position={place}&max_wait_ms=10000");
    let answer = reqwest::get(url).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200, "{}", answer.text().await.unwrap());
    let mut body: Value = answer.json().await.unwrap();
    body.as_object_mut().unwrap().remove("as_of");
    body
}

async fn buy(address: SocketAddr, id: &str, asset: &str, quantity: &str) -> Value {
    let trade = json!({"asset": asset, "quantity": quantity, "price": "12.5"});
    post(address, &format!("/v1/portfolios/{id}/buy"), trade).await["place"].clone()
}

async fn schemas(pool: &PgPool) -> Vec<String> {
    let sql = "select nspname::text from pg_namespace where nspname like 'holdings%' order by 1";
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_program_builds_its_shape_while_the_older_one_serves_its_own() {
    let (place, database) = (Place::new(), environment::database().await);
    let pool = &database.pool;
    let folder = tempfile::tempdir_in(built_here()).unwrap();
    let began = Instant::now();
    let path = folder.path().to_owned();
    let newer = tokio::task::spawn_blocking(move || build_newer(&path)).await.unwrap();
    println!("the newer program was built in {:?}", began.elapsed());

    let url = database.url();
    let environment = [("DATABASE_URL", url.as_str()), ("RISK_PATHS", "1024"), ("RISK_THREADS", "1")];
    let (address, newer_address) = (free_address(), free_address());
    let (listen, newer_listen) = (address.to_string(), newer_address.to_string());
    let mut older =
        Process::start(place.path(), "older", &["all", "--listen-address", &listen], &environment);
    answers(address).await;
    let investor =
        post(address, "/v1/investors", json!({"name": "Ada", "email": "ada@example.invalid"})).await;
    let listing = json!({"symbol": "AAPL", "name": "Apple", "class": "equity", "currency": "USD"});
    post(address, "/v1/assets", listing).await;
    let opening = json!({"investor_id": investor["id"], "name": "Growth", "base_currency": "USD"});
    let id = post(address, "/v1/portfolios", opening).await["id"].as_str().unwrap().to_owned();
    for _ in 0..20 {
        buy(address, &id, "AAPL", "2").await;
    }

    let arguments = ["rebuild", "holdings"];
    let rebuild = Process::start_program(&newer, place.path(), "rebuild", &arguments, &environment);
    assert!(rebuild.finish(), "the newer program builds its shape");
    assert_eq!(schemas(pool).await, ["holdings", "holdings_v2"]);
    // The older one noticed nothing, and the newer one goes on from what was built.
    let between = buy(address, &id, "AAPL", "3").await;
    let served = holdings(address, &id, &between).await;
    let arguments = ["all", "--listen-address", &newer_listen];
    let _newer = Process::start_program(&newer, place.path(), "newer", &arguments, &environment);
    answers(newer_address).await;
    assert_eq!(holdings(newer_address, &id, &between).await, served);

    // Both run, and both follow.
    let place_of_old = buy(address, &id, "AAPL", "5").await;
    let place_of_new = buy(newer_address, &id, "AAPL", "7").await;
    for place in [&place_of_old, &place_of_new] {
        assert_eq!(
            holdings(address, &id, place).await["version"],
            holdings(newer_address, &id, place).await["version"]
        );
    }
    let served = holdings(address, &id, &place_of_new).await;
    assert_eq!(holdings(newer_address, &id, &place_of_new).await, served);
    let (facts, version): (i64, i64) =
        sqlx::query_as("select facts, version from holdings_v2.ledgers").fetch_one(pool).await.unwrap();
    assert_eq!((facts, version), (23, 24), "the opening, twenty buys and three");

    // What the older one serves does not go, nor what it has served until now.
    let drop_old = |name: &str, arguments: &[&str]| {
        let arguments = [&["rebuild", "holdings", "--drop-old"][..], arguments].concat();
        let done = Process::start_program(&newer, place.path(), name, &arguments, &environment).finish();
        (done, fs::read_to_string(place.path().join(format!("{name}.log"))).unwrap())
    };
    let (done, said) = drop_old("served", &[]);
    assert!(
        !done && said.contains("holdings may still be served by an older program: a projector"),
        "{said}"
    );
    older.kill();
    // Its sessions end with it.
    let sessions = "select count(*) from pg_stat_activity where application_name = 'insight project holdings' \
        and datname = current_database()";
    while sqlx::query_scalar::<_, i64>(sessions).fetch_one(pool).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (done, said) = drop_old("just-served", &[]);
    assert!(!done && said.contains("stand at the head of the log"), "{said}");
    assert_eq!(schemas(pool).await, ["holdings", "holdings_v2"]);
    // The log has gone on without it: nobody serves that any more.
    let last = buy(newer_address, &id, "AAPL", "11").await;
    let after = holdings(newer_address, &id, &last).await;
    let (done, said) = drop_old("drop", &[]);
    assert!(done && said.contains("holdings: dropped holdings"), "{said}");
    assert_eq!(schemas(pool).await, ["holdings_v2"]);
    // Whoever knows better may say so.
    let like_served =
        "create schema holdings; create table holdings.checkpoints as select * from holdings_v2.checkpoints";
    sqlx::raw_sql(like_served).execute(pool).await.unwrap();
    assert!(!drop_old("like-served", &[]).0);
    assert!(drop_old("forced", &["--force"]).0);
    assert_eq!(schemas(pool).await, ["holdings_v2"]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(holdings(newer_address, &id, &last).await, after);
}
