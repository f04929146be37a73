//! The program as processes: started, killed with `kill -9`, started again; gone with the test, whatever happens to it.

use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;

/// How long a start may take, with the recovery of a database behind it.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A process of the program that can be started again.
pub struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
    /// How long the log was when it was started last.
    said_before: u64,
    child: Option<Child>,
}

impl Process {
    /// Starts `insight` with these arguments; what it says goes to a file in `folder`.
    pub fn start(
        folder: &Path,
        name: &str,
        arguments: &[&str],
        environment: &[(&'static str, &str)],
    ) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_insight"));
        Self::start_program(program, folder, name, arguments, environment)
    }

    /// The same with another build of the program.
    pub fn start_program(
        program: &Path,
        folder: &Path,
        name: &str,
        arguments: &[&str],
        environment: &[(&'static str, &str)],
    ) -> Self {
        let mut process = Self {
            program: program.to_owned(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment: environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            log: folder.join(format!("{name}.log")),
            said_before: 0,
            child: None,
        };
        process.start_again();
        process
    }

    /// Starts it once more, after it was killed.
    pub fn start_again(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        self.said_before = log.metadata().unwrap().len();
        let mut command = Command::new(&self.program);
        // Only what the test says: the run's own servers are not meant for every process.
        for name in [
            "DATABASE_URL",
            "KAFKA_BROKERS",
            "KAFKA_TOPIC_PREFIX",
            "DATA_DIR",
            "LISTEN_ADDRESS",
            "METRICS_ADDRESS",
        ] {
            command.env_remove(name);
        }
        let child = command
            .current_dir(self.log.parent().expect("a log is in a folder"))
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// `kill -9`, and waits until it is gone. It must have been running: nothing but us may end it.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it was started");
        if let Some(ended) = child.try_wait().unwrap() {
            panic!("`insight {}` ended by itself, {ended}:\n{}", self.arguments.join(" "), self.last_words());
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// `kill -STOP`: it is there and does nothing, and knows nothing of that afterwards.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// `kill -TERM`: what a service manager sends.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Whether it has ended, and how; told once.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let ended = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(ended)
    }

    /// What it has said since it was started last.
    pub fn said_lately(&self) -> String {
        let said = fs::read(&self.log).unwrap_or_default();
        let before = usize::try_from(self.said_before).unwrap().min(said.len());
        String::from_utf8_lossy(&said[before..]).into_owned()
    }

    fn signal(&self, signal: &str) {
        let process = self.child.as_ref().expect("it was started").id().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
    }

    /// `SIGTERM`, and waits until it has ended as asked.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        let mut child = self.child.take().expect("it was started");
        let ended = child.wait().unwrap();
        assert!(ended.success(), "`insight {}`, {ended}:\n{}", self.arguments.join(" "), self.last_words());
    }

    /// Waits until it has ended by itself, as a failure, and returns its last line.
    pub fn halted(&mut self, within: Duration) -> String {
        let began = Instant::now();
        let mut child = self.child.take().expect("it was started");
        while child.try_wait().unwrap().is_none() {
            if began.elapsed() >= within {
                self.child = Some(child);
                panic!("`insight {}` goes on:\n{}", self.arguments.join(" "), self.last_words());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!child.wait().unwrap().success());
        self.last_words().lines().last().unwrap_or_default().to_owned()
    }

    /// Processor time that it has taken; the system counts hundredths of a second.
    pub fn cpu(&self) -> Duration {
        let process = self.child.as_ref().expect("it was started").id();
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        // Behind the name, which may hold anything, the twelfth and thirteenth number.
        let numbers = stat.rsplit_once(") ").unwrap().1.split_whitespace().skip(11).take(2);
        Duration::from_millis(numbers.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
    }

    /// Everything it said.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for its end and says whether it was a success.
    pub fn finish(mut self) -> bool {
        let mut child = self.child.take().expect("it was started");
        let success = child.wait().unwrap().success();
        if !success {
            eprintln!("{}", self.last_words());
        }
        success
    }

    /// The end of what it said.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.last_words());
        }
    }
}

/// A folder for one test: logs of processes, and a data folder whose PostgreSQL server goes with it.
pub struct Place(TempDir);

impl Place {
    /// One that the user of the private server can enter, also when the test is run by root.
    pub fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        Self(place)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// What `--data-dir` is told.
    pub fn data_folder(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// How to look into the private server while the program runs it.
    pub fn private_server(&self) -> PgConnectOptions {
        let socket = self.data_folder().join("postgres/run");
        PgConnectOptions::new_without_pgpass()
            .socket(socket)
            .port(5432)
            .username("insight")
            .database("insight")
    }
}

impl Drop for Place {
    /// A server outlives a killed program. The first line of its lock file is its number.
    fn drop(&mut self) {
        let lock = self.data_folder().join("postgres/data/postmaster.pid");
        let Ok(text) = fs::read_to_string(lock) else { return };
        let Some(server) = text.lines().next() else { return };
        let _ = Command::new("kill").args(["-QUIT", server]).status();
        let began = Instant::now();
        while Path::new("/proc").join(server).exists() && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// An address nobody listens at.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A client of the servers of this machine, which needs none of its certificates: to read them takes fifty milliseconds.
pub fn http() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().tls_certs_only([])
}

/// Waits until the API answers that it is alive.
pub async fn answers(address: SocketAddr) {
    let began = Instant::now();
    let http = http().build().unwrap();
    loop {
        let asked =
            http.get(format!("http://{address}/healthz")).timeout(Duration::from_secs(1)).send().await;
        if asked.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        assert!(began.elapsed() < READY_WITHIN, "nobody answers at {address}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
