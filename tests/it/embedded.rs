//! The private PostgreSQL server of the embedded form, on the installed programs.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use insight::postgres::{EmbeddedError, EmbeddedPostgres, Session, connect};
use sqlx::PgPool;
use tempfile::TempDir;

/// A place for data folders that the server's user can enter, also when the test is run by root.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    place
}

async fn pool(server: &EmbeddedPostgres) -> PgPool {
    connect(server.options(), &Session::of("test")).await.unwrap()
}

fn postmaster(folder: &Path) -> Option<u32> {
    let text = fs::read_to_string(folder.join("postgres/data/postmaster.pid")).ok()?;
    text.lines().next()?.trim().parse().ok()
}

fn kill(process: u32) {
    assert!(Command::new("kill").args(["-9", &process.to_string()]).status().unwrap().success());
}

fn is_running(process: u32) -> bool {
    // A zombie, where nobody collects orphans, has no memory left.
    fs::read_to_string(format!("/proc/{process}/statm")).is_ok_and(|text| !text.starts_with("0 "))
}

#[tokio::test]
async fn rows_outlive_a_stop_and_the_server_does_not() {
    let place = place();
    let folder = place.path().join("data with 'quotes'");

    let server = EmbeddedPostgres::start(&folder).await.unwrap();
    let database = pool(&server).await;
    sqlx::query("create table facts as select 1 as fact").execute(&database).await.unwrap();
    let process = postmaster(&folder.canonicalize().unwrap()).unwrap();
    database.close().await;
    server.stop().await.unwrap();
    assert!(!is_running(process));

    let server = EmbeddedPostgres::start(&folder).await.unwrap();
    let facts: i64 =
        sqlx::query_scalar("select count(*) from facts").fetch_one(&pool(&server).await).await.unwrap();
    assert_eq!(facts, 1);
    let process = postmaster(&folder).unwrap();
    drop(server);
    assert!(!is_running(process), "a drop stops it as well, although a pool is still open");
}

#[tokio::test]
async fn it_listens_on_no_port_and_for_nobody_else() {
    let place = place();
    let folder = place.path().join("data");
    let server = EmbeddedPostgres::start(&folder).await.unwrap();
    let settings: (String, String, String) = sqlx::query_as(
        "select current_setting('listen_addresses'), current_setting('fsync'), current_setting('synchronous_commit')",
    )
    .fetch_one(&pool(&server).await)
    .await
    .unwrap();
    assert_eq!(settings, (String::new(), "on".to_owned(), "on".to_owned()));
    for private in ["postgres", "postgres/run", "postgres/data"] {
        let mode = fs::metadata(folder.join(private)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{private}");
    }
}

#[tokio::test]
async fn a_second_process_is_refused_while_the_first_goes_on() {
    let place = place();
    let folder = place.path().join("data");
    let server = EmbeddedPostgres::start(&folder).await.unwrap();
    let refusal = EmbeddedPostgres::start(&folder).await.unwrap_err().to_string();
    assert!(refusal.contains(&format!("is in use by process {}", std::process::id())), "{refusal}");
    sqlx::query("select 1").execute(&pool(&server).await).await.unwrap();
}

#[tokio::test]
async fn a_newer_data_folder_is_refused_and_left_alone() {
    let place = place();
    let folder = place.path().join("data");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("format"), "portfolio insight data folder, format 99\n").unwrap();
    let refusal = EmbeddedPostgres::start(&folder).await.unwrap_err();
    assert!(matches!(refusal, EmbeddedError::Folder(_)));
    assert!(refusal.to_string().contains("has format 99"), "{refusal}");
    assert!(!folder.join("postgres").exists());
}

#[tokio::test]
async fn an_interrupted_initdb_is_done_again() {
    let place = place();
    let folder = place.path().join("data");
    EmbeddedPostgres::start(&folder).await.unwrap().stop().await.unwrap();
    let server_folder = folder.join("postgres");
    fs::rename(server_folder.join("data"), server_folder.join("data.new")).unwrap();
    fs::remove_file(server_folder.join("data.new/PG_VERSION")).unwrap();
    EmbeddedPostgres::start(&folder).await.unwrap().stop().await.unwrap();
    assert!(!server_folder.join("data.new").exists());
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_one_elsewhere() {
    let place = place();
    let folder = place.path().join("a".repeat(90));
    let server = EmbeddedPostgres::start(&folder).await.unwrap();
    let socket: PathBuf = server.options().get_socket().unwrap().clone();
    assert!(!socket.starts_with(&folder));
    sqlx::query("select 1").execute(&pool(&server).await).await.unwrap();
    server.stop().await.unwrap();
    assert!(!socket.exists(), "nothing is left in the temporary folder");
}

#[tokio::test]
async fn a_killed_postmaster_is_started_again() {
    let place = place();
    let folder = place.path().join("data");
    let server = EmbeddedPostgres::start(&folder).await.unwrap();
    let database = pool(&server).await;
    sqlx::query("create table facts as select 1 as fact").execute(&database).await.unwrap();
    // A backend that is busy for a while keeps the shared memory attached after its postmaster is gone.
    let busy = tokio::spawn(async move { sqlx::query("select pg_sleep(60)").execute(&database).await });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    kill(postmaster(&folder).unwrap());
    assert!(busy.await.unwrap().is_err());
    drop(server);

    let server = EmbeddedPostgres::start(&folder).await.unwrap();
    let facts: i64 =
        sqlx::query_scalar("select count(*) from facts").fetch_one(&pool(&server).await).await.unwrap();
    assert_eq!(facts, 1);
}

#[tokio::test]
async fn a_lock_file_with_the_number_of_another_process_does_not_stand_in_the_way() {
    let place = place();
    let folder = place.path().join("data");
    EmbeddedPostgres::start(&folder).await.unwrap().stop().await.unwrap();
    // Some other process that the server's user can see: what a reused number looks like after a crash of the machine.
    let mut other = sleeper(&folder);
    let lock = folder.join("postgres/data/postmaster.pid");
    fs::write(&lock, format!("{}\n{}\n1\n5432\n", other.id(), folder.display())).unwrap();
    EmbeddedPostgres::start(&folder).await.unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
}

/// A process of the user who runs the server.
fn sleeper(folder: &Path) -> std::process::Child {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::process::CommandExt;
    let owner = fs::metadata(folder.join("postgres")).unwrap();
    let mut sleep = Command::new("sleep");
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        sleep.uid(owner.uid()).gid(owner.gid());
    }
    sleep.arg("60").current_dir("/").spawn().unwrap()
}

/// The test runs itself once more as the process to be killed.
#[tokio::test]
async fn after_a_kill_nine_the_next_start_takes_over() {
    const FOLDER: &str = "INSIGHT_TEST_FOLDER_TO_HOLD";
    if let Some(folder) = env::var_os(FOLDER) {
        let server = EmbeddedPostgres::start(&folder).await.unwrap();
        let database = pool(&server).await;
        sqlx::query("create table facts as select 1 as fact").execute(&database).await.unwrap();
        println!("\nready");
        std::future::pending::<()>().await;
    }

    let place = place();
    let folder = place.path().join("data");
    let mut holder = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "embedded::after_a_kill_nine_the_next_start_takes_over"])
        .env(FOLDER, &folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"), "the other process started a server");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let left_over = postmaster(&folder).unwrap();
    assert!(is_running(left_over));

    let server = EmbeddedPostgres::start(&folder).await.unwrap();
    let facts: i64 =
        sqlx::query_scalar("select count(*) from facts").fetch_one(&pool(&server).await).await.unwrap();
    assert_eq!(facts, 1);
    assert!(!is_running(left_over));
}
