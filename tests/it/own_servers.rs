//! PostgreSQL and Kafka for one run alone, which may break them: real servers, started by the scripts that start them for
//! everybody, with `fsync` on.
//!
//! Killed and stopped means all of a server's processes. What runs in a [`Ground`] is gone with it, also when we are
//! killed ourselves: `scripts/sweep` waits for our end.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sqlx::postgres::PgConnectOptions;

/// A folder for servers and processes.
pub struct Ground {
    folder: PathBuf,
    sweep: Child,
}

impl Ground {
    /// One that the user of a server can enter, also when we are root.
    pub fn new() -> Self {
        let permissions = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().prefix("insight-").permissions(permissions).tempdir().unwrap();
        let folder = folder.keep().canonicalize().unwrap();
        let sweep = Command::new(script("sweep")).arg(&folder).stdin(Stdio::piped()).spawn().unwrap();
        Self { folder, sweep }
    }

    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// A folder in it.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        drop(self.sweep.stdin.take());
        let _ = self.sweep.wait();
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

/// Runs a script, and returns what it printed.
fn run(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(script(name)).args(arguments).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/{name} {}: {said}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs a program of PostgreSQL as the user who runs servers, to its end.
fn postgres_program(name: &str, arguments: &[&str]) {
    let found =
        Command::new("sh").args(["-c", "ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1"]).output();
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    let program = Path::new(found.trim()).join(name);
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = Command::new(if is_root { Path::new("setpriv") } else { &program });
    if is_root {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(&program);
    }
    let output = command.args(arguments).current_dir("/").output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Sends a signal to processes; those that are gone do not mind.
pub fn signal(name: &str, processes: &[u32]) {
    let processes = processes.iter().map(ToString::to_string);
    let _ = Command::new("kill").arg(name).args(processes).stderr(Stdio::null()).status();
}

/// A process and, below it, its children.
fn family(process: u32) -> Vec<u32> {
    let mut family = vec![process];
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The second field is the name in brackets, which may hold anything.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if parent == Some(process) {
            family.push(child);
        }
    }
    family
}

/// A PostgreSQL server.
#[derive(Debug, Clone)]
pub struct Postgres {
    folder: PathBuf,
    settings: Vec<String>,
}

impl Postgres {
    /// Starts one in this folder; settings are as in `postgresql.conf`.
    pub fn start(folder: PathBuf, settings: &[&str]) -> Self {
        let settings = settings.iter().map(ToString::to_string).collect();
        let postgres = Self { folder, settings };
        postgres.start_again();
        postgres
    }

    /// After a kill or a stop.
    pub fn start_again(&self) {
        let folder = self.folder.display().to_string();
        let settings = self.settings.iter().map(String::as_str);
        let arguments: Vec<&str> = ["start", &folder].into_iter().chain(settings).collect();
        run("postgres", &arguments);
    }

    /// In good order: sessions are ended, everything is written.
    pub fn stop(&self) {
        run("postgres", &["stop", &self.folder.display().to_string()]);
    }

    pub fn kill(&self) {
        let family = self.processes();
        signal("-STOP", &family[..1]);
        signal("-KILL", &self.processes());
    }

    /// Stands still, with all that it is doing.
    pub fn freeze(&self) {
        // The first one first, so that it has no more children.
        signal("-STOP", &self.processes()[..1]);
        signal("-STOP", &self.processes());
    }

    pub fn thaw(&self) {
        signal("-CONT", &self.processes());
    }

    /// Copies its files while it runs.
    pub fn back_up(&self) {
        let backup = self.folder.join("backup").display().to_string();
        let host = self.folder.display().to_string();
        postgres_program("pg_basebackup", &["-h", &host, "-U", "insight", "-D", &backup, "-c", "fast"]);
    }

    /// The server is lost at once, and the backup takes over at the same address, as a standby does that was behind: on a
    /// timeline of its own.
    pub fn fail_over(&self) {
        self.kill();
        fs::rename(self.folder.join("data"), self.folder.join("lost")).unwrap();
        fs::rename(self.folder.join("backup"), self.folder.join("data")).unwrap();
        fs::write(self.folder.join("data/standby.signal"), "").unwrap();
        self.start_again();
        let data = self.folder.join("data").display().to_string();
        postgres_program("pg_ctl", &["promote", "--wait", "--pgdata", &data]);
    }

    fn processes(&self) -> Vec<u32> {
        let lock = fs::read_to_string(self.folder.join(".s.PGSQL.5432.lock")).unwrap_or_default();
        let first = lock.lines().next().and_then(|line| line.trim().parse().ok());
        family(first.unwrap_or_else(|| panic!("no PostgreSQL runs in {}", self.folder.display())))
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(".s.PGSQL.5432")
    }

    /// How to connect to its database, straight.
    pub fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.folder)
            .port(5432)
            .username("insight")
            .database("insight")
    }

    /// Its address as `DATABASE_URL` takes it.
    pub fn url(&self) -> String {
        format!("postgres://insight@localhost/insight?host={}", self.folder.display())
    }

    /// Where it lives.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// As it was started with.
    pub fn settings(&self) -> &[String] {
        &self.settings
    }

    /// What it said.
    pub fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }
}

/// A Kafka broker.
#[derive(Debug, Clone)]
pub struct Kafka {
    folder: PathBuf,
    advertised: Option<SocketAddr>,
}

impl Kafka {
    /// Starts one in this folder that tells its clients to come by this address.
    pub fn start(folder: PathBuf, advertised: Option<SocketAddr>) -> Self {
        let kafka = Self { folder, advertised };
        kafka.start_again();
        kafka
    }

    pub fn start_again(&self) {
        let folder = self.folder.display().to_string();
        let advertised = self.advertised.map(|it| format!("advertised.listeners=PLAINTEXT://{it}"));
        let arguments: Vec<&str> = ["start", &folder].into_iter().chain(advertised.as_deref()).collect();
        run("kafka", &arguments);
    }

    /// In good order.
    pub fn stop(&self) {
        run("kafka", &["stop", &self.folder.display().to_string()]);
    }

    pub fn kill(&self) {
        signal("-KILL", &[self.process()]);
    }

    pub fn freeze(&self) {
        signal("-STOP", &[self.process()]);
    }

    pub fn thaw(&self) {
        signal("-CONT", &[self.process()]);
    }

    fn process(&self) -> u32 {
        let text = fs::read_to_string(self.folder.join("pid")).unwrap();
        text.trim().parse().unwrap()
    }

    /// Where it listens itself.
    pub fn listener(&self) -> SocketAddr {
        let properties = fs::read_to_string(self.folder.join("server.properties")).unwrap();
        let listeners = properties.lines().rev().find_map(|line| line.strip_prefix("listeners=PLAINTEXT://"));
        listeners.and_then(|it| it.split(',').next()?.parse().ok()).expect("the script says where it listens")
    }

    /// What it said.
    pub fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }
}
